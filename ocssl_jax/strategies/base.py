"""A strategy is a tuple of hooks around the one step; absent hooks do nothing.

`Strategy()` is plain fine-tuning on the stream, `chain` composes, and the set is closed
under it. The hooks, in the order in which `step.py` calls them:

  init     (key, learner, stream)                 -> params, state
  begin    (key, state, learner, stream)          -> state, model   once a stream batch
  draw     (key, state, learner, stream, augment) -> Batch          each pass
  loss     (params, state, learner, batch, out)   -> {name: term}   added to its own
  gradient (key, state, learner, batch, grads)    -> grads          of all parameters
  update   (state, learner, batch, out)           -> state          after each update
  end      (key, state, learner, stream, out)     -> state, model   once a stream batch
  metrics  (state)                                -> {name: []}     for the log
  head     (state, learner)                       -> core.Head      outside of the step
  learns   (state, stream)                        -> [] bool        after `begin`

`params` are trained with the method's; `state` is carried as it is. `begin` and `end`
may hand back a changed `model` (BN statistics), nothing else of the learner. A loss
term is an array [] or a `core.Term`; `update` finds those of its pass in `out.terms`.
`head` is the classifier that a supervised method is judged by; by default its own.
Where `learns` is False no pass is made of a stream batch; None: they are always made.
A strategy may have the encoder look at images through a `Lens`, outside of the step.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from ocssl_jax.core import (
    Array,
    Augment,
    Batch,
    Head,
    Key,
    Learner,
    Model,
    Outputs,
    Params,
    Stream,
    Term,
    Variables,
)


def _init(key: Key, learner: Learner, stream: Stream) -> tuple[Any, Any]:
    """No trained parts and no state."""
    del key, learner, stream
    return (), ()


def _begin(key: Key, state: Any, learner: Learner, stream: Stream) -> tuple[Any, Model]:
    """Leave everything as it is."""
    del key, stream
    return state, learner.model


def stream_only(
    key: Key, state: Any, learner: Learner, stream: Stream, augment: Augment
) -> Batch:
    """Train on the stream's own rows: the draw of a strategy without replay."""
    del state, learner
    items = stream.items()
    views = augment(key, items["image"])
    return Batch(views=views, mask=stream.mask, items=items, pool=stream.pool)


def _loss(
    params: Any, state: Any, learner: Learner, batch: Batch, out: Outputs
) -> dict[str, Array]:
    """Add nothing to the method's loss."""
    del params, state, learner, batch, out
    return {}


def _gradient(
    key: Key, state: Any, learner: Learner, batch: Batch, grads: Params
) -> Params:
    """Leave the gradient as it is."""
    del key, state, learner, batch
    return grads


def _update(state: Any, learner: Learner, batch: Batch, out: Outputs) -> Any:
    """Keep the state."""
    del learner, batch, out
    return state


def _end(
    key: Key, state: Any, learner: Learner, stream: Stream, out: Outputs
) -> tuple[Any, Model]:
    """Leave everything as it is."""
    del key, stream, out
    return state, learner.model


def _metrics(state: Any) -> dict[str, Array]:
    """Nothing to log."""
    del state
    return {}


def _head(state: Any, learner: Learner) -> Head:
    """The method's own."""
    del state
    assert learner.method.head is not None
    return learner.method.head(learner.params)


def _learns(state: Any, stream: Stream) -> Array | None:
    """Always."""
    del state, stream
    return None


class Lens(NamedTuple):
    """What is done to an image before it is encoded for a probe or a user."""

    variables: Callable[[Any], Variables]  # (state)
    look: Callable[[Variables, Array], Array]  # uint8 [m h w c] -> the same


class Strategy(NamedTuple):
    """What continual learning adds to the plain step; see the module's docstring."""

    init: Callable[..., tuple[Any, Any]] = _init
    begin: Callable[..., tuple[Any, Model]] = _begin
    draw: Callable[..., Batch] = stream_only
    loss: Callable[..., Mapping[str, Array | Term]] = _loss
    gradient: Callable[..., Params] = _gradient
    update: Callable[..., Any] = _update
    end: Callable[..., tuple[Any, Model]] = _end
    metrics: Callable[..., dict[str, Array]] = _metrics
    head: Callable[..., Head] = _head
    learns: Callable[..., Array | None] = _learns
    lens: Lens | None = None


def chain(*parts: Strategy) -> Strategy:
    """Run every part's hooks in order; at most one part may bring its own `draw`.

    None may bring `head`, `learns` or `lens`: those that do are no parts of others.

    Raises:
      ValueError: if two parts draw, since only one batch can be trained on.
    """
    draws = [i for i, part in enumerate(parts) if part.draw is not stream_only]
    if len(draws) > 1:
        raise ValueError(f"chain: one part may have a draw hook, got {len(draws)}")
    whole = (_head, _learns, None)
    assert all((part.head, part.learns, part.lens) == whole for part in parts)

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Any, Any]:
        keys = jax.random.split(key, len(parts))
        pairs = [
            part.init(k, learner, stream) for part, k in zip(parts, keys, strict=True)
        ]
        return tuple(p for p, _ in pairs), tuple(s for _, s in pairs)

    def through(hook: str) -> Callable[..., tuple[Any, Model]]:
        def run(key: Key, state: Any, learner: Learner, *seen: Any) -> Any:
            new = []
            for part, k, s in zip(
                parts, jax.random.split(key, len(parts)), state, strict=True
            ):
                s, model = getattr(part, hook)(k, s, learner, *seen)
                learner = dataclasses.replace(learner, model=model)
                new.append(s)
            return tuple(new), learner.model

        return run

    def draw(
        key: Key, state: Any, learner: Learner, stream: Stream, augment: Augment
    ) -> Batch:
        i = draws[0]
        return parts[i].draw(key, state[i], learner, stream, augment)

    def loss(
        params: Any, state: Any, learner: Learner, batch: Batch, out: Outputs
    ) -> dict[str, Array | Term]:
        terms: dict[str, Array | Term] = {}
        for part, p, s in zip(parts, params, state, strict=True):
            terms |= part.loss(p, s, learner, batch, out)
        return terms

    def gradient(
        key: Key, state: Any, learner: Learner, batch: Batch, grads: Params
    ) -> Params:
        keys = jax.random.split(key, len(parts))
        for part, k, s in zip(parts, keys, state, strict=True):
            grads = part.gradient(k, s, learner, batch, grads)
        return grads

    def update(state: Any, learner: Learner, batch: Batch, out: Outputs) -> Any:
        pairs = zip(parts, state, strict=True)
        return tuple(part.update(s, learner, batch, out) for part, s in pairs)

    def metrics(state: Any) -> dict[str, Array]:
        values: dict[str, Array] = {}
        for part, s in zip(parts, state, strict=True):
            values |= part.metrics(s)
        return values

    return Strategy(
        init=init,
        begin=through("begin"),
        draw=draw if draws else stream_only,
        loss=loss,
        gradient=gradient,
        update=update,
        end=through("end"),
        metrics=metrics,
    )
