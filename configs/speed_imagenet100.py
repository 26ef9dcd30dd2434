r"""SLCLRS and RALS on ImageNet-100, in the variants of configs/speed_cifar100.py.

  python launch.py --config=configs/speed_imagenet100.py:METHOD-pretrain
  python launch.py --config=configs/speed_imagenet100.py:METHOD-WHICH-STEPS

with `--config.stream.data_dir=DIR`, which holds `train/<wnid>/*` and `val/<wnid>/*` of
the 100 classes of Tian et al. 2020 (the CMC list): of a folder with just these all are
used, in CaSSLe's order; from the whole ImageNet others would be drawn.

As on CIFAR-100, at 224 pixels, with a memory of 20,000 images, a peak of 0.1 for both
methods, a decay of 1e-4, SimCLR's projection of 128, 400 epochs of pretraining.
A task has at most 26,000 images, for which the offline schedules are made; where it has
fewer they end a little early.

Expected, linear evaluation (--probe linear_augmented), the paper's single runs (%):
  steps            10              20              50             100            400
  method      BT     SimCLR   BT     SimCLR   BT     SimCLR   BT     SimCLR   BT  SimCLR
  offline     44.74  58.94    67.94  67.84    69.24  71.26    74.66  73.28
  cassle      49.70  59.70    64.48  63.74    67.56  65.56    69.74  66.94  69.90  67.96
  plain       66.10  64.64    67.02  66.26    66.92  67.48
  rals        66.94  64.86    68.18  66.78    68.40  67.98
At equal compute, rals-10 beside plain-20: 66.94 against 67.02, 64.86 against 66.26.

Cost: about 790 stream batches; PFLOP a seed: pretraining 220, plain 4.4 N, rals 8.8 N.
For a GPU. Not reproduced with this library so far.
"""

from ml_collections import ConfigDict

from configs import speed_cifar100 as cifar100

IMAGES, PRETRAINING = 26_000, 400
RATES = {"byol": 0.6}  # offline, where it is not 0.4


def get_config(variant: str = "simclr-rals-10") -> ConfigDict:
    """One seed of `<method>-pretrain` or `<method>-<which>-<steps>`."""
    method, which, steps = cifar100.parse(variant)
    config = cifar100.shared(method)
    config.stream.update({"dataset": "imagenet100", "image_size": 224})
    config.optimizer.weight_decay = 1e-5 if method == "byol" else 1e-4
    if method == "simclr":
        config.method.projection = 128
    if method == "byol":
        config.method.byol.prediction_hidden = 8192
    if which in cifar100.SELECTIONS:
        cifar100.online(config, which, steps, batch=128)
        config.optimizer.learning_rate = 0.1
    else:
        cifar100.offline(config, which, steps or PRETRAINING, images=IMAGES)
        config.optimizer.learning_rate = RATES.get(method, 0.4)
    if which != "pretrain":
        config.method.pretrained = cifar100.learner("speed_imagenet100", method)
    config.strategy.memory_size = 20_000
    return config
