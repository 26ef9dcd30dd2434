"""SCALE (Yu et al. 2023): pseudo-positives, relation distillation, an even memory.

x <- replay(R) + stream(b);   z = h(f(x)), a head of its own
L = SupCon over stream rows, rows that look alike being positives
    + lambda * IRD to the encoder before this stream batch, on the first view
lambda is set by the first pass, so that IRD starts at a fixed share of SupCon
memory <- after the passes, N of memory and stream chosen by Part-and-Select

The objective is SCALE's: the method gives backbone and probed encoder, and its own loss
is over no row.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from ocssl_jax.backbones.linear import Linear
from ocssl_jax.core import (
    Array,
    Batch,
    Key,
    Learner,
    Model,
    Outputs,
    Params,
    Stream,
    Term,
)
from ocssl_jax.memory import plain
from ocssl_jax.strategies.base import Strategy, chain
from ocssl_jax.strategies.replay import (
    embedding,
    replay,
    stream_rows,
    with_objective,
)
from ocssl_jax.strategies.scale_losses import (
    contrast,
    distillation,
    pseudo_positives,
)
from ocssl_jax.strategies.spaces import feature


class Head(nn.Module):
    """h: two layers with biases and no norm, from features to projections."""

    features: int

    @nn.compact
    def __call__(self, e: Array) -> Array:
        """[... f] -> [... d] float32."""
        rows = e.reshape(-1, e.shape[-1])
        x = nn.relu(Linear(e.shape[-1], True, jnp.float32, name="linear1")(rows))
        x = Linear(self.features, True, jnp.float32, name="linear2")(x)
        return x.reshape(*e.shape[:-1], self.features)


class Settings(NamedTuple):
    """SCALE's own settings; see `scale`."""

    projection: int
    temperature: float
    past_temperature: float
    positive_ratio: float
    distill_power: float
    normalize_features: bool
    contrast_first_rows: bool
    past_of_each_pass: bool


class State(NamedTuple):
    """What the losses carry."""

    past: Any  # the encoder's parameters and statistics before this stream batch
    weight: Array  # [] float32, lambda; 0 until it is set


def encoder_of(learner: Learner) -> tuple[Params, Model]:
    """The encoder's parameters and running statistics."""
    return learner.params["encoder"], learner.model["encoder"]


def first_rows(batch: Batch) -> Array:
    """[n] bool: as many real rows from the front as the stream brought."""
    arrived = jnp.sum(batch.mask[batch.replayed :])
    return batch.mask & (jnp.cumsum(batch.mask) <= arrived)


def past_features(state: State, learner: Learner, x: Array) -> Array:
    """[n f] of images [n h w c], by the past encoder and its running statistics."""
    params, stats = state.past or encoder_of(learner)
    seen = learner.method.forward(
        {**learner.params, "encoder": params},
        {**learner.model, "encoder": stats},
        x,
        train=False,
    )
    return jax.lax.stop_gradient(seen.e)


