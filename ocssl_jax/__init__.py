"""Online continual self-supervised learning in JAX."""
