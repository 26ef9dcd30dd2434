"""VICReg (Bardes et al. 2022): views agree, dimensions keep their spread, unrelated.

L = lambda mse(z1, z2) + mu [v(z1) + v(z2)] + nu [c(z1) + c(z2)]
v = mean over d of relu(1 - deviation);   c = sum of squared covariances / d
"""

from typing import Any

import chex
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax import losses
from ocssl_jax.core import Batch, Key, Method, Model, Outputs, Params
from ocssl_jax.heads import Projector
from ocssl_jax.methods.network import network, per_view


def vicreg(
    backbone: nn.Module,
    *,
    projection: int,
    projector: dict[str, Any],
    dtype: DTypeLike,
    invariance: float,
    variance: float,
    covariance: float,
) -> Method:
    """VICReg on `backbone`; two views.

    As a distance to a teacher it is the mean square alone, whose weight is that of the
    alignment: a teacher has spread already (CaSSLe, which weighs it by 25).

    Args:
      backbone: images [n h w c] to features [n f].
      projection: d, width of the projections.
      projector: settings of `heads.Projector`.
      dtype: of the heads' computation.
      invariance: the paper's lambda, 0 or more.
      variance: the paper's mu, 0 or more.
      covariance: the paper's nu, 0 or more.
    """
    init, forward = network(backbone, Projector(projection, False, dtype, **projector))

    def loss(
        params: Params, model: Model, batch: Batch, key: Key, *, train: bool = True
    ) -> Outputs:
        del key
        chex.assert_axis_dimension(batch.views, 0, 2)
        e, z, model = per_view(forward, params, model, batch, train=train)
        rows = losses.vicreg(
            z[0],
            z[1],
            batch.loss_mask,
            invariance=invariance,
            variance=variance,
            covariance=covariance,
        )
        return Outputs(rows, e, z, model)

    return Method(init, forward, loss, distill=losses.mean_square)
