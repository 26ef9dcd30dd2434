"""Osiris-R (Zhang et al. 2024): plasticity on the stream, consolidation on the memory.

x <- replay(R) + stream(b)
L1 = L_ssl(stream rows), through the method's own head
L2 = (X(stream | replay) + X(replay | stream)) / 2, through a second head h
L3 = NT-Xent(replay rows), through h;      L = L1 + (L2 + L3) / 2

X(a | c) tells apart the two views of a row of `a` from every row of `c`. Before replay
starts L = L1. With the method SimCLR at temperature 0.1 this is the published
objective; any other method of two views may stand there.
"""

import chex
import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Batch, Key, Learner, Outputs, Params, Stream
from ocssl_jax.heads import Projector
from ocssl_jax.losses import masked_mean, nt_xent, unit
from ocssl_jax.strategies.base import Strategy, chain
from ocssl_jax.strategies.replay import (
    plain_replay,
    stream_rows,
    with_objective,
)
from ocssl_jax.traced import holds


def cross_task(
    a: Array, a_mask: Array, c: Array, c_mask: Array, *, temperature: float
) -> Array:
    """X(a | c): cross entropy of each row's other view against all views of `c`.

    Args:
      a: [2 n d] two views of the rows told apart, which do not repel each other.
      a_mask: [n] bool, rows that count.
      c: [2 m d] two views of the rows they are told apart from.
      c_mask: [m] bool, rows that count.
      temperature: of the cosine similarities.

    Returns:
      [] the mean over the views of the real rows; 0 if either side has none.
    """
    chex.assert_equal(a.shape[2], c.shape[2])
    n, d = a.shape[1:]
    u, other = unit(a.reshape(2 * n, d)), unit(c.reshape(-1, d))
    positive = jnp.sum(u[:n] * u[n:], axis=-1) / temperature
    positive = jnp.tile(positive, 2)[:, None]  # [2n 1]
    negative = jnp.matmul(u, other.T, precision="highest") / temperature
    # A finite floor instead of -inf keeps rows without negatives finite.
    negative = jnp.where(jnp.tile(c_mask, 2)[None, :], negative, -1e9)
    log_z = jax.nn.logsumexp(jnp.concatenate([positive, negative], axis=1), axis=1)
    rows = jnp.tile(a_mask & jnp.any(c_mask), 2)
    return masked_mean(log_z - positive[:, 0], rows)


def consolidation(*, temperature: float, train_head: bool) -> Strategy:
    """The part that adds (L2 + L3) / 2.

    Args:
      temperature: of both losses.
      train_head: whether h is trained; the released code leaves it at its random start.
    """

    def head(width: int) -> Projector:
        return Projector(width, True, jnp.float32)

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Params, Params]:
        seen = jax.eval_shape(learner.encode, stream.image[:1])
        start = jnp.zeros((2, seen.e.shape[-1]))
        params = head(seen.z.shape[-1]).init(key, start, train=True)["params"]
        return (params, ()) if train_head else ((), params)

    def loss(
        params: Params, state: Params, learner: Learner, batch: Batch, out: Outputs
    ) -> dict[str, Array]:
        width, r = out.z.shape[-1], batch.replayed
        chex.assert_axis_dimension(out.e, 0, 2)

        def project(e: Array, mask: Array) -> Array:
            """[2 m f] -> [2 m d], each view with batch statistics of its own."""
            weights = {"params": params if train_head else state}
            apply = lambda x: head(width).apply(
                weights, x, train=True, mask=mask, mutable=["batch_stats"]
            )[0]
            return jnp.stack([apply(x) for x in e])

        old, new = batch.mask[:r], batch.mask[r:]
        u, z = project(out.e[:, :r], old), project(out.e[:, r:], new)
        told_apart = cross_task(z, new, u, old, temperature=temperature)
        told_apart += cross_task(u, old, z, new, temperature=temperature)
        kept = masked_mean(nt_xent(u[0], u[1], old, temperature=temperature), old)
        return {"cross": told_apart / 4, "past": kept / 2}

    return Strategy(init=init, loss=loss)


def osiris_r(
    *,
    memory: str,
    memory_size: int,
    replay_size: int,
    feature_decay: float,
    temperature: float,
    train_head: bool,
) -> Strategy:
    """Osiris-R on a reservoir (default) or another plain memory.

    Args:
      memory: 'reservoir' (the paper's), 'fifo', ...
      memory_size: images kept, N.
      replay_size: replayed rows a pass, R; replay starts once more than R are held.
      feature_decay: of the features kept beside the images, which nothing here moves.
      temperature: of L2 and L3; that of L1 is the method's.
      train_head: whether h is trained.

    Raises:
      ValueError: if the temperature is not positive.
    """
    if not holds(temperature > 0):
        raise ValueError(f"temperature must be above 0, got {temperature}")
    stored = plain_replay(memory, memory_size, replay_size, feature_decay=feature_decay)
    # The method's head does not see the replayed rows: there is no news of their z.
    stored = stored._replace(update=Strategy().update)
    return chain(
        with_objective(stored, stream_rows),
        consolidation(temperature=temperature, train_head=train_head),
    )
