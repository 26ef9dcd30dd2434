r"""Continual CLIP on DomainNet: ViT-B/16, the same 345 classes in 6 domains.

Paper and variants as in configs/clip_cifar100.py, but for `icarl`, `der` and
`foster`, about classes that come once; and `cassle`, the supervised contrastive loss of
the images with CaSSLe's distillation and no memory, judged by linear evaluation on all
domains. Domains in CaSSLe's order, real, quickdraw, painting, sketch, infograph,
clipart; one epoch each, batches of 256. A class's memory is shared by the domains met.

  python launch.py --config=configs/clip_domainnet.py:VARIANT \
      --config.stream.data_dir=DIR --config.method.clip.weights=FOLDER

DIR holds tfds' prepared domainnet. MEMORY small is 345 images, one a class; large
3,450.

Expected: no number of the paper is at hand. Cost: 1,600 batches a seed; for a GPU.
"""

from ml_collections import ConfigDict

from configs import clip_cifar100 as cifar

MEMORY = {"none": 0, "small": 345, "large": 3450}
ONCE = ("icarl", "der", "foster")  # about classes that come once
SHARED = (name for name in cifar.VARIANTS if not name.startswith(ONCE))
VARIANTS = (*SHARED, "cassle")


def get_config(variant: str = "gcl") -> ConfigDict:
    """Three seeds of one of `VARIANTS`.

    Raises:
      ValueError: if it is none of them.
    """
    config = cifar.large()
    config.stream.update(
        {"dataset": "domainnet", "kind": "domain", "tasks": 6, "batch_size": 256}
    )
    cifar.choose(
        config,
        variant,
        variants=VARIANTS,
        memory=MEMORY,
        balanced=32,
        task_size=20_000,
    )
    return config
