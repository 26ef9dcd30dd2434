"""CLIMB in plain PyTorch, written for comparison: one stream batch, as ours does it.

`networks`, `augment`, `losses` and `memory` follow the papers and torchvision's
formulas as the library does; `learner` is the loop. Nothing here imports JAX, so that a
process which measures PyTorch holds nothing else.
"""