def objective(s: Settings) -> Strategy:
    """The part that adds SCALE's two losses."""
    head = Head(s.projection)

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Params, State]:
        width = jax.eval_shape(learner.encode, stream.image[:1]).e.shape[-1]
        params = head.init(key, jnp.zeros((1, width)))["params"]
        # A true copy: the state is donated, and two leaves must not share one buffer.
        past = () if s.past_of_each_pass else encoder_of(learner)
        return params, State(jax.tree.map(jnp.copy, past), jnp.zeros(()))

    def loss(
        params: Params, state: State, learner: Learner, batch: Batch, out: Outputs
    ) -> dict[str, Array | Term]:
        chex.assert_axis_dimension(batch.views, 0, 2)

        def project(e: Array) -> Any:
            return head.apply({"params": params}, e)

        z = project(out.e)
        alike = pseudo_positives(
            out.e,
            batch.mask,
            temperature=s.temperature,
            ratio=s.positive_ratio,
            normalize=s.normalize_features,
        )
        stream = first_rows(batch) if s.contrast_first_rows else stream_rows(batch)
        rows = stream & batch.mask
        alike &= rows[:, None] & rows[None, :]
        pull = contrast(z, batch.mask, rows, alike, temperature=s.temperature)

        then = project(past_features(state, learner, batch.views[0]))
        if not s.past_of_each_pass:
            then = jax.lax.stop_gradient(then)
        keep = distillation(
            z[0],
            then,
            batch.mask,
            temperature=s.temperature,
            past_temperature=s.past_temperature,
        )
        first = s.distill_power * pull / jnp.where(keep > 0, keep, jnp.inf)
        weight = jnp.where(state.weight > 0, state.weight, first)
        return {
            "contrast": pull,
            "distill": Term(keep, jax.lax.stop_gradient(weight)),
        }

    def update(state: State, learner: Learner, batch: Batch, out: Outputs) -> State:
        del learner, batch
        return state._replace(weight=out.terms["distill"].weight)

    def end(
        key: Key, state: State, learner: Learner, stream: Stream, out: Outputs
    ) -> tuple[State, Model]:
        # Until the next stream batch's passes nothing moves the encoder any more.
        del key, stream, out
        past = () if s.past_of_each_pass else encoder_of(learner)
        return state._replace(past=past), learner.model

    return Strategy(
        init=init,
        loss=loss,
        update=update,
        end=end,
        metrics=lambda state: {"distill_weight": state.weight},
    )


def store(memory: str, capacity: int, size: int, *, feature_decay: float) -> Strategy:
    """Replay from a memory that judges images by their backbone features."""
    kept = plain(memory, capacity, feature_decay=feature_decay)
    part = replay(kept, size, start=1, admit=embedding(train=False), space=feature)
    # The memory encodes all that it holds whenever it chooses: nothing to refresh.
    return part._replace(update=Strategy().update)


def scale(
    *,
    memory: str,
    memory_size: int,
    replay_size: int,
    feature_decay: float,
    projection: int,
    temperature: float,
    past_temperature: float,
    positive_ratio: float,
    distill_power: float,
    normalize_features: bool,
    contrast_first_rows: bool,
    past_of_each_pass: bool,
) -> Strategy:
    """SCALE on the backbone of any method of two views.

    Args:
      memory: 'part_and_select' (the paper's) or another plain memory.
      memory_size: images kept, N.
      replay_size: most replayed rows a pass, R; replay starts with the second batch.
      feature_decay: of the features kept beside the images, which nothing here moves.
      projection: width of the head's output.
      temperature: of SupCon, of the similarity of pseudo-positives and of the current
        relations in IRD.
      past_temperature: of the past relations.
      positive_ratio: how far above the mean a pseudo-positive's similarity lies, as a
        share of the way to the maximum.
      distill_power: IRD's share of SupCon in the first pass, which sets lambda.
      normalize_features: compare features of length 1; the released code does not.
      contrast_first_rows: the anchors are the first b real rows, which are replayed
        ones once there are any, as in the released code; else the stream's.
      past_of_each_pass: distil, as the released code does, to the encoder of the pass
        itself with its running statistics, the head learning from both sides; else to
        the encoder before the stream batch, as a constant.

    Raises:
      ValueError: if a temperature is not positive.
    """
    if min(temperature, past_temperature) <= 0:
        raise ValueError(
            f"temperature and past_temperature must be above 0, got {temperature} and "
            f"{past_temperature}"
        )
    settings = Settings(
        projection,
        temperature,
        past_temperature,
        positive_ratio,
        distill_power,
        normalize_features,
        contrast_first_rows,
        past_of_each_pass,
    )
    part = store(memory, memory_size, replay_size, feature_decay=feature_decay)
    nobody = lambda batch: jnp.zeros_like(batch.mask)
    return chain(with_objective(part, nobody), objective(settings))
