"""Optimizers in the form the references use, and schedules over a stream batch.

A schedule is two arrays with one entry a pass: learning rate and momentum. It starts
again with every stream batch (`local_cycle` is SLCLRS, one cycle a batch), so a run has
no end that a schedule would need to know.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ocssl_jax.core import Array, Params

MOMENTUM_RANGE = (0.95, 0.85)  # at the cycle's ends, at its peak
FINAL_DIVISOR = 1e4  # first over last learning rate, as torch's OneCycleLR


class Optimizer(NamedTuple):
    """An optax transformation together with its schedule over the passes."""

    init: Callable[[Params], Any]
    update: Callable[..., tuple[Params, Any]]  # (grads, opt_state, params, i)
    learning_rate: Callable[[Array], Array]  # of pass i


class Schedule(NamedTuple):
    """Learning rate and momentum of each pass of a stream batch."""

    learning_rate: np.ndarray  # [p] float32
    momentum: np.ndarray  # [p] float32


def constant(passes: int, *, peak: float, momentum: float, **_: float) -> Schedule:
    """The same learning rate and momentum in every pass."""
    ones = np.ones(passes, np.float32)
    return Schedule(peak * ones, momentum * ones)


def local_cycle(
    passes: int, *, peak: float, rise: float, divisor: float, momentum: float
) -> Schedule:
    """One cosine cycle of learning rate and inverse momentum a stream batch (SLCLRS).

    Equal to torch's two-phase OneCycleLR with `total_steps=passes`.

    Args:
      passes: updates a stream batch, N in the paper.
      peak: highest learning rate.
      rise: fraction of the cycle in which the learning rate rises (torch's pct_start).
      divisor: peak over first learning rate.
      momentum: not used, the cycle brings its own.

    Raises:
      ValueError: if `rise * passes` leaves no step to rise in.
    """
    del momentum
    top, last = rise * passes - 1, passes - 1
    if not 0 < top < last:
        raise ValueError(
            f"optimizer.schedule=local_cycle needs 1 < rise * passes < passes, "
            f"got rise {rise} and passes {passes}"
        )
    first = peak / divisor
    far, near = MOMENTUM_RANGE

    def cosine(a: float, b: float, p: float) -> float:
        return b + (a - b) / 2 * (1 + math.cos(math.pi * p))

    def at(n: int) -> tuple[float, float]:
        if n <= top:
            return cosine(first, peak, n / top), cosine(far, near, n / top)
        p = (n - top) / (last - top)
        return cosine(peak, first / FINAL_DIVISOR, p), cosine(near, far, p)

    rows = np.asarray([at(n) for n in range(passes)], np.float32)
    return Schedule(rows[:, 0], rows[:, 1])


SCHEDULES = {"constant": constant, "local_cycle": local_cycle}


def sgd(
    rate: Array, momentum: Array, *, weight_decay: float
) -> optax.GradientTransformation:
    """SGD with heavy-ball momentum and L2 on every parameter, as torch's."""
    del rate
    return optax.chain(
        optax.add_decayed_weights(weight_decay), optax.trace(decay=momentum)
    )


def adam(
    rate: Array, momentum: Array, *, weight_decay: float
) -> optax.GradientTransformation:
    """Adam with L2 added to the gradient (not AdamW), as torch's `Adam`."""
    del rate
    return optax.chain(
        optax.add_decayed_weights(weight_decay), optax.scale_by_adam(b1=momentum)
    )


def lars(
    rate: Array, momentum: Array, *, weight_decay: float, trust_coefficient: float
) -> optax.GradientTransformation:
    """LARS (You et al. 2017) as SSL code bases wrap it around Nesterov's SGD.

    g <- q (g + weight_decay p),   q = min(q', rate) / rate,
    q' = trust_coefficient |p| / (|g| + weight_decay |p| + 1e-8)

    for each array of parameters: its step is as long as its own size allows, but never
    longer than SGD's. Vectors (biases, scales of norms) and arrays of which p or g is 0
    keep their gradient and do not decay. `optax.lars` lacks the bound, divides by
    |g + weight_decay p| and keeps the learning rate in the momentum.
    """

    def scaled(g: Array, p: Array) -> Array:
        if p.ndim == 1:
            return g
        size, slope = jnp.linalg.norm(p.ravel()), jnp.linalg.norm(g.ravel())
        own = trust_coefficient * size / (slope + weight_decay * size + 1e-8)
        q = jnp.minimum(own / rate, 1.0)
        return jnp.where((size > 0) & (slope > 0), q * (g + weight_decay * p), g)

    trust = optax.stateless(lambda grads, params: jax.tree.map(scaled, grads, params))
    return optax.chain(trust, optax.trace(decay=momentum, nesterov=True))


# name -> (rate, momentum of the pass, *, settings) -> direction, rate yet to be applied
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": sgd,
    "adam": adam,
    "lars": lars,
}


def make_optimizer(name: str, *, schedule: Schedule, **settings: float) -> Optimizer:
    """Optimizer `name` under `schedule`, with the `settings` that it takes.

    The learning rate is applied outside the momentum buffer, as torch does, and the
    buffer is carried from one stream batch to the next.
    """
    rates, momenta = jnp.asarray(schedule.learning_rate), jnp.asarray(schedule.momentum)

    def transform(i: Array | int) -> optax.GradientTransformation:
        return OPTIMIZERS[name](rates[i], momenta[i], **settings)

    def update(
        grads: Params, opt_state: Any, params: Params, i: Array
    ) -> tuple[Params, Any]:
        direction, opt_state = transform(i).update(grads, opt_state, params)
        steps = jax.tree.map(lambda d: -rates[i] * d, direction)
        return optax.apply_updates(params, steps), opt_state

    return Optimizer(lambda p: transform(0).init(p), update, lambda i: rates[i])
