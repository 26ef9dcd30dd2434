"""Figure 3b of a run: read from its log, drawn where there is something to draw."""

import numpy as np
from matplotlib.image import imread

from ocssl_jax.report.selection import chance, ratios, selection_picture


def line(step, *seeds):
    mean = np.mean(seeds, axis=0).tolist()
    return {"step": step, "stream_ratio": mean, "per_seed": {"stream_ratio": seeds}}


def test_the_last_hundred_batches_count():
    history = [line(50, [0.9, 0.9]), line(151, [0.4, 0.2]), line(250, [0.2, 0.2])]
    found = ratios(history)
    assert found.shape == (2, 1, 2)
    np.testing.assert_allclose(found.mean(axis=(0, 1)), [0.3, 0.2])
    assert ratios([line(1, [0.1], [0.3])]).shape == (1, 2, 1)


def test_a_run_that_chooses_nothing_has_no_ratio():
    assert not len(ratios([{"step": 1, "loss": 2.0}]))


def test_the_level_of_chance_is_the_streams_share_of_the_pool():
    config = {"stream": {"batch_size": 128}, "strategy": {"replay_size": 256}}
    assert chance(config) == 128 / 384
    assert chance({}) is None


def test_the_picture_is_drawn(tmp_path):
    path = tmp_path / "selection.png"
    rows = [line(i, [0.4, 0.3, 0.2], [0.4, 0.2, 0.1]) for i in range(1, 5)]
    selection_picture(path, history=rows, level=1 / 3)
    assert imread(path).std() > 0
