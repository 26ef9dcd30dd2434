r"""The table of Split ImageNet-100: every strategy, 20, 50 or 100 tasks, regular or not.

Paper: CLIMB (Lefebvre, Duffner, Lefort, CoLLAs 2026); as configs/split_cifar100.py, at
224 pixels, with CLIMB at learning rate 0.1 and lambda 1, as every other strategy.

  python launch.py --config=configs/split_imagenet100.py:STRATEGY-TASKS[-irregular] \
      --config.stream.data_dir=DIR --config.seeds=0,1,2

DIR holds `train/<wnid>/*` and `val/<wnid>/*` of ImageNet (the 100 classes are drawn
from `stream.seed` as in the released code) or tfds' prepared imagenet2012.

Cost: about 11,500 stream batches, 35,000 updates at 224 pixels a seed: for a GPU. The
decoded images take 19 GB beside the data.
Expected, the paper's regular tasks (CA / FA, mean ± std, %):
             20 tasks                    50 tasks                    100 tasks
  climb      47.46 ± 1.76 / 52.92 ± 1.14 46.22 ± 1.27 / 50.34 ± 0.61 44.58 ± 1.13 / 50.21 ± 0.40
  cla_e      45.52 ± 1.22 / 51.03 ± 1.61 43.39 ± 0.96 / 46.78 ± 1.30 42.20 ± 1.29 / 46.78 ± 1.30
  cla_r      42.86 ± 1.48 / 49.89 ± 1.12 40.41 ± 1.64 / 46.06 ± 0.78 39.57 ± 1.43 / 45.81 ± 0.88
  osiris_r   37.06 ± 1.80 / 42.72 ± 2.00 35.64 ± 1.80 / 39.02 ± 0.93 35.04 ± 1.71 / 39.44 ± 1.47
  minred     35.87 ± 1.99 / 43.34 ± 1.71 34.83 ± 2.29 / 42.70 ± 1.11 35.07 ± 1.90 / 41.74 ± 0.83
  scale      28.70 ± 1.45 / 33.43 ± 0.59 29.26 ± 3.64 / 31.74 ± 1.86 22.87 ± 3.09 / 28.08 ± 1.86
CLA-E's two equal FA entries, at 50 and 100 tasks, look like a slip of the source. The
baselines' tuned settings are not published; see configs/split_cifar100.py for the
command that tunes them. Not reproduced with this library so far.
"""  # noqa: E501  the table is worth the width

from ml_collections import ConfigDict

from configs import split_cifar100


def get_config(variant: str = "climb-20") -> ConfigDict:
    """One seed of `<strategy>-<tasks>[-irregular]`."""
    config = split_cifar100.get_config(variant)
    config.stream.dataset = "imagenet100"
    config.stream.image_size = 224
    config.optimizer.learning_rate = 0.1
    config.strategy.align_weight = 1.0
    return config
