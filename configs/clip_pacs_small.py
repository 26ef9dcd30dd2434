r"""Continual CLIP on two CPU cores: PACS, the same 7 classes in 4 domains.

Paper and variants as in configs/clip_domainnet.py. In small: the CLIP is the one that
`configs/clip_small.py` has learnt from CIFAR-100, images are of 32 pixels, and PACS
stands in for DomainNet.

  python launch.py --config=configs/clip_small.py:pretrain --config.stream.data_dir=DIR
  python launch.py --config=configs/clip_pacs_small.py:VARIANT \
      --config.stream.data_dir=PACS

PACS holds the folders <domain>_train/<class> and <domain>_test/<class>, such as
photo_train/dog. Domains come as photo, art painting, cartoon, sketch, three epochs
each. MEMORY small is 28 images, four a class; large 140.

Expected: nothing published is of this size. Cost: 400 batches of 56 images a seed,
minutes.
"""

from ml_collections import ConfigDict

from configs import clip_cifar100 as cifar
from configs import clip_domainnet, clip_small

MEMORY = {"none": 0, "small": 28, "large": 140}
VARIANTS = clip_domainnet.VARIANTS
DOMAINS = (2, 0, 1, 3)  # of those in the order of their names


def get_config(variant: str = "gcl") -> ConfigDict:
    """One of `VARIANTS`.

    Raises:
      ValueError: if it is none of them.
    """
    config = clip_small.small()
    config.stream.update(
        {
            "dataset": "domain_folder",
            "image_size": 32,
            "kind": "domain",
            "tasks": len(DOMAINS),
            "order": DOMAINS,
            "epochs": 3,
            "batch_size": 56,
        }
    )
    cifar.choose(
        config, variant, variants=VARIANTS, memory=MEMORY, balanced=7, task_size=3200
    )
    return config
