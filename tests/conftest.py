"""Settings of every test: strict promotion, one compilation cache, no surprises."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

# A silent broadcast or cast is how a masked row leaks into another one's loss.
jax.config.update("jax_numpy_rank_promotion", "raise")
