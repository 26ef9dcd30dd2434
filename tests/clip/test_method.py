"""CLIP as a method of the house: a step, a head of words, a run from end to end."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_but
from tiny import NAMES, bits, stream, tiny_learning

from configs import clip_small
from ocssl_jax import experiment, settings
from ocssl_jax.clip.sampler import class_balanced, uniform
from ocssl_jax.core import Batch
from ocssl_jax.methods.clip import rows_of
from ocssl_jax.probing import Features, own

OBJECTIVES = ("cross_entropy", "info_nce", "gcl", "gdro")
FAST = {"optimizer__name": "adam", "optimizer__learning_rate": 0.01}


def learning(objective="gcl", **fields):
    return tiny_learning(
        method__name="clip",
        strategy__name="none",
        method__clip__objective=objective,
        **FAST,
        **fields,
    )


def learnt(made, batches):
    state, step, seen = made.init(jax.random.key(0), batches[0]), jax.jit(made.step), []
    for batch in batches:
        state, metrics = step(state, batch)
        seen.append(metrics)
    return state, seen


@pytest.mark.parametrize("objective", slow_but(["gcl"], OBJECTIVES))
def test_both_towers_learn_and_classes_are_met_with_their_experience(objective):
    made, batches = learning(objective), list(stream(7, labelled=True))
    first = made.init(jax.random.key(0), batches[0])
    state, seen = learnt(made, batches)
    for part in ("encoder", "projector", "text"):
        before, after = (bits(s.params["method"][part]) for s in (first, state))
        moved = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
        assert np.mean(moved) > 0.9, part
    assert np.isfinite([m["loss"] for m in seen]).all()
    assert np.flatnonzero(state.model["seen"]).tolist() == [0, 1, 2, 3]


def batch_of(label, draw, pool):
    n = len(draw.row)
    items = {"image": jnp.zeros((n, 1)), "id": jnp.asarray(draw.row)}
    items["label"] = jnp.asarray(label[draw.row])
    mask, pool = jnp.asarray(draw.mask), jnp.asarray(pool, jnp.float32)
    return Batch(views=items["image"][None], mask=mask, items=items, pool=pool)


def test_rows_have_the_shares_of_the_sampler_that_drew_them():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2, 4], [9, 1, 5, 3])  # none of class 3
    pool = np.bincount(label, minlength=5)
    drawn = class_balanced(rng, label, classes=3, rows=4)
    found = rows_of(batch_of(label, drawn, pool), balanced=True)
    np.testing.assert_allclose(found.share, drawn.share, rtol=1e-6)
    drawn = next(uniform(rng, label, 6))
    found = rows_of(batch_of(label, drawn, pool), balanced=False)
    np.testing.assert_allclose(found.share, drawn.share, rtol=1e-6)


def test_averages_are_of_the_images_that_were_seen_and_the_log_has_their_value():
    batches = list(stream(1, short=False, labelled=True))
    state, seen = learnt(learning("gcl", passes=1), batches)
    ids = np.asarray(batches[0].id)
    tables = [np.asarray(table) for table in state.model["objective"].values()]
    for table in tables:
        np.testing.assert_array_equal(np.flatnonzero(np.isfinite(table)), ids)
    value = 0.05 * float(np.mean(sum(tables)[ids]))  # mean of tau (log u + log u)
    assert float(seen[0]["loss"]) == pytest.approx(value, rel=1e-4)


def test_the_head_scores_by_the_texts_of_the_classes():
    """Its logits are those of the words, up to the length of an image's features."""
    made = learning()
    batch = next(stream(1, short=False, labelled=True))
    state = made.init(jax.random.key(0), batch)
    found = made.method.forward(
        state.params["method"], state.model, made.prepare(batch.image), train=False
    )
    head = made.head(state)
    logits = np.asarray(found.e) @ head["kernel"] + np.asarray(head["bias"])[None]
    cosines = logits / jnp.linalg.norm(found.z, axis=1, keepdims=True)
    assert cosines.shape == (len(batch.mask), len(NAMES))
    # The z that has a text's own direction scores 1 there: |t| = 1.
    linear = state.params["method"]["projector"]["linear1"]
    texts = np.linalg.lstsq(linear["kernel"], head["kernel"], rcond=None)[0]
    np.testing.assert_allclose(np.linalg.norm(texts, axis=0), 1.0, rtol=1e-3)
    np.testing.assert_allclose(logits, found.z @ texts, rtol=1e-3, atol=1e-3)


def test_a_classifier_may_be_asked_about_known_classes_alone():
    head = {"kernel": np.eye(3, dtype=np.float32), "bias": np.zeros(3, np.float32)}
    x = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], np.float32)
    features = Features(x, x, x, head)
    assert own(features)(x).tolist() == [2, 0]
    assert own(features, np.array([0, 1]))(x).tolist() == [1, 0]


def small(variant, folder, **fields):
    """A variant of the config on digits: six classes first, then two tasks of two."""
    config = clip_small.get_config(variant)
    order = tuple(range(10))
    config.stream.update({"dataset": "digits", "data_dir": str(folder / "data")})
    if variant == "pretrain":
        config.stream.update({"order": order, "classes": 6, "epochs": 1})
    else:
        own = {"order": order[6:] + order[:6], "classes": 4, "tasks": 2, "epochs": 1}
        config.stream.update(own)
        learner = folder / "pretrain" / "learner" / "seed_0.safetensors"
        config.method.pretrained = str(learner)
        config.stream.memory = min(config.stream.memory, 10)
        config.stream.known = min(config.stream.known, 2)
    config.backbone.update({"name": "mlp", "width": 16})
    config.method.clip.text.update({"width": 8, "heads": 2})
    return settings.resolve(config, fields)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_goes_from_pretraining_to_a_table_with_a_zero_shot_row(tmp_path):
    experiment.run(small("pretrain", tmp_path), tmp_path / "pretrain", {})
    table = experiment.run(small("gcl", tmp_path), tmp_path / "gcl", {})
    assert "zero-shot" in table
    summary = json.loads((tmp_path / "gcl" / "summary.json").read_text())
    assert set(summary["metrics"]) == set(summary["baselines"]["zero_shot"])
    read = lambda path: list(csv.DictReader(path.open()))
    rows = read(tmp_path / "gcl" / "accuracy.csv")
    met = {(int(row["task"]), int(row["after_experience"])) for row in rows}
    assert met == {(0, 0), (0, 1), (1, 1)}
    floor = read(tmp_path / "gcl" / "baselines" / "zero_shot" / "accuracy.csv")
    assert met <= {(int(row["task"]), int(row["after_experience"])) for row in floor}
    # The run that learns nothing has the same row, and nothing in its log.
    table = experiment.run(small("zero_shot", tmp_path), tmp_path / "zero", {})
    assert "zero-shot" in table
    same = lambda row: tuple(row[name] for name in ("task", "after_experience"))
    known = {same(row): row["accuracy"] for row in floor}
    alone = read(tmp_path / "zero" / "accuracy.csv")
    assert {same(row): row["accuracy"] for row in alone} == {
        key: known[key] for key in (("0", "0"), ("0", "1"), ("1", "1"))
    }
    assert not (tmp_path / "zero" / "metrics.jsonl").read_text()
