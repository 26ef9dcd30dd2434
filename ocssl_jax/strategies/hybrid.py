"""Replay of what an autoencoder keeps: codes in place of images, decoded when needed.

The hybrid of Aljundi et al., "Online Continual Learning with Maximally Interfered
Retrieval" (NeurIPS 2019), algorithm 3. Each experience's images arrive in epochs:

all but the last:  autoencoder <- Adam on |decode(encode(x)) - x|^2
the last:          y <- decode(R codes of the memory, of earlier experiences)
                   classifier <- its optimizer on mean CE(decode(encode(x)) and y)
                   memory <- encode(x), after the passes

The classifier sees all images as the autoencoder leaves them, those it is tested on
too: else it would tell the present experience by its sharpness. Which codes are
replayed is up to a `Choose`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ocssl_jax.autoencoder import signed, to_pixels
from ocssl_jax.core import (
    Array,
    Augment,
    Batch,
    Items,
    Key,
    Learner,
    Memory,
    Model,
    Outputs,
    Params,
    Sample,
    Stream,
)
from ocssl_jax.memory.featureless import empty, keep
from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.coding import Coder, Coding, lens, make_coding, settled
from ocssl_jax.strategies.past import classifying_memory, joined


class Coded(NamedTuple):
    """What the autoencoder makes of the present stream batch."""

    code: Array  # [b z] float32
    image: Array  # [b h w c] uint8, as the classifier sees it


class Hybrid(NamedTuple):
    """State of the strategies whose memory holds codes."""

    memory: Any
    task: Array  # [] int32, the present experience; -1 before the first
    epoch: Array  # [] int32, of the last stream batch
    coder: Coder
    before: Any  # the classifier when the last experience ended; () if not asked for
    now: Any = ()  # from `begin` to `end` a `Coded`


class Chosen(NamedTuple):
    """Rows of the memory that are replayed."""

    items: Items  # [r ...], their 'code' among them
    mask: Array  # [r] bool
    told: dict[str, Array]  # as `Batch.told`


# (key, state, coding, store, learner, stream) -> the R rows that are replayed
Choose = Callable[[Key, Hybrid, Coding, Memory, Learner, Stream], Chosen]


def past_rows(key: Key, state: Hybrid, store: Memory, count: int) -> Sample:
    """So many rows of earlier experiences, at random."""
    past = lambda items: items["task"] != state.task
    return store.sample(key, state.memory, count, among=past)


def hybrid(
    *,
    image_shape: tuple[int, ...],
    epochs: int,
    memory: str,
    memory_size: int,
    replay_size: int,
    autoencoder: Mapping[str, Any],
    raw_first: bool,
    strength: float,
    choose: Choose,
    remembers_classifier: bool,
) -> Strategy:
    """Train on the stream's rows and on stored ones, all through an autoencoder.

    Args:
      image_shape: (h, w, c).
      epochs: how often each image arrives.
      memory: 'reservoir' or 'fifo'.
      memory_size: codes kept, N.
      replay_size: rows replayed in a pass, R.
      autoencoder: settings of `make_coding`; `learns_on`: it learns in the last epoch,
        too; `replays`: from R decoded rows beside the stream's; `settles_each_epoch`:
        before each epoch codes are carried over to what it has become, else before the
        last one alone.
      raw_first: the classifier sees the first experience's images as they are.
      strength: of the gradient where something is replayed.
      choose: which rows are replayed.
      remembers_classifier: keep `Hybrid.before`.

    Raises:
      ValueError: if there is no such memory or autoencoder, or it would never learn.
    """
    if epochs < 2 and not autoencoder["learns_on"]:
        raise ValueError(
            "autoencoder.learns_on must be True where images arrive once "
            "(stream.epochs=1), got False"
        )
    coding = make_coding(image_shape, autoencoder)
    store = classifying_memory(memory, memory_size)

    def last(stream: Stream) -> Array:
        return epoch_of(stream) == epochs - 1

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Any, Hybrid]:
        before = copied(learner) if remembers_classifier else ()
        state = Hybrid((), jnp.int32(-1), jnp.int32(0), coding.init(key), before)
        x, real = signed(stream.image), jnp.zeros(stream.mask.shape, bool)
        one = state._replace(now=coded(state, x, real, stream))
        return (), state._replace(memory=empty(store, items_of(one, stream)))

    def begin(
        key: Key, state: Hybrid, learner: Learner, stream: Stream
    ) -> tuple[Hybrid, Model]:
        state = settling(arrived(state, learner, stream), state.epoch, stream)
        x, real = signed(stream.image), stream.mask
        if autoencoder["replays"]:
            old = past_rows(key, state, store, replay_size)
            again = coding.decode(state.coder.settled, old.items["code"], old.mask)
            x, real = jnp.concatenate([x, again]), jnp.concatenate([real, old.mask])
        state = state._replace(now=coded(state, x, real, stream))
        done, as_it_is = last(stream) & (not autoencoder["learns_on"]), lambda c, *_: c
        coder = jax.lax.cond(done, as_it_is, coding.learnt, state.coder, x, real)
        return state._replace(coder=coder), learner.model

    def arrived(state: Hybrid, learner: Learner, stream: Stream) -> Hybrid:
        new = stream.boundary
        before = state.before
        if remembers_classifier:
            before = jax.tree.map(partial(jnp.where, new), copied(learner), before)
        task = (state.task + new).astype(jnp.int32)
        return state._replace(task=task, epoch=epoch_of(stream), before=before)

    def settling(state: Hybrid, before: Array, stream: Stream) -> Hybrid:
        """Carries the codes over if the autoencoder has learnt since they were made."""
        due = stream.boundary | (state.epoch != before)
        if not autoencoder["learns_on"]:  # there was no step in the epoch before
            due &= state.epoch > 0
        if not autoencoder["settles_each_epoch"]:
            due &= last(stream)
        coder, memory = jax.lax.cond(
            due,
            lambda coder, memory: settled(coding, coder, store, memory),
            lambda *both: both,
            state.coder,
            state.memory,
        )
        return state._replace(coder=coder, memory=memory)

    def coded(state: Hybrid, x: Array, real: Array, stream: Stream) -> Coded:
        live, b = state.coder.live, len(stream.mask)
        code = coding.encode(live, x, real)
        image = to_pixels(coding.decode(live, code, real)[:b])
        if raw_first:
            image = jnp.where(state.task > 0, image, stream.image)
        return Coded(code[:b], image)

    def draw(
        key: Key, state: Hybrid, learner: Learner, stream: Stream, augment: Augment
    ) -> Batch:
        k_choose, k_old, k_new = jax.random.split(key, 3)
        items, real, told = choose(k_choose, state, coding, store, learner, stream)
        x = coding.decode(state.coder.settled, items["code"], real)
        items = pictured(items, to_pixels(x))
        old = Batch(augment(k_old, items["image"]), real, items)
        own = pictured(items_of(state, stream), state.now.image)
        new = Batch(augment(k_new, own["image"]), stream.mask, own)
        batch = joined(old, new, apart=False, kept=())
        return dataclasses.replace(batch, told=told)

    def gradient(
        key: Key, state: Hybrid, learner: Learner, batch: Batch, grads: Params
    ) -> Params:
        del key, state, learner
        factor = jnp.where(jnp.any(batch.replay_mask), strength, 1.0)
        return jax.tree.map(lambda g: factor * g, grads)

    def end(
        key: Key, state: Hybrid, learner: Learner, stream: Stream, out: Outputs
    ) -> tuple[Hybrid, Model]:
        del out
        kept = keep(
            key,
            store,
            state.memory,
            items_of(state, stream),
            stream.mask & last(stream),
        )
        return state._replace(memory=kept, now=()), learner.model

    def metrics(state: Hybrid) -> dict[str, Array]:
        return store.metrics(state.memory) | {"loss_autoencoder": state.coder.loss}

    return Strategy(
        init=init,
        begin=begin,
        draw=draw,
        gradient=gradient,
        end=end,
        metrics=metrics,
        learns=lambda state, stream: last(stream),
        lens=lens(coding),
    )


def epoch_of(stream: Stream) -> Array:
    """[] int32, how often the images arrived before."""
    return jnp.int32(0) if stream.epoch is None else stream.epoch


def items_of(state: Hybrid, stream: Stream) -> Items:
    """The stream's rows as the memory stores them: codes, and no image."""
    rows = {name: x for name, x in stream.items().items() if name != "image"}
    task = jnp.full(stream.mask.shape, state.task)
    return rows | {"code": state.now.code, "task": task}


def pictured(items: Items, image: Array) -> Items:
    """Rows with an image [m h w c] in place of their code."""
    return {name: x for name, x in items.items() if name != "code"} | {"image": image}


def copied(learner: Learner) -> tuple[Params, Model]:
    """The classifier, a true copy: leaves of a donated state share no buffer."""
    return jax.tree.map(jnp.copy, (learner.params, learner.model))
