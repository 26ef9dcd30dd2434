"""SimCLR (Chen et al. 2020): two views of an image attract, all others repel.

Encoder and projector see each view in a call of its own, so that batch statistics are
those of one view; the running ones move once a view.
"""

import chex
from flax import linen as nn

from ocssl_jax.core import Array, Batch, Key, Method, Model, Outputs, Params
from ocssl_jax.losses import nt_xent
from ocssl_jax.methods.network import network, per_view


def simclr(backbone: nn.Module, projector: nn.Module, *, temperature: float) -> Method:
    """SimCLR on `backbone` and `projector`; two views.

    Args:
      backbone: images [n h w c] to features [n f].
      projector: features [n f] to projections [n d].
      temperature: tau of the NT-Xent loss, above 0.

    Raises:
      ValueError: if the temperature is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    init, forward = network(backbone, projector)

    def loss(params: Params, model: Model, batch: Batch, key: Key) -> Outputs:
        del key
        chex.assert_axis_dimension(batch.views, 0, 2)
        e, z, model = per_view(forward, params, model, batch)
        rows = nt_xent(z[0], z[1], batch.mask, temperature=temperature)
        return Outputs(rows, e, z, model)

    def update(params: Params, model: Model) -> Model:
        del params
        return model

    def encode(params: Params, model: Model, images: Array) -> Array:
        return forward(params, model, images, train=False).e

    return Method(init, forward, loss, update, encode)
