"""iCaRL with one head (Rebuffi et al. 2017), as MIR's authors ran it online.

x <- stream(b);   y <- one exemplar of each class of earlier tasks, with stored logits
L = mean CE(x) + weight * KL(softmax stored / T || softmax logits of y / T), mean over
    rows and classes
when a task has ended:  quota <- N / classes seen, rounded down
                        each class keeps its first `quota` exemplars; those of the new
                        ones are herded from all images of the task, and where a class
                        has come back from its exemplars too; logits are stored anew
classify as the class whose exemplars' mean logits are nearest

Where classes are directions among the projections, as CLIP's are, it is done as in the
paper: y is in the first mean too, the softmaxes are among the classes that have
exemplars, herding and means are those of projections of length 1, and a class is the
nearest mean of length 1. (MIR's code has all classes, and logits in their place.)

The images of the present task are kept until it ends, beside the N exemplars. A task is
known to have ended when the next one begins; a classifier that is asked for in between
is one of a task that has just ended, and changes nothing.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ocssl_jax.core import (
    Array,
    Augment,
    Batch,
    Head,
    Items,
    Key,
    Learner,
    Memory,
    Model,
    Outputs,
    Stream,
)
from ocssl_jax.losses import masked_mean, unit
from ocssl_jax.memory.featureless import absent, empty, keep
from ocssl_jax.memory.fifo import fifo
from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.herding import (
    NEVER,
    NOT_CHOSEN,
    among,
    class_means,
    herded,
    members,
    nearest_mean,
)
from ocssl_jax.strategies.past import joined

CHUNK = 100  # images encoded at once when a task has ended


class Exemplars(NamedTuple):
    """Images that stand for classes."""

    items: Items  # [N ...]
    place: Array  # [N] int32, in its class's order of choice; NOT_CHOSEN where free
    logits: Array  # [N k] float32, when the last task ended
    # [N d] float32 likewise, projections of length 1; () where logits take their place.
    feature: Any


class Herd(NamedTuple):
    """State of iCaRL."""

    exemplars: Exemplars
    present: Any  # a memory of all of the present task


def icarl(
    *, memory_size: int, task_size: int, distill_weight: float, temperature: float
) -> Strategy:
    """ICaRL with N exemplars.

    Args:
      memory_size: exemplars of all classes together, N.
      task_size: images of a task that are kept until it ends; of more the newest.
      distill_weight: of the distillation loss.
      temperature: of its softmax, T.
    """
    store = fifo(task_size, feature_decay=0.0)

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Any, Herd]:
        del key
        item = jax.tree.map(lambda rows: rows[0], stream.items())
        said = jax.eval_shape(lambda x: told(learner, x[None]), stream.image[0])
        rows = lambda shape, x: jnp.zeros((memory_size, *shape), x.dtype)
        exemplars = Exemplars(
            jax.tree.map(lambda x: rows(x.shape, x), item),
            jnp.full(memory_size, NOT_CHOSEN, jnp.int32),
            *jax.tree.map(lambda x: rows(x.shape[1:], x), said),
        )
        return (), Herd(exemplars, empty(store, stream.items()))

    def settled(state: Herd, learner: Learner) -> Herd:
        """The state once the present task has ended."""
        exemplars = chosen(state.exemplars, state.present, store, learner)
        return Herd(exemplars, empty(store, exemplars.items))

    def begin(
        key: Key, state: Herd, learner: Learner, stream: Stream
    ) -> tuple[Herd, Model]:
        del key
        ended = stream.boundary & (store.size(state.present) > 0)
        state = jax.lax.cond(ended, lambda s: settled(s, learner), lambda s: s, state)
        return state, learner.model

    def draw(
        key: Key, state: Herd, learner: Learner, stream: Stream, augment: Augment
    ) -> Batch:
        k_old, k_views, k_new = jax.random.split(key, 3)
        held = state.exemplars
        slot, real = one_a_class(k_old, held)
        items = jax.tree.map(lambda x: x[slot], held.items)
        old = Batch(augment(k_views, items["image"]), real, items)
        new = Batch(augment(k_new, stream.image), stream.mask, stream.items())
        one = learner.method.compared is not None
        batch = joined(old, new, apart=not one, kept=held.logits[slot])
        if stream.pool is None:
            return batch
        mine = members(held.items["label"], held.place < NOT_CHOSEN, len(stream.pool))
        return dataclasses.replace(batch, pool=stream.pool + jnp.sum(mine, axis=1))

    def loss(
        params: Any, state: Herd, learner: Learner, batch: Batch, out: Outputs
    ) -> dict[str, Array]:
        del params
        now = scores(learner, out.z[0, : batch.replayed])
        among = distilled_among(state.exemplars, learner)
        then, now = (
            jax.nn.log_softmax(jnp.where(among[None], x / temperature, NEVER))
            for x in (batch.kept, now)
        )
        rows = jnp.mean(jnp.exp(then) * (then - now), axis=1)
        return {"distill": distill_weight * masked_mean(rows, batch.replay_mask)}

    def end(
        key: Key, state: Herd, learner: Learner, stream: Stream, out: Outputs
    ) -> tuple[Herd, Model]:
        del out
        fresh = stream.mask & absent(store, state.present, stream.id)
        present = keep(key, store, state.present, stream.items(), fresh)
        return state._replace(present=present), learner.model

    def head(state: Herd, learner: Learner) -> Head:
        held, method = settled(state, learner).exemplars, learner.method
        assert method.head is not None
        means, known = class_means(
            told_apart_by(held.logits, held.feature),
            held.items["label"],
            held.place < NOT_CHOSEN,
            held.logits.shape[1],
        )
        if method.compared is not None:
            return among(method.compared(learner.params, unit(means)), known)
        return nearest_mean(method.head(learner.params), means, known)

    def metrics(state: Herd) -> dict[str, Array]:
        count = jnp.sum(state.exemplars.place < NOT_CHOSEN)
        return {"memory_images": count, "task_images": store.size(state.present)}

    return Strategy(
        init=init,
        begin=begin,
        draw=draw,
        loss=loss,
        end=end,
        metrics=metrics,
        head=head,
    )


def one_a_class(key: Key, held: Exemplars) -> tuple[Array, Array]:
    """A random exemplar of each class [k], and whether there is one [k] bool."""
    count, classes = held.logits.shape
    own = members(held.items["label"], held.place < NOT_CHOSEN, classes)
    score = jnp.where(own, jax.random.uniform(key, (classes, count)), -1.0)
    return jnp.argmax(score, axis=1), jnp.any(own, axis=1)


def distilled_among(held: Exemplars, learner: Learner) -> Array:
    """[k] bool: the classes of the distilled softmax.

    Where these are words it has no class to come: its text would tell of it.
    """
    classes = held.logits.shape[1]
    if learner.method.compared is None:
        return jnp.ones(classes, bool)
    own = members(held.items["label"], held.place < NOT_CHOSEN, classes)
    return jnp.any(own, axis=1)


def chosen(held: Exemplars, present: Any, store: Memory, learner: Learner) -> Exemplars:
    """The exemplars of all tasks, the present one's among them."""
    new, real = store.rows(present)
    classes, was = held.logits.shape[1], held.place < NOT_CHOSEN
    there = lambda label, mask: jnp.any(members(label, mask, classes), axis=1)
    known, met = there(held.items["label"], was), there(new["label"], real)
    quota = len(was) // jnp.maximum(jnp.sum(known | met), 1)
    back = was & met[held.items["label"]]
    items = jax.tree.map(lambda *rows: jnp.concatenate(rows), held.items, new)
    real = jnp.concatenate([back, real])
    said = told(learner, items["image"])
    place = herded(told_apart_by(*said), items["label"], real, quota, classes)
    kept = jnp.where(back | (held.place >= quota), NOT_CHOSEN, held.place)
    # The first of each class find the slots that are free: there are enough, since
    # nobody has more than its quota.
    best = jnp.argsort(place)[: len(kept)]
    free = jnp.argsort(kept, descending=True)[: len(best)]
    slot = jnp.where(place[best] < NOT_CHOSEN, free, len(kept))
    put = lambda old, new: old.at[slot].set(new[best], mode="drop")
    items = jax.tree.map(put, held.items, items)
    return Exemplars(items, put(kept, place), *told(learner, items["image"]))


def scores(learner: Learner, z: Array) -> Array:
    """Logits [m k] of projections [m d]."""
    logits = learner.method.logits
    return z if logits is None else logits(learner.params, z)


def told(learner: Learner, images: Array) -> tuple[Array, Any]:
    """Logits [m k] of uint8 images [m h w c], and `Exemplars.feature` of them.

    With running BN statistics, a few at a time.
    """
    one = lambda image: learner.embed(image[None])[0]
    z: Array = jax.lax.map(one, images, batch_size=CHUNK)
    directions = learner.method.compared is not None
    return scores(learner, z), unit(z) if directions else ()


def told_apart_by(logits: Array, feature: Any) -> Array:
    """By what classes are told apart."""
    rows: Array = logits if isinstance(feature, tuple) else feature
    return rows
