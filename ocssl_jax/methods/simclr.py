"""SimCLR (Chen et al. 2020): two views of an image attract, all others repel.

Encoder and projector see each view in a call of its own, so that batch statistics are
those of one view; the running ones move once a view.
"""

from functools import partial
from typing import Any

import chex
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.core import Batch, Key, Method, Model, Outputs, Params
from ocssl_jax.heads import Projector
from ocssl_jax.losses import nt_xent
from ocssl_jax.methods.network import network, per_view
from ocssl_jax.traced import holds


def simclr(
    backbone: nn.Module,
    *,
    projection: int,
    projector: dict[str, Any],
    dtype: DTypeLike,
    temperature: float,
) -> Method:
    """SimCLR on `backbone`; two views.

    Args:
      backbone: images [n h w c] to features [n f].
      projection: d, width of the projections.
      projector: settings of `heads.Projector`.
      dtype: of the heads' computation.
      temperature: tau of the NT-Xent loss, above 0.

    Raises:
      ValueError: if the temperature is not positive.
    """
    if not holds(temperature > 0):
        raise ValueError(f"temperature must be above 0, got {temperature}")
    init, forward = network(backbone, Projector(projection, True, dtype, **projector))

    def loss(
        params: Params, model: Model, batch: Batch, key: Key, *, train: bool = True
    ) -> Outputs:
        del key
        chex.assert_axis_dimension(batch.views, 0, 2)
        e, z, model = per_view(forward, params, model, batch, train=train)
        rows = nt_xent(z[0], z[1], batch.loss_mask, temperature=temperature)
        return Outputs(rows, e, z, model)

    return Method(
        init, forward, loss, distill=partial(nt_xent, temperature=temperature)
    )
