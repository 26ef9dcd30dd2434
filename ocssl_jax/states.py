"""A learner's state as its user hands it back: not used up, and of the images' size.

A state takes the images that it was made for. Those of another size it takes where the
arrays that are needed for them do not depend on the size, as those of a convolutional
network; a memory of images always does.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ocssl_jax.core import Key, TrainState
from ocssl_jax.errors import UsageError
from ocssl_jax.pixels import Shape

Part = Callable[[TrainState], Any]  # what is needed of a state


def whole(state: TrainState) -> TrainState:
    """The part that is all of it."""
    return state


def typed(key: Any) -> Key:
    """A key of `jax.random.key`, or of `jax.random.PRNGKey` as one of the former.

    Raises:
      UsageError: if it is no single key.
    """
    kind, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    if kind == jnp.uint32 and shape == (2,):
        return jax.random.wrap_key_data(jnp.asarray(key))
    if kind is None or not jnp.issubdtype(kind, jax.dtypes.prng_key) or shape:
        raise UsageError(f"a key is made by jax.random.key(number), got {_kind(key)}")
    return key


def alive(state: Any) -> TrainState:
    """The state, if it is one that can still be used.

    Raises:
      UsageError: if it is none, or `observe` was given it before.
    """
    if not isinstance(state, TrainState):
        raise UsageError(
            f"a state is what init, load or, first of two, observe returned, "
            f"got {_kind(state)}"
        )
    if isinstance(state.step, jax.Array) and state.step.is_deleted():
        raise UsageError(
            "this state was used up by observe; go on with the one that it returned"
        )
    return state


def fits(state: TrainState, like: TrainState, part: Part = whole) -> bool:
    """Whether states have arrays of the same names, those of a part of one shape."""
    if _shapes(state).keys() != _shapes(like).keys():
        return False  # of another learner: it may lack the part
    parts = (jax.eval_shape(part, x) for x in (state, like))
    return _shapes(next(parts)) == _shapes(next(parts))


def made_for(state: TrainState, likes: Mapping[Shape, TrainState]) -> Shape | None:
    """The first shape of images that a state is of, None if of none in `likes`."""
    return next((shape for shape, like in likes.items() if fits(state, like)), None)


def check(
    state: TrainState,
    shape: Shape,
    likes: Mapping[Shape, TrainState],
    part: Part = whole,
) -> None:
    """Refuse images of another size than a state's.

    Args:
      state: its arrays are not read, and may be traced.
      shape: of the images.
      likes: what states for images of a shape are like; for `shape` and maybe others.
      part: what is needed of the state for these images.

    Raises:
      UsageError: naming both sizes, if the state's is among the others.
    """
    if not fits(state, likes[shape], part):
        raise UsageError(told(shape, "this state was", made_for(state, likes)))


def told(shape: Shape, what: str, known: Shape | None) -> str:
    """'images are 48 x 48, this state was made for 32 x 32'."""
    other = size(known) if known else "others, or by a learner of another config"
    return f"images are {size(shape)}, {what} made for {other}"


def size(shape: Shape) -> str:
    """'48 x 64', of pixels: height and width."""
    return f"{shape[0]} x {shape[1]}"


def _kind(given: Any) -> str:
    shape = getattr(given, "shape", None)
    of = "" if shape is None else f" of shape {tuple(shape)}, dtype {given.dtype}"
    return type(given).__name__ + of


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}
