"""CLIMB on a folder of unlabelled pictures that grows, such as a camera's.

  python -m ocssl_jax.follow ~/camera --workdir runs/camera

Pictures of any size become 64 x 64. Nothing is probed, since nothing has a label; use
the encoder by `python -m ocssl_jax.embed runs/camera FOLDER --out features.parquet`.
A folder that is complete can be run as an ordinary experiment, mixed, with a report:

  python launch.py --config=configs/folder.py:small --config.stream.data_dir=DIR

whose pictures lie in DIR/train. The variant `small` is for two CPU cores: 32 x 32, four
convolutions, 40 replayed rows, a memory of 500. Cost: RESULTS.md.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(variant: str = "") -> ConfigDict:
    """The slim ResNet-18, or `small`; one seed, a checkpoint every 50 stream batches.

    Raises:
      ValueError: if there is no such variant.
    """
    if variant not in ("", "small"):
        raise ValueError(f"the one variant is small, not {variant!r}")
    config = default.get_config()
    config.stream.update(
        {"dataset": "folder", "kind": "iid", "tasks": 1, "image_size": 64}
    )
    config.stream.data_dir = "."
    config.backbone.name = "slim_resnet18"
    config.method.projection = 512
    config.probe.names = ()
    config.checkpoint.every = 50
    return small(config) if variant else config


def small(config: ConfigDict) -> ConfigDict:
    """What two CPU cores do in minutes."""
    config.stream.image_size = 32
    config.backbone.name = "convnet"
    config.method.projection = 256
    config.strategy.update({"replay_size": 40, "memory_size": 500, "align_hidden": 128})
    config.strategy.climb.centroid_memory.update(
        {"stm": 60, "ltm": 20, "images_per_centroid": 15, "window": 500}
    )
    return config
