"""Methods on a network that grows, starting as they do on the network alone."""

import jax.numpy as jnp

from ocssl_jax.backbones.grown import Grown
from ocssl_jax.core import Array, Key, Method, Model, Params


def growing(network: Grown, start: Method, method: Method) -> Method:
    """`method`, on `network`, with the first weights of `start`, on its module alone.

    The linear map from features to projections has zeros for all blocks but the first,
    so that what was known stays as it was, and each new block says nothing at first.
    """

    def init(key: Key, image: Array) -> tuple[Params, Model]:
        params, model = start.init(key, image)
        linear = params["projector"]["linear1"]
        kernel = linear["kernel"]
        rest = jnp.zeros(((network.tasks - 1) * len(kernel), kernel.shape[1]))
        projector = {"linear1": {**linear, "kernel": jnp.vstack([kernel, rest])}}
        encoder = network.begun(params["encoder"], model["encoder"])
        return {**params, "projector": projector}, {**model, "encoder": encoder}

    return method._replace(init=init)
