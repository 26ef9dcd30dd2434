r"""CIFAR-100 cut to what two CPU cores do in 20 minutes: 20 classes in 10 tasks.

Paper: CLIMB (Lefebvre, Duffner, Lefort, CoLLAs 2026), whose protocol this keeps: stream
batches of 10 images, 3 passes, SimCLR, joint probes after each task. Cut for the CPU:
the classes (the first 20 of the order that seed 42 draws), the network (four
convolutions instead of a ResNet-18), the replayed rows (40 for 128), the memory (500
images for 2500, its centroids in proportion), the projector (256 for 2048) and the
labels that a probe is trained on (100 a class; the linear probe is tuned on the whole
validation split besides). All strategies share one learning rate.

  python launch.py --config=configs/small_cifar100.py[:STRATEGY] \
      --config.stream.data_dir=DIR

STRATEGY is any name of `strategy.name`, climb by default; DIR holds tfds' prepared
cifar100. Cost and numbers: RESULTS.md.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(strategy: str = "climb") -> ConfigDict:
    """Three seeds of one strategy."""
    config = default.get_config()
    config.seeds = (0, 1, 2)
    config.baselines = ("random",)
    config.stream.classes = 20
    config.stream.tasks = 10
    config.backbone.name = "convnet"
    config.method.projection = 256
    config.strategy.name = strategy
    config.strategy.replay_size = 40
    config.strategy.memory_size = 500
    config.strategy.align_hidden = 128
    config.strategy.align_weight = 2.0
    config.strategy.ema_decay = 0.99  # the stream is short: 2,700 updates
    config.strategy.climb.centroid_memory.update(
        {"stm": 60, "ltm": 20, "images_per_centroid": 15, "window": 500}
    )
    config.probe.names = ("linear", "ridge", "knn")
    config.probe.labels_per_class = 100
    return config
