"""Whole learners as files, for one run to go on from where another one ended.

A run writes `learner/seed_<s>.safetensors` if `checkpoint.learner` asks for it: all
that its method trains and carries, encoder, projector and predictor, BN statistics and
slow copies, as tensors `params.*` and `model.*`. Strategies and optimizers start anew.
`method.pretrained` names such a file; every seed starts from it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import numpy as safetensors

from ocssl_jax import encoders, pretrained
from ocssl_jax.core import Array, Key, Method, Model, Params, TrainState
from ocssl_jax.workdir import write_bytes

FOLDER = "learner"
FIELD = "config.method.pretrained"


def save(folder: Path, states: Mapping[int, TrainState], method: Method) -> None:
    """Write the learner of each seed in `states` to `folder`."""
    for seed, state in states.items():
        model = {k: v for k, v in state.model.items() if k not in method.own}
        parts = {"params": state.params["method"], "model": model}
        tensors: dict[str, Any] = {}
        for name, tree in parts.items():
            tensors |= encoders.named(jax.device_get(tree), name)
        write_bytes(encoders.file(folder, seed), safetensors.save(tensors))


def handed_over(method: Method, path: str, *, shape: tuple[int, ...]) -> Method:
    """`method` starting from the learner in a file, whatever the key.

    Args:
      method: of the same kind and size as the one that was saved.
      path: of the file.
      shape: of the images, (h, w, c).

    Raises:
      UsageError: if the file cannot be read or is of another learner.
    """
    tensors = pretrained.read(Path(path).expanduser(), field=FIELD)
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    params, model = jax.eval_shape(method.init, jax.random.key(0), image)
    model = {part: tree for part, tree in model.items() if part not in method.own}
    like = {"params": params, "model": model}
    wanted = {".".join(leaf): x.shape for leaf, x in flatten_dict(like).items()}
    pretrained.check(path, tensors, wanted, field=FIELD, what="method")
    leaves = flatten_dict(like, keep_empty_nodes=True)
    filled = unflatten_dict(
        {leaf: tensors.get(".".join(leaf), x) for leaf, x in leaves.items()}
    )

    def init(key: Key, image: Array) -> tuple[Params, Model]:
        _, new = method.init(key, image)
        first = jax.tree.map(jnp.asarray, filled)
        return first["params"], first["model"] | {
            part: new[part] for part in method.own
        }

    return method._replace(init=init)
