"""SimSiam (Chen & He 2021): each view predicts the other's projection, held constant.

p = predictor(z);   L = -1/2 [mean cos(p1, sg z2) + mean cos(p2, sg z1)]

Nothing repels and no copy lags behind: predictor and stopped gradient prevent collapse.
"""

from typing import Any

import chex
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.core import Batch, Key, Method, Model, Outputs, Params
from ocssl_jax.heads import Predictor, Projector
from ocssl_jax.losses import negative_cosine, swapped
from ocssl_jax.methods.network import network, per_view, with_predictor


def simsiam(
    backbone: nn.Module,
    *,
    projection: int,
    projector: dict[str, Any],
    dtype: DTypeLike,
    prediction_hidden: int,
) -> Method:
    """SimSiam on `backbone`; two views.

    Args:
      backbone: images [n h w c] to features [n f].
      projection: d, width of the projections.
      projector: settings of `heads.Projector`.
      dtype: of the heads' computation.
      prediction_hidden: width of the predictor's hidden layer.
    """
    init, forward = network(backbone, Projector(projection, True, dtype, **projector))
    predictor = Predictor(prediction_hidden, projection, dtype)
    init, predict = with_predictor(init, predictor, projection)

    def loss(
        params: Params, model: Model, batch: Batch, key: Key, *, train: bool = True
    ) -> Outputs:
        del key
        chex.assert_axis_dimension(batch.views, 0, 2)
        e, z, model = per_view(forward, params, model, batch, train=train)
        p = predict(params, z, batch.loss_mask)
        rows = swapped(negative_cosine, p, z, batch.loss_mask) / 2
        return Outputs(rows, e, z, model)

    return Method(init, forward, loss, distill=negative_cosine)
