"""What arrives: data sets by name, their uint8 cache, and the streams made of them.

`load` opens a data set, `benchmark` cuts it into experiences, `schedule` says in which
order their images arrive. Importing this costs numpy and Pillow only: neither JAX nor
tensorflow-datasets is touched until a data set has to be decoded for the first time.
"""

from ocssl_jax.data.arrivals import Schedule, schedule
from ocssl_jax.data.balanced import balanced
from ocssl_jax.data.datasets import DATASETS, Dataset, fingerprint, load
from ocssl_jax.data.errors import DataError
from ocssl_jax.data.experiences import KINDS, UNLABELLED_KINDS, Benchmark, benchmark
from ocssl_jax.data.permuted import permuted
from ocssl_jax.data.remembered import remembered

__all__ = [
    "DATASETS",
    "KINDS",
    "UNLABELLED_KINDS",
    "Benchmark",
    "DataError",
    "Dataset",
    "Schedule",
    "balanced",
    "benchmark",
    "fingerprint",
    "load",
    "permuted",
    "remembered",
    "schedule",
]
