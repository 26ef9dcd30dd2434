"""BYOL (Grill et al. 2020): each view predicts what a slow copy makes of the other.

p = predictor(z);   L = mean [2 - 2 cos(p1, t2)] + mean [2 - 2 cos(p2, t1)]
after each update:  momentum parameters <- m momentum parameters + (1 - m) parameters

The copy of encoder and projector lives in `model['momentum']`: its parameters, and BN
statistics that its own train-mode forwards move, view after view.
"""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.core import (
    Array,
    Batch,
    Key,
    Method,
    Model,
    Outputs,
    Params,
    Variables,
    own_encoder,
)
from ocssl_jax.heads import Predictor, Projector
from ocssl_jax.losses import normalized_square, swapped
from ocssl_jax.methods.network import network, per_view, with_predictor

COPIED = ("encoder", "projector")


def momentum_encoder(params: Params, model: Model) -> Variables:
    """The slow copy of the encoder, which the paper keeps at the end."""
    del params
    copy = model["momentum"]
    return own_encoder(copy["params"], copy["model"])


def byol(
    backbone: nn.Module,
    *,
    projection: int,
    projector: dict[str, Any],
    dtype: DTypeLike,
    prediction_hidden: int,
    momentum: float,
    probe_momentum_encoder: bool,
) -> Method:
    """BYOL on `backbone`; two views.

    Args:
      backbone: images [n h w c] to features [n f].
      projection: d, width of the projections.
      projector: settings of `heads.Projector`.
      dtype: of the heads' computation.
      prediction_hidden: width of the predictor's hidden layer.
      momentum: m, in [0, 1]; the paper's tau, here without its growth to 1, for a
        stream has no end that it could grow towards.
      probe_momentum_encoder: probe and save the slow encoder rather than the trained.
    """
    own_init, forward = network(
        backbone, Projector(projection, True, dtype, **projector)
    )
    predictor = Predictor(prediction_hidden, projection, dtype)
    predicting_init, predict = with_predictor(own_init, predictor, projection)

    def init(key: Key, image: Array) -> tuple[Params, Model]:
        params, model = predicting_init(key, image)
        start = {
            "params": {part: params[part] for part in COPIED},
            "model": {part: model[part] for part in COPIED},
        }
        # A true copy: the state is donated, and two leaves must not share one buffer.
        return params, model | {"momentum": jax.tree.map(jnp.copy, start)}

    def loss(
        params: Params, model: Model, batch: Batch, key: Key, *, train: bool = True
    ) -> Outputs:
        del key
        chex.assert_axis_dimension(batch.views, 0, 2)
        copy = model["momentum"]
        see = partial(per_view, forward, batch=batch, train=train)
        _, target, moved = see(copy["params"], copy["model"])
        e, z, model = see(params, model)
        p = predict(params, z, batch.loss_mask)
        rows = swapped(normalized_square, p, target, batch.loss_mask)
        return Outputs(rows, e, z, model | {"momentum": copy | {"model": moved}})

    def update(params: Params, model: Model) -> Model:
        copy = model["momentum"]
        online = {part: params[part] for part in COPIED}
        slow = optax.incremental_update(online, copy["params"], 1 - momentum)
        return model | {"momentum": copy | {"params": slow}}

    return Method(
        init,
        forward,
        loss,
        update=update,
        encoder=momentum_encoder if probe_momentum_encoder else own_encoder,
        distill=normalized_square,
    )
