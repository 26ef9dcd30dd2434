"""A network with a last block for every task, side by side on shared earlier blocks.

As in MEMO (Zhou et al. 2023), after whom the blocks before the last are shared, and DER
(Yan et al. 2021), whose networks are held once their task has ended. Features of T
tasks are [n T f]: those of each earlier task's block, of the newest, and 0 for tasks to
come. All T blocks are there from the start; which of them live is a number.

What is held lives with the statistics, where no optimizer reaches it: neither momentum
nor decay moves it on. The newest block alone is trained, and goes on from the one
before it. The shared blocks are trained in the first task and held from then on.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from ocssl_jax.backbones.clip_vit import ImageEncoder
from ocssl_jax.backbones.convnet import ConvNet
from ocssl_jax.backbones.mlp import Mlp
from ocssl_jax.core import Array, Key, Variables

Tree = Mapping[str, Any]


def last_block(module: nn.Module) -> tuple[str, ...]:
    """The names of what a network grows by.

    Raises:
      ValueError: if it is none that can grow.
    """
    if isinstance(module, ImageEncoder):
        return f"block_{module.architecture.image.layers - 1}", "norm_after"
    if isinstance(module, ConvNet):
        return "conv4", "norm4"
    if isinstance(module, Mlp):
        return ("features",)
    raise ValueError(
        f"name must be clip_*, convnet or mlp for a network that grows, and not a "
        f"{type(module).__name__}"
    )


class Grown(NamedTuple):
    """A network of `tasks` last blocks, called as a Linen module is.

    `params` are those of the module. `batch_stats` are `now`, the module's; `shared`
    and `past`, the held blocks' variables, of which `past` has a first axis [T - 1];
    and `count` [] int32, how many of these live.
    """

    module: nn.Module
    tasks: int  # T
    last: tuple[str, ...]  # names of the last block's parts

    def init(self, key: Key, images: Array, *, train: bool) -> Variables:
        """The variables before the first task."""
        found = self.module.init(key, images, train=train)
        params, stats = found["params"], found.get("batch_stats", {})
        return {"params": params, "batch_stats": self.begun(params, stats)}

    def begun(self, params: Tree, stats: Tree) -> dict[str, Any]:
        """`batch_stats` of a module with `params` and `stats`; nothing is held yet."""
        parts = {"params": params, "batch_stats": stats}
        shared = {name: without(tree, self.last) for name, tree in parts.items()}
        past = {name: only(tree, self.last) for name, tree in parts.items()}
        rows = lambda x: jnp.zeros((self.tasks - 1, *x.shape), x.dtype)
        return {
            "now": stats,
            "shared": jax.tree.map(jnp.zeros_like, shared),
            "past": jax.tree.map(rows, past),
            "count": jnp.zeros((), jnp.int32),
        }

    def apply(
        self,
        variables: Variables,
        images: Array,
        *,
        train: bool,
        mask: Array | None = None,
        mutable: Sequence[str] = (),
    ) -> Any:
        """Features [n T f], and with `mutable` what has moved, as a module's `apply`.

        Held blocks see with running statistics, those of the end of their task.
        """
        held: Any = variables["batch_stats"]
        count, shared = held["count"], held["shared"]
        own = without(variables["params"], self.last)
        keep = lambda kept, new: jnp.where(count > 0, kept, new)
        params = {
            **jax.tree.map(keep, shared["params"], own),
            **only(variables["params"], self.last),
        }
        # Of a network without BN it is empty, and files keep nothing that is empty.
        given = {"params": params, "batch_stats": held.get("now", {})}
        look: Any = {"train": train, "mask": mask}
        new: Any
        moved: Any = {}
        if mutable:
            new, moved = self.module.apply(given, images, mutable=mutable, **look)
        else:
            new = self.module.apply(given, images, **look)

        def earlier(block: Any) -> Any:
            whole = {name: {**shared[name], **block[name]} for name in shared}
            return self.module.apply(whole, images, train=False, mask=mask)

        # Of what has no axis of tasks, the shared blocks, there is one computation.
        old = jax.vmap(earlier)(held["past"])
        features = placed(old, new, count)
        if not mutable:
            return features
        return features, {"batch_stats": {**held, "now": moved.get("batch_stats", {})}}


def grown(params: Tree, stats: Tree) -> dict[str, Any]:
    """`batch_stats` of a `Grown` with `params` once a task has ended.

    The newest block is held, and with the first one the shared blocks. When all T live
    already, nothing changes.
    """
    count, past = stats["count"], stats["past"]
    names = tuple(past["params"])
    new = {"params": params, "batch_stats": stats["now"]}
    push = lambda rows, x: rows.at[count].set(x, mode="drop")
    keep = lambda kept, x: jnp.where(count > 0, kept, x)
    rest = {name: without(tree, names) for name, tree in new.items()}
    block = {name: only(tree, names) for name, tree in new.items()}
    places = len(jax.tree.leaves(past)[0])
    return {
        **stats,
        "shared": jax.tree.map(keep, stats["shared"], rest),
        "past": jax.tree.map(push, past, block),
        "count": jnp.minimum(count + 1, places),
    }


def placed(old: Array, new: Array, count: Array) -> Array:
    """Features [n T f] of `count` of the held blocks [T - 1 n f], then the newest."""
    old = jnp.concatenate([old, jnp.zeros_like(new)[None]])
    task = jnp.arange(len(old))[:, None, None]
    live = jnp.where(task == count, new[None], 0.0)
    all_ = jnp.where(task < count, old, live)
    return all_.transpose(1, 0, 2).reshape(len(new), -1)


def only(tree: Tree, names: tuple[str, ...]) -> dict[str, Any]:
    """The parts of `tree` that are among `names`."""
    return {name: part for name, part in tree.items() if name in names}


def without(tree: Tree, names: tuple[str, ...]) -> dict[str, Any]:
    """The others."""
    return {name: part for name, part in tree.items() if name not in names}
