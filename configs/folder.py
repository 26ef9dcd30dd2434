"""CLIMB on a folder of unlabelled pictures that grows, such as a camera's.

  python -m ocssl_jax.follow ~/camera --workdir runs/camera

Pictures of any size become 64 x 64. Nothing is probed, since nothing has a label; use
the encoder by `python -m ocssl_jax.embed runs/camera FOLDER --out features.parquet`.
A folder that is complete can be run as an ordinary experiment, mixed, with a report:

  python launch.py --config=configs/folder.py --config.stream.data_dir=DIR

whose pictures lie in DIR/train.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """The slim ResNet-18, one seed, a checkpoint every 50 stream batches."""
    config = default.get_config()
    config.stream.update(
        {"dataset": "folder", "kind": "iid", "tasks": 1, "image_size": 64}
    )
    config.stream.data_dir = "."
    config.backbone.name = "slim_resnet18"
    config.method.projection = 512
    config.probe.names = ()
    config.checkpoint.every = 50
    return config
