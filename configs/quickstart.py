"""CLIMB on scikit-learn's digits.

python launch.py
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
    config.strategy.memory_size = 400
    config.strategy.align_hidden = 64
    config.strategy.climb.centroid_memory.update(
        {"stm": 40, "ltm": 20, "images_per_centroid": 10, "window": 200}
    )
    config.optimizer.learning_rate = 0.1
    return config
