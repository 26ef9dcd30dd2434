r"""Continual CLIP on two CPU cores: CIFAR-100, its own CLIP, 40 classes in 4 tasks.

Paper: King, Li, Yang, Mortazavi, "Memory-Efficient Continual Learning with CLIP Models"
(arXiv 2605.03866), whose protocol this has in small; its objectives are reconstructed
(docs/clip.md), and none of its numbers is claimed.

  python launch.py --config=configs/clip_small.py:pretrain --config.stream.data_dir=DIR
  python launch.py --config=configs/clip_small.py:VARIANT --config.stream.data_dir=DIR
  python -m ocssl_jax.report runs/clip_small-*

`pretrain` learns 60 classes and their texts; every VARIANT starts from its learner (the
workdirs are the default ones, else give `--config.method.pretrained=FILE`) and meets
the other 40 classes, ten at a time. Beside each run is the zero-shot row: the learner
of `pretrain`, held constant. DIR holds tfds' prepared cifar100.

  finetune    cross entropy of the classes met, no memory
  ce_memory   the same with a memory of 100 images
  gcl         global contrastive loss, with that memory
  gdro        group DRO of the classes' contrasts, with that memory

`--config.stream.memory=0` or any other number is the sweep over memory sizes. The order
of classes is that of NumPy's legacy generator with seed 1993.
"""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from configs import default
from ocssl_jax import dotted

KNOWN, TASKS, MEMORY = 60, 4, 100
ORDER = tuple(np.random.RandomState(1993).permutation(100).tolist())
LEARNER = "runs/clip_small-pretrain/learner/seed_0.safetensors"
VARIANTS: dict[str, dict[str, Any]] = {
    "pretrain": {
        "stream.kind": "iid",
        "stream.order": ORDER,
        "stream.classes": KNOWN,
        "stream.tasks": 1,
        "stream.epochs": 4,
        "method.clip.objective": "info_nce",
        "method.pretrained": "",
        "optimizer.learning_rate": 1e-3,
        "checkpoint.learner": True,
        "baselines": (),
    },
    "finetune": {},
    "ce_memory": {"stream.memory": MEMORY},
    "gcl": {"stream.memory": MEMORY, "method.clip.objective": "gcl"},
    "gdro": {"stream.memory": MEMORY, "method.clip.objective": "gdro"},
}


def get_config(variant: str = "gcl") -> ConfigDict:
    """One of `VARIANTS`.

    Raises:
      ValueError: if it is none of them.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variants are {', '.join(VARIANTS)}, not {variant!r}")
    config = default.get_config()
    config.passes = 1
    config.baselines = ("zero_shot",)
    config.augment.name = "glyphs"  # compiles fast
    config.stream.update(
        {
            "order": ORDER[KNOWN:] + ORDER[:KNOWN],
            "classes": 100 - KNOWN,
            "tasks": TASKS,
            "epochs": 3,
            "batch_size": 64,
        }
    )
    config.backbone.name = "convnet"
    config.method.update({"name": "clip", "projection": 64, "pretrained": LEARNER})
    config.strategy.name = "none"
    config.optimizer.update(
        {"name": "adam", "learning_rate": 3e-4, "weight_decay": 0.0}
    )
    config.probe.names = ("classifier",)
    config.checkpoint.encoders = False
    for name, value in VARIANTS[variant].items():
        dotted.put(config, name, value)
    return config
