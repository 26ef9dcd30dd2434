"""Settings of every test."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# What one test compiles, another worker or a launched process need not compile again.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    compiled = tempfile.mkdtemp(prefix="ocssl-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import jax

# A silent broadcast is how a masked row leaks into another one's loss.
jax.config.update("jax_numpy_rank_promotion", "raise")
# Tests compile much and compute little: most optimisations cost more than they bring.
jax.config.update("jax_disable_most_optimizations", True)
