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
of `pretrain`, held constant. DIR holds tfds' prepared cifar100. VARIANT is one of those
of configs/clip_cifar100.py, MEMORY small 100 images and large 400.

`--config.stream.memory=0` or any other number is the sweep over memory sizes. The order
of classes is that of NumPy's legacy generator with seed 1993.
"""

from ml_collections import ConfigDict

from configs import clip_cifar100 as cifar

KNOWN, TASKS = 60, 4
MEMORY = {"none": 0, "small": 100, "large": 400}
ORDER = cifar.order_of(100)
LEARNER = "runs/clip_small-pretrain/learner/seed_0.safetensors"
VARIANTS = ("pretrain", *cifar.VARIANTS)


def small() -> ConfigDict:
    """The small network and its optimizer, starting from what `pretrain` has learnt."""
    config = cifar.shared()
    config.augment.name = "glyphs"  # compiles fast
    config.backbone.name = "convnet"
    config.method.update({"projection": 64, "pretrained": LEARNER})
    # The best of 100 to 100,000 on validation images (RESULTS.md).
    config.strategy.ewc.weight = 100.0
    config.optimizer.update(
        {"name": "adam", "learning_rate": 3e-4, "weight_decay": 0.0}
    )
    return config


def pretraining() -> ConfigDict:
    """The classes that are known before the stream begins, all at once."""
    config = small()
    config.stream.update({"kind": "iid", "tasks": 1, "classes": KNOWN, "order": ORDER})
    config.stream.update({"epochs": 4, "batch_size": 64})
    config.method.update({"pretrained": ""})
    config.method.clip.objective = "info_nce"
    config.optimizer.learning_rate = 1e-3
    config.checkpoint.learner = True
    config.baselines = ()
    return config


def get_config(variant: str = "gcl") -> ConfigDict:
    """One of `VARIANTS`.

    Raises:
      ValueError: if it is none of them.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variants are {', '.join(VARIANTS)}, not {variant!r}")
    if variant == "pretrain":
        return pretraining()
    config = small()
    order = ORDER[KNOWN:] + ORDER[:KNOWN]
    config.stream.update({"tasks": TASKS, "classes": 100 - KNOWN, "order": order})
    config.stream.update({"epochs": 3, "batch_size": 64})
    cifar.choose(config, variant, memory=MEMORY, balanced=8, task_size=4500)
    return config
