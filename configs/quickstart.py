"""CLIMB on scikit-learn's 1,797 digits: a first look that needs no download.

  python launch.py

Five tasks of two digits arrive once, in batches of 10, three passes each. The table
compares CLIMB with no strategy and with the random encoder, all judged by the same
probes trained on the same 10 labels a class: with every label 5 nearest neighbours on
the raw pixels are nearly perfect, and no encoder could show anything. Even with 10 the
raw pixels reach 88 %: digits show that the learner remembers, not that it is needed.
For that see small_cifar100.py. Cost and numbers: RESULTS.md.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """A small network, a small memory, three seeds."""
    config = default.get_config()
    config.seeds = (0, 1, 2)
    config.baselines = ("none", "random")
    config.stream.dataset = "digits"
    config.stream.tasks = 5
    config.augment.name = "glyphs"
    config.backbone.name = "convnet"
    config.method.projection = 128
    config.strategy.replay_size = 54
    config.strategy.memory_size = 280
    config.strategy.align_hidden = 64
    config.strategy.climb.centroid_memory.update(
        {"stm": 40, "ltm": 20, "images_per_centroid": 10, "window": 200}
    )
    config.probe.names = ("ridge", "linear", "knn")
    config.probe.labels_per_class = 10
    config.probe.knn.k = 5
    config.log.every = 5
    return config
