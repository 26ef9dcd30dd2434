r"""SLCLRS and RALS cut to what two CPU cores do in 20 minutes: 10 classes of CIFAR-100.

Paper: as configs/speed_cifar100.py. Cut for the CPU: the classes (five tasks of the
first two each of CaSSLe's order), the network (four convolutions instead of a
ResNet-18), the batch (32 rows of the stream), the memory (1,000 images) and the
projector (128). Every run starts from random weights with an empty memory; the first
task is a part of the stream. All share one peak of the learning rate.

  python launch.py --config=configs/speed_small.py:WHICH-SCHEDULE-STEPS
  python -m ocssl_jax.report runs/speed_small-* --compute --out runs/speed_small
  python -m ocssl_jax.evaluate runs/speed_small-WHICH-SCHEDULE-STEPS \
      --probe linear_augmented --last --labels_per_class 0

WHICH     plain, rals, random, all, none: as in configs/speed_cifar100.py, with 32 rows
          for 128
SCHEDULE  cycle: one cycle of rate and momentum a stream batch
          constant: the cycle's mean rate, momentum 0.9
STEPS     updates a stream batch, N; a cycle has at least 3

and `--config.stream.data_dir=DIR` with tfds' prepared cifar100. Questions and answers:

  is it the cycle?        plain-cycle-10     plain-constant-10
  the choice?             rals-cycle-10      random-cycle-10      plain-cycle-10
  the same compute?       rals-cycle-10      plain-cycle-20       all-cycle-13
  the memory?             plain-cycle-10     none-cycle-20

Cost: 145 stream batches a seed, three seeds; rals-cycle-10 is the dearest of N = 10, as
much as plain-cycle-20. What came out: RESULTS.md.
"""

from ml_collections import ConfigDict

from configs import speed_cifar100 as cifar100

BATCH, PEAK = 32, 0.3
MEAN = {10: 0.475, 20: 0.5}  # of a cycle over its peak; near a half for all N


def get_config(variant: str = "rals-cycle-10") -> ConfigDict:
    """Three seeds of `<which>-<schedule>-<steps>`."""
    which, schedule, steps = parse(variant)
    config = cifar100.shared("simclr")
    config.seeds = (0, 1, 2)
    config.stream.update({"dataset": "cifar100", "classes": 10, "val_ratio": 0.1})
    config.backbone.name = "convnet"
    config.method.projection = 128
    config.method.projector.hidden = 256
    cifar100.online(config, which, steps, batch=BATCH)
    config.stream.known = 0
    config.strategy.memory_size = 1000
    config.optimizer.learning_rate = PEAK
    if schedule == "constant":
        config.optimizer.schedule = "constant"
        config.optimizer.learning_rate = PEAK * MEAN.get(steps, 0.5)
    config.probe.names = ("linear", "ridge", "knn")
    config.probe.labels_per_class = 100
    return config


def parse(variant: str) -> tuple[str, str, int]:
    """Which rows, schedule and steps that a variant names.

    Raises:
      ValueError: if it is no variant.
    """
    which, schedule, steps = (variant + "--").split("-")[:3]
    allowed = which in cifar100.SELECTIONS and schedule in ("cycle", "constant")
    if not allowed or variant.count("-") != 2 or not steps.isdecimal():
        raise ValueError(
            f"a variant is WHICH-SCHEDULE-STEPS with WHICH one of "
            f"{', '.join(cifar100.SELECTIONS)} and SCHEDULE cycle or constant, such as "
            f"rals-cycle-10; not {variant!r}"
        )
    return which, schedule, int(steps)
