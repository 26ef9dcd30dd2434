r"""MiniImagenet Split: 100 classes in 20 tasks, one head, every image once.

Paper: Aljundi et al., "Online Continual Learning with Maximally Interfered Retrieval"
(NeurIPS 2019), table 4.

  python launch.py --config=configs/mir_miniimagenet.py:VARIANT
  python -m ocssl_jax.report runs/mir_miniimagenet-*

and `--config.stream.data_dir=DIR` with the images, in one of the layouts of
`ocssl_jax/data/miniimagenet.py`. Published, %, 15 runs, 10,000 images of memory:

  VARIANT       accuracy     forgetting
  er            24.7 +- 0.7  23.5 +- 1.0
  er_mir        25.2 +- 0.6  18.0 +- 0.8   MI-1 of 25 candidates

Three updates a stream batch. The table has no other rows; `finetune`, `iid_online` and
`iid_offline` are there for comparison.

Cost: 4,560 stream batches a seed, and 212 MB of memory; for a GPU.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import mir_mnist_split as split

PUBLISHED: dict[str, tuple[Any, Any]] = {
    "er": ((24.7, 0.7), (23.5, 1.0)),
    "er_mir": ((25.2, 0.6), (18.0, 0.8)),
    "finetune": ((), ()),
    "iid_online": ((), ()),
    "iid_offline": ((), ()),
}


def get_config(variant: str = "er_mir") -> ConfigDict:
    """One of the rows of `PUBLISHED`."""
    config = split.shared()
    config.seeds, config.passes = tuple(range(15)), 3
    config.stream.update({"dataset": "miniimagenet", "tasks": 20})
    config.stream.order = tuple(range(100))
    config.stream.update({"samples": 0, "pixels": "signed"})
    config.backbone.update({"name": "reduced_resnet18", "width": 0})
    config.method.supervised.classes = 100
    config.strategy.memory_size = 10_000
    config.strategy.er_mir.update({"score": "mi1", "candidates": 25})
    config.reference = split.reference({})
    return split.varied(config, variant, PUBLISHED)
