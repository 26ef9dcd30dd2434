r"""Continual CLIP on ImageNet: ViT-B/16, 1,000 classes in 10 tasks.

Paper and variants as in configs/clip_cifar100.py; classes in the order of NumPy's
legacy generator with seed 1993, one epoch a task, batches of 256.

  python launch.py --config=configs/clip_imagenet.py:VARIANT \
      --config.stream.data_dir=DIR --config.method.clip.weights=FOLDER \
      --config.method.clip.names=LOC_synset_mapping.txt

DIR holds the class folders `train` and `val`, or tfds' prepared imagenet2012; the file
of names comes with ImageNet. MEMORY small is 1,000 images, large 20,000.

Expected: no number of the paper is at hand. The weights alone get 70.2 % with many
prompts (open_clip's table, laion2b_s34b_b88k). Cost: 5,000 batches a seed; for several
GPUs.
"""

from ml_collections import ConfigDict

from configs import clip_cifar100 as cifar

MEMORY = {"none": 0, "small": 1000, "large": 20_000}
VARIANTS = cifar.VARIANTS


def get_config(variant: str = "gcl") -> ConfigDict:
    """Three seeds of one of `VARIANTS`."""
    config = cifar.large()
    config.stream.update({"dataset": "imagenet", "tasks": 10, "batch_size": 256})
    config.stream.order = cifar.order_of(1000)
    cifar.choose(config, variant, memory=MEMORY, balanced=64, task_size=20_000)
    return config
