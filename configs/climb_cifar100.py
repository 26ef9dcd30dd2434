r"""CLIMB on Split CIFAR-100, the paper's protocol (variants 20, 50, 100 tasks).

Paper: Lefebvre, Duffner, Lefort, "CLIMB", CoLLAs 2026; settings of its released
configuration: ResNet-18, SimCLR at temperature 0.5, projector 2048, SGD with learning
rate 0.3, lambda 2, EMA 0.999, N 2500, L 100, K 60, M 30, w 1000, p 0.95.

  python launch.py --config=configs/climb_cifar100.py:20 \
      --config.stream.data_dir=DIR --config.seeds=0,1,2

DIR holds tfds' prepared cifar100 (`python -m ocssl_jax.data.prepare cifar100`).

Cost: 4,500 stream batches, 13,500 updates, about 12 PFLOP a seed. On a CPU this takes
more than a day; there `--config.stream.limit=5` shows that it runs.
Expected, the paper's (mean ± std, %):
  tasks   CA             FA
  20      41.33 ± 0.72   44.09 ± 0.30
  50      38.68 ± 1.04   43.15 ± 0.58
  100     38.60 ± 1.22   43.37 ± 0.84
Not yet reproduced with this library: RESULTS.md says what has been run. The paper's
numbers were presumably made by its released code, which
`--config.fidelity=reference` follows.
"""

from ml_collections import ConfigDict

from configs import split_cifar100


def get_config(tasks: str = "20") -> ConfigDict:
    """One seed; `tasks` is 20, 50 or 100."""
    if tasks not in split_cifar100.TASKS:
        raise ValueError(f"climb_cifar100 has the variants 20, 50, 100, not {tasks!r}")
    return split_cifar100.get_config(f"climb-{tasks}")
