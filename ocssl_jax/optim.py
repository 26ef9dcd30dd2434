"""Optimizers in the form the references use, and what runs them along a schedule.

A schedule (`schedules.py`) is two arrays, the learning rate and the momentum of each
update, and starts again when it is through: with every stream batch, or after as many
updates as it has, which are then counted in the optimizer's state.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ocssl_jax.core import Array, Params
from ocssl_jax.schedules import Schedule


class Optimizer(NamedTuple):
    """An optax transformation together with its schedule over the passes."""

    init: Callable[[Params], Any]
    update: Callable[..., tuple[Params, Any]]  # (grads, opt_state, params, i)
    learning_rate: Callable[[Any, Array], Array]  # (opt_state, i), of pass i


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


def adamw(
    rate: Array, momentum: Array, *, weight_decay: float
) -> optax.GradientTransformation:
    """AdamW as CLIP is trained with (Radford et al. 2021, table 18); matrices decay.

    Norms, biases and class tokens do not. The other beta is 0.98, epsilon 1e-6.
    """
    del rate
    matrices = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    return optax.chain(
        optax.scale_by_adam(b1=momentum, b2=0.98, eps=1e-6),
        optax.add_decayed_weights(weight_decay, mask=matrices),
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
    "adamw": adamw,
    "lars": lars,
}


def make_optimizer(
    name: str, *, schedule: Schedule, momentum_reset: bool, **settings: float
) -> Optimizer:
    """Optimizer `name` under `schedule`, with the `settings` that it takes.

    The learning rate is applied outside the momentum buffer, as torch does. The buffer
    is carried from one run through the schedule to the next, as one torch optimizer
    under a new scheduler would, or, with `momentum_reset`, starts again with it.
    """
    rates, momenta = jnp.asarray(schedule.learning_rate), jnp.asarray(schedule.momentum)

    def transform(i: Array | int) -> optax.GradientTransformation:
        return OPTIMIZERS[name](rates[i], momenta[i], **settings)

    def update(
        grads: Params, opt_state: Any, params: Params, i: Array
    ) -> tuple[Params, Any]:
        if momentum_reset:
            fresh = transform(0).init(params)
            opt_state = jax.tree.map(lambda a, b: jnp.where(i, b, a), fresh, opt_state)
        direction, opt_state = transform(i).update(grads, opt_state, params)
        steps = jax.tree.map(lambda d: -rates[i] * d, direction)
        return optax.apply_updates(params, steps), opt_state

    optimizer = Optimizer(
        lambda p: transform(0).init(p), update, lambda state, i: rates[i]
    )
    return optimizer if schedule.each_batch else counting(optimizer, len(rates))


def counting(optimizer: Optimizer, period: int) -> Optimizer:
    """`optimizer` along a schedule of `period` updates, whatever stream batches are."""

    def init(params: Params) -> tuple[Array, Any]:
        return jnp.zeros((), jnp.int32), optimizer.init(params)

    def update(
        grads: Params, opt_state: Any, params: Params, i: Array
    ) -> tuple[Params, Any]:
        del i
        count, inner = opt_state
        params, inner = optimizer.update(grads, inner, params, count)
        return params, ((count + 1) % period, inner)

    def learning_rate(opt_state: Any, i: Array) -> Array:
        del i
        count, inner = opt_state
        return optimizer.learning_rate(inner, count)

    return Optimizer(init, update, learning_rate)
