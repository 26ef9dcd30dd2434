"""The step: what happens when one stream minibatch arrives. The only loop there is.

strategy.begin
passes times, if strategy.learns:
                batch   <- strategy.draw, augmented afresh
                loss    <- method.loss + strategy.loss
                params  <- optimizer, along strategy.gradient
                model   <- method.update;  strategy.update
strategy.end
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ocssl_jax.core import (
    Array,
    Augment,
    Key,
    Learner,
    Method,
    Outputs,
    Prepare,
    Stream,
    Term,
    TrainState,
)
from ocssl_jax.losses import masked_mean
from ocssl_jax.mesh import over_data
from ocssl_jax.optim import Optimizer
from ocssl_jax.strategies.base import Strategy

Metrics = dict[str, Array]
Init = Callable[[Key, Stream], TrainState]
Step = Callable[[TrainState, Stream], tuple[TrainState, Metrics]]


def weighted(term: Array | Term) -> Array:
    """What a loss term adds to the total []."""
    return term.weight * term.value if isinstance(term, Term) else term


def where_wanted(wanted: Array | None, passes: Callable[[Any], Any], carry: Any) -> Any:
    """`passes(carry)`; where these are not wanted the carry as it is, and zeros."""
    if wanted is None:
        return passes(carry)
    blank = lambda x: jnp.zeros(x.shape, x.dtype)
    none = jax.tree.map(blank, jax.eval_shape(passes, carry)[1])
    return jax.lax.cond(wanted, passes, lambda carry: (carry, none), carry)


def make_step(
    method: Method,
    strategy: Strategy,
    optimizer: Optimizer,
    *,
    augment: Augment,
    prepare: Prepare,
    passes: int,
) -> tuple[Init, Step]:
    """The pure functions `init` and `train_step` of one learner.

    Args:
      method: the objective.
      strategy: what continual learning adds.
      optimizer: updates the parameters of both.
      augment: raw rows to augmented views.
      prepare: raw rows to normalised images.
      passes: updates a stream batch.

    Returns:
      `init(key, stream) -> TrainState`, which reads shapes off an example `stream`, and
      `train_step(state, stream) -> state, metrics`, whose metrics are scalars, means
      over the passes, and arrays [p] of what each pass's draw told. Both may be jitted,
      vmapped over a leading axis of seeds, and donated.
    """
    objective_name = "ssl" if method.head is None else "supervised"

    def learner_of(params: Any, model: Any) -> Learner:
        return Learner(params["method"], model, method, prepare)

    def init(key: Key, stream: Stream) -> TrainState:
        k_method, k_strategy, k_run = jax.random.split(key, 3)
        params, model = method.init(k_method, prepare(stream.image[:1]))
        learner = Learner(params, model, method, prepare)
        extra, kept = strategy.init(k_strategy, learner, stream)
        params = {"method": params, "strategy": extra}
        step = jnp.zeros((), jnp.int32)
        return TrainState(k_run, step, params, model, kept, optimizer.init(params))

    def one_pass(
        stream: Stream, carry: Any, x: tuple[Array, Key]
    ) -> tuple[Any, tuple[Outputs, Metrics, Metrics]]:
        params, model, kept, opt_state = carry
        i, key = x
        k_draw, k_loss = jax.random.split(key)
        learner = learner_of(params, model)
        batch = strategy.draw(k_draw, kept, learner, stream, augment)
        batch = dataclasses.replace(batch, views=over_data(batch.views))

        def objective(params: Any) -> tuple[Array, tuple[Outputs, Metrics]]:
            out = method.loss(params["method"], model, batch, k_loss)
            added = strategy.loss(
                params["strategy"], kept, learner_of(params, model), batch, out
            )
            terms = {objective_name: masked_mean(out.loss, batch.loss_mask)}
            terms |= {name: weighted(term) for name, term in added.items()}
            total = jnp.sum(jnp.stack([*terms.values()]))
            return total, (out._replace(terms=added), terms)

        (loss, (out, terms)), grads = jax.value_and_grad(objective, has_aux=True)(
            params
        )
        k_slope = jax.random.fold_in(key, 2)  # `split(key)` is 0 and 1
        grads = strategy.gradient(k_slope, kept, learner, batch, grads)
        rate = optimizer.learning_rate(opt_state, i)
        params, opt_state = optimizer.update(grads, opt_state, params, i)
        model = method.update(params["method"], out.model)
        kept = strategy.update(kept, learner_of(params, model), batch, out)
        metrics = {
            "loss": loss,
            **{f"loss_{name}": value for name, value in terms.items()},
            "gradient_norm": optax.tree.norm(grads),
            "learning_rate": rate,
            "rows": jnp.sum(batch.mask),
        }
        out = out._replace(model=(), terms=())
        return (params, model, kept, opt_state), (out, metrics, batch.told)

    def train_step(state: TrainState, stream: Stream) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        k_begin, k_passes, k_end = jax.random.split(key, 3)

        learner = learner_of(state.params, state.model)
        kept, model = strategy.begin(k_begin, state.strategy, learner, stream)

        carry = (state.params, model, kept, state.opt_state)
        xs = (jnp.arange(passes), jax.random.split(k_passes, passes))
        carry, (outs, seen, told) = where_wanted(
            strategy.learns(kept, stream),
            lambda c: jax.lax.scan(lambda c, x: one_pass(stream, c, x), c, xs),
            carry,
        )
        params, model, kept, opt_state = carry
        out = jax.tree.map(lambda y: y[-1], outs)
        metrics = jax.tree.map(lambda y: jnp.mean(y, axis=0), seen)
        metrics["parameter_norm"] = optax.tree.norm(params)

        learner = learner_of(params, model)
        kept, model = strategy.end(k_end, kept, learner, stream, out)
        state = TrainState(state.key, state.step + 1, params, model, kept, opt_state)
        return state, metrics | told | strategy.metrics(kept)

    return init, train_step
