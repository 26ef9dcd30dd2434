"""The smallest learner of every kind: 8 x 8 images, an MLP, memories of a few rows."""

from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from configs import default
from ocssl_jax import dotted, settings
from ocssl_jax.clip.tokenizer import byte_symbols
from ocssl_jax.core import Stream, TrainState
from ocssl_jax.learning import Learning, make_learning
from ocssl_jax.pairs import POOLED, WORDS
from ocssl_jax.strategies import STRATEGIES, SUPERVISED

SHAPE = (8, 8, 1)
BATCH = 4
NAMES = tuple(f"kind {letter}" for letter in "abcdefghij")  # of the classes
SSL = tuple(name for name in STRATEGIES if name not in SUPERVISED)
NETWORKS = {"mae": {"name": "vit_tiny", "width": 12, "depth": 1}}  # of a method


def method_of(strategy: str) -> str:
    """A method that a strategy can work with."""
    if strategy in WORDS:
        return "clip"
    return "supervised" if strategy in SUPERVISED else "simclr"


def strategy_of(method: str) -> str:
    """A strategy with replay that a method can work with, if there is one."""
    return "none" if method == "clip" else "er"


def tiny_config(**fields: Any) -> ConfigDict:
    """The default config made small; `fields` are dotted names with __ for dots."""
    config = default.get_config()
    config.passes = 2
    config.augment.name = "glyphs"  # compiles faster than colours do
    own = NETWORKS.get(fields.get("method__name", ""), {"name": "mlp", "width": 16})
    config.backbone.update(own)
    config.method.projection = 12
    config.method.mae.decoder_layers = 1
    config.method.clip.text.update({"width": 8, "heads": 2})
    for name in ("simsiam", "byol"):
        config.method[name].prediction_hidden = 8
    config.stream.update({"batch_size": BATCH, "tasks": 4})
    config.strategy.update({"replay_size": 6, "memory_size": 24, "align_hidden": 8})
    config.strategy.climb.centroid_memory.update(
        {"stm": 4, "ltm": 3, "images_per_centroid": 3, "window": 10, "percentile": 0.5}
    )
    config.strategy.er_mir.candidates = 9
    config.strategy.icarl.task_size = 24
    config.strategy.ewc.samples = 5
    if fields.get("strategy__name") == "foster":  # an epoch each
        config.stream.epochs = 2
    for name in ("co2l", "der"):
        config.strategy[name].update({"task_size": 24, "classifier_steps": 50})
    objective = POOLED.get(fields.get("strategy__name", ""), "cross_entropy")
    config.method.clip.objective = objective
    for name in ("gen", "gen_mir"):
        config.strategy[name].replay_batches = 2
        config.strategy[name].generator.update({"hidden": 8, "latent": 3})
    for name in ("ae", "ae_mir"):
        config.strategy[name].autoencoder.update({"width": 4, "learns_on": True})
    config.strategy.ae_mir.candidates = 9
    overrides = {name.replace("__", "."): value for name, value in fields.items()}
    for name, value in overrides.items():
        dotted.put(config, name, value)
    return settings.resolve(config, overrides)


def tiny_learning(**fields: Any) -> Learning:
    """Functions of a tiny learner."""
    config = tiny_config(**fields)
    return make_learning(
        config,
        shape=SHAPE,
        mean=(0.5,),
        std=(0.3,),
        class_names=NAMES,
        train_images=len(NAMES) * 5 * BATCH,
    )


def stream(
    batches: int, *, seed: int = 0, short: bool = True, labelled: bool = False
) -> Iterator[Stream]:
    """Batches of random images; the last one is short if asked.

    Experiences are of five batches; if asked with labels, two new ones each.
    """
    rng = np.random.default_rng(seed)
    for i in range(batches):
        mask = np.ones(BATCH, bool)
        if short and i == batches - 1:
            mask[2:] = False
        label = 2 * (i // 5) + np.arange(BATCH, dtype=np.int32) % 2
        pool = np.bincount(np.repeat(label, 5), minlength=len(NAMES))
        yield Stream(
            pool=jnp.asarray(pool, jnp.float32) if labelled else None,
            label=jnp.asarray(label) if labelled else None,
            image=jnp.asarray(rng.integers(0, 256, (BATCH, *SHAPE), np.uint8)),
            id=jnp.arange(i * BATCH, (i + 1) * BATCH, dtype=jnp.int32),
            mask=jnp.asarray(mask),
            boundary=jnp.asarray(i % 5 == 0),
        )


def merges(folder: Path, vocabulary: int) -> Path:
    """A table of merges that makes a vocabulary of that size."""
    folder.mkdir(exist_ok=True)
    pairs = islice(product(byte_symbols(), repeat=2), vocabulary - 2 * 256 - 2)
    path = folder / "merges.txt"
    path.write_text("\n".join(["#version", *(f"{a} {b}" for a, b in pairs)]))
    return path


def bits(tree: Any) -> list[np.ndarray]:
    """Leaves as numpy arrays, keys as their data: what bit-equality is about."""
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return [
        np.asarray(jax.random.key_data(x) if is_key(x) else x)
        for x in jax.tree.leaves(tree)
    ]


def equal(a: TrainState, b: TrainState) -> bool:
    """Whether two states have the same structure and the same bits."""
    same = jax.tree.structure(a) == jax.tree.structure(b)
    return same and all(
        x.dtype == y.dtype and np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        for x, y in zip(bits(a), bits(b), strict=True)
    )
