"""Settings of every test."""

import atexit
import os
import shutil
import subprocess
import sys
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

# XLA's older generator of fused loops compiles a step of these tests in half the time.
# A version that does not know the flag would refuse to start; XLA reads it when it is
# first asked for devices.
OLDER = "--xla_cpu_use_fusion_emitters=false"
if OLDER not in os.environ.get("XLA_FLAGS", ""):
    flags = f"{os.environ.get('XLA_FLAGS', '')} {OLDER}".strip()
    asked = [sys.executable, "-c", "import jax; jax.devices()"]
    tried = subprocess.run(
        asked, env={**os.environ, "XLA_FLAGS": flags}, capture_output=True
    )
    if tried.returncode == 0:
        os.environ["XLA_FLAGS"] = flags
