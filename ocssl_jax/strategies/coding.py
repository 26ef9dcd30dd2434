"""The autoencoder of a strategy whose memory holds codes: how it learns and is used.

There are two of it: the one that learns, and a settled copy, whose codes are those in
the memory. When a new copy is made, codes are decoded by the old one and encoded anew.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ocssl_jax.autoencoder import make_autoencoder, signed, to_pixels
from ocssl_jax.core import Array, Key, Memory, Variables
from ocssl_jax.memory.codes import recoded
from ocssl_jax.strategies.base import Lens


class Coder(NamedTuple):
    """Both autoencoders."""

    live: Variables
    adam: Any
    loss: Array  # [] float32, squared error of a value in the last update
    settled: Variables


class Coding(NamedTuple):
    """Pure functions on autoencoders; images x are in [-1, 1]."""

    init: Callable[[Key], Coder]
    learnt: Callable[[Coder, Array, Array], Coder]  # (coder, x [n h w c], mask [n])
    encode: Callable[[Variables, Array, Array], Array]  # (variables, x, mask) -> [n z]
    decode: Callable[[Variables, Array, Array], Array]  # (variables, [n z], mask) -> x
    look: Callable[[Variables, Array], Array]  # uint8 [n h w c] -> the same, through it


def make_coding(shape: tuple[int, ...], settings: Mapping[str, Any]) -> Coding:
    """The functions for images of `shape`, (h, w, c).

    Args:
      shape: of an image.
      settings: the autoencoder's `width`, Adam's `learning_rate`; `batch_statistics`:
        while the learner learns it encodes and decodes with BN statistics of the rows,
        else with running ones.

    Raises:
      ValueError: if there is no autoencoder of such images.
    """
    network = make_autoencoder(shape, width=settings["width"])
    adam = optax.adam(settings["learning_rate"])
    train = settings["batch_statistics"]

    def init(key: Key) -> Coder:
        live = network.init(key)
        settled = jax.tree.map(jnp.copy, live)  # a donated state shares no buffers
        return Coder(live, adam.init(live["params"]), jnp.float32(0), settled)

    def learnt(coder: Coder, x: Array, mask: Array) -> Coder:
        params, stats = coder.live["params"], coder.live["batch_stats"]
        slope = jax.value_and_grad(network.loss, has_aux=True)
        (value, stats), grads = slope(params, stats, x, mask)
        step, moments = adam.update(grads, coder.adam)
        live = {"params": optax.apply_updates(params, step), "batch_stats": stats}
        return coder._replace(live=live, adam=moments, loss=value)

    def encode(variables: Variables, x: Array, mask: Array) -> Array:
        return network.encode(variables, x, train=train, mask=mask)

    def decode(variables: Variables, code: Array, mask: Array) -> Array:
        return network.decode(variables, code, train=train, mask=mask)

    def look(variables: Variables, image: Array) -> Array:
        """With running statistics: nobody's image depends on whose are beside it."""
        code = network.encode(variables, signed(image), train=False)
        return to_pixels(network.decode(variables, code, train=False))

    return Coding(init, learnt, encode, decode, look)


def settled(coding: Coding, coder: Coder, store: Memory, memory: Any) -> Any:
    """The coder with a new settled copy, and the memory with its codes."""
    held = store.rows(memory)[1]

    def recode(code: Array, mask: Array) -> Array:
        x = coding.decode(coder.settled, code, mask)
        return coding.encode(coder.live, x, mask)

    return coder._replace(settled=coder.live), recoded(memory, held, recode)


def lens(coding: Coding) -> Lens:
    """Encoders look at images through the autoencoder that learns."""
    return Lens(lambda state: state.coder.live, coding.look)
