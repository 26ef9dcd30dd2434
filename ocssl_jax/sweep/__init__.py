"""A grid of runs, the best of them chosen by validation accuracy."""
