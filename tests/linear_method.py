"""A learner that compiles quickly: two matrix products, views that are noisy copies."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ocssl_jax import learning
from ocssl_jax.core import Batch, Features, Method, Outputs
from ocssl_jax.losses import nt_xent
from ocssl_jax.methods import METHODS
from ocssl_jax.methods.network import per_view


def linear(backbone: Any, *, projection: int, dtype: Any) -> Method:
    """Features e = x A as wide as the backbone's, projections z = e B."""
    del dtype

    def init(key, image):
        keys, f = jax.random.split(key), backbone.width
        a = jax.random.normal(keys[0], (image.size, f)) / image.size**0.5
        b = jax.random.normal(keys[1], (f, projection)) / f**0.5
        params = {"encoder": {"a": a}, "projector": {"b": b}}
        return params, {"encoder": {}, "projector": {}}

    def forward(params, model, images, *, train, mask=None, head_mask=None):
        del train, head_mask
        rows = images.reshape(images.shape[0], -1)
        e = rows @ params["encoder"]["a"]
        if mask is not None:
            e = jnp.where(mask[:, None], e, 0)
        return Features(e, e @ params["projector"]["b"], model)

    def loss(params, model, batch: Batch, key):
        """Views attract; so that they do not collapse, z keeps away from 0."""
        del key
        e, z, model = per_view(forward, params, model, batch)
        center = z.mean(axis=0, keepdims=True)
        spread = ((z - center) ** 2).mean(axis=(0, 2))
        away = jnp.exp(-(z**2).mean(axis=(0, 2)))
        return Outputs(spread + away, e, z, model)

    return Method(init, forward, loss, distill=partial(nt_xent, temperature=0.5))


def noisy(*args: Any, views: int, **settings: Any):
    """Augmentation that adds noise, in the place of `make_augment`."""
    del args, settings

    def augment(key, images):
        noise = jax.random.normal(key, (views, *images.shape))
        return images[None] / 255 + 0.1 * noise

    return augment


def install(monkeypatch):
    """Put both where configs find them."""
    monkeypatch.setitem(METHODS, "linear", linear)
    monkeypatch.setattr(learning, "make_augment", noisy)
