"""A finished run of no stream batch: what it leaves of its encoders, made at once."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from tiny import tiny_config

from ocssl_jax import encoders, saved, settings, workdir
from ocssl_jax.core import Stream
from ocssl_jax.learning import Learning, make_learning
from ocssl_jax.pixels import Pixels

SEEDS = (0, 3)


def finished(
    folder: Path, *, side: int = 8, channels: int = 3, **fields: Any
) -> tuple[Learning, dict[int, Any]]:
    """Write it to `folder`; its learner, and by seed the variables of its encoders."""
    config = tiny_config(seeds=SEEDS, probe__batch_size=4, **fields)
    pixels = Pixels((side, side, channels), (0.4,) * channels, (0.3,) * channels)
    shape, mean, std = pixels
    learning = make_learning(config, shape=shape, mean=mean, std=std)
    rows = config.stream.batch_size
    stream = Stream(
        image=jnp.zeros((rows, *shape), jnp.uint8),
        id=jnp.arange(rows),
        mask=jnp.ones(rows, bool),
        boundary=jnp.array(True),
        label=jnp.zeros(rows, jnp.int32) if learning.method.head else None,
    )
    init = jax.jit(learning.init)
    states = {seed: init(jax.random.key(seed), stream) for seed in SEEDS}
    workdir.write(
        folder / "config.json", json.dumps({"config": settings.as_json(config)})
    )
    saved.save(folder / encoders.FINAL, config, learning, states, pixels)
    return learning, dict(encoders.of(states, learning.encoder, learning.head))
