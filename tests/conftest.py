"""Settings of every test."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

# A silent broadcast is how a masked row leaks into another one's loss.
jax.config.update("jax_numpy_rank_promotion", "raise")
# Tests compile much and compute little: most optimisations cost more than they bring.
jax.config.update("jax_disable_most_optimizations", True)
