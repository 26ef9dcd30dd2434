"""One step of the fine-tuning of CLIP: whatever the criterion, this is the loop's body.

batch, augmented afresh -> image features;  class texts -> text features
cosines in full precision -> criterion -> gradient of both towers -> optimizer

The state is `core.TrainState`, with what the criterion carries in `strategy`; it is
never started anew between tasks. The tasks, their pool and who makes the batches are
the caller's.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from ocssl_jax.backbones.norm import visible
from ocssl_jax.clip.architecture import Architecture
from ocssl_jax.clip.criteria import Batch, Classes, Criterion
from ocssl_jax.clip.towers import Clip
from ocssl_jax.clip.zero_shot import similarities
from ocssl_jax.core import Array, Augment, Key, Params, TrainState

Metrics = dict[str, Array]
Init = Callable[[Key, Params, int, int], TrainState]
Step = Callable[[TrainState, Batch, Classes, Array], tuple[TrainState, Metrics]]


def adamw(
    rate: optax.ScalarOrSchedule, *, weight_decay: float
) -> optax.GradientTransformation:
    """AdamW with CLIP's betas; only matrices decay (Radford et al. 2021, table 18).

    Norms, biases, the class token and the scale, which no criterion here moves, stay.
    """
    return optax.adamw(
        rate,
        b1=0.9,
        b2=0.98,
        eps=1e-6,
        weight_decay=weight_decay,
        mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
    )


def make_step(
    architecture: Architecture,
    criterion: Criterion,
    optimizer: optax.GradientTransformation,
    *,
    augment: Augment,
    dtype: DTypeLike,
) -> tuple[Init, Step]:
    """The pure functions `init` and `train_step`.

    Args:
      architecture: of the network.
      criterion: what is minimised.
      optimizer: moves the parameters of both towers.
      augment: uint8 rows to one normalised view of each, [1 n h w 3].
      dtype: of the towers' computation; parameters, features, cosines and losses are
        float32.

    Returns:
      `init(key, params, images, classes) -> TrainState` of a run with so many training
      images and classes in all, and
      `train_step(state, batch, classes, tokens) -> state, metrics`, tokens [k t] being
      the text of each class. It may be jitted and donated; what changes with the task
      are arrays of the same shapes, so that it compiles once.
    """
    module = Clip(architecture, dtype)

    def init(key: Key, params: Params, images: int, classes: int) -> TrainState:
        return TrainState(
            key=key,
            step=jnp.zeros((), jnp.int32),
            params=params,
            model=(),
            strategy=criterion.init(images, classes),
            opt_state=optimizer.init(params),
        )

    def train_step(
        state: TrainState, batch: Batch, classes: Classes, tokens: Array
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        view = visible(augment(key, batch.image)[0], batch.mask)

        def objective(params: Params) -> tuple[Array, tuple[Any, Metrics]]:
            features: Any = module.apply({"params": params}, view, tokens)
            cosines = similarities(*features)
            loss, kept, told = criterion.loss(state.strategy, cosines, batch, classes)
            return loss, (kept, told)

        (loss, (kept, told)), grads = jax.value_and_grad(objective, has_aux=True)(
            state.params
        )
        moves, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, moves)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(grads), **told}
        state = TrainState(state.key, state.step + 1, params, (), kept, opt_state)
        return state, metrics

    return init, train_step
