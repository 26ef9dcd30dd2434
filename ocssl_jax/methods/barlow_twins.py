"""Barlow Twins (Zbontar et al. 2021): two views agree, their dimensions do not repeat.

C = correlation of z1 and z2 over the batch, [d d]
L = scale [sum_i (C_ii - 1)^2 + lambda sum_{i != j} C_ij^2]
"""

from functools import partial
from typing import Any

import chex
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax import losses
from ocssl_jax.core import Batch, Key, Method, Model, Outputs, Params
from ocssl_jax.heads import Projector
from ocssl_jax.methods.network import network, per_view


def barlow_twins(
    backbone: nn.Module,
    *,
    projection: int,
    projector: dict[str, Any],
    dtype: DTypeLike,
    off_diagonal: float,
    scale: float,
) -> Method:
    """Barlow Twins on `backbone`; two views.

    Args:
      backbone: images [n h w c] to features [n f].
      projection: d, width of the projections.
      projector: settings of `heads.Projector`.
      dtype: of the heads' computation.
      off_diagonal: the paper's lambda, 0 or more.
      scale: of the whole loss, above 0; the paper has none.
    """
    init, forward = network(backbone, Projector(projection, False, dtype, **projector))
    distance = partial(losses.barlow_twins, off_diagonal=off_diagonal, scale=scale)

    def loss(
        params: Params, model: Model, batch: Batch, key: Key, *, train: bool = True
    ) -> Outputs:
        del key
        chex.assert_axis_dimension(batch.views, 0, 2)
        e, z, model = per_view(forward, params, model, batch, train=train)
        return Outputs(distance(z[0], z[1], batch.loss_mask), e, z, model)

    return Method(init, forward, loss, distill=distance, whole=True)
