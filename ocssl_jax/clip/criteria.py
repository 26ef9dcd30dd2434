"""The objectives as plug-ins of the one step (`step.py`), each with what it carries.

A criterion is a pair of pure functions: `init` gives its state, `loss` that of a batch
and the state after it. All see the cosines of the batch's images with every class text,
so that a class's text is encoded once a step, however many rows have it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ocssl_jax.clip import objectives
from ocssl_jax.clip.contrast import Contrast, Objective, Rows, check, contrast
from ocssl_jax.clip.contrast import estimators as first_estimators
from ocssl_jax.core import Array
from ocssl_jax.traced import holds

WEIGHTINGS = ("sample", "class")


class Classes(NamedTuple):
    """What is known of all classes of the run; it changes with each task."""

    text: Array  # [k] int32, equal where the texts are, see `zero_shot.text_identity`
    size: Array  # [k] float32, rows in the pool of task and memory
    seen: Array  # [k] bool, classes met so far


class Batch(NamedTuple):
    """The rows of one step."""

    image: Array  # [n h w 3] uint8
    label: Array  # [n] int32
    id: Array  # [n] int32, the image's number among all of the run
    mask: Array  # [n] bool
    share: Array  # [n] float32, see `objectives`
    balanced: bool = False  # class-balanced, else uniform


class Criterion(NamedTuple):
    """An objective: its state is a pytree of fixed shape, kept across tasks."""

    init: Callable[[int, int], Any]  # (images of the run, classes) -> state
    # (state, similarity [n k], batch, classes) -> loss [], state, metrics
    loss: Callable[..., tuple[Array, Any, dict[str, Array]]]


def gcl(
    *, temperature: float, rate: float, negatives: str, negative_weight: str
) -> Criterion:
    """Global contrastive loss of images and class texts.

    Args:
      temperature: tau.
      rate: gamma in (0, 1], the weight of the new value in the averages.
      negatives: see `contrast.Objective`.
      negative_weight: 'sample', each row of the pool counts once as a negative (the
        formula to the letter), or 'class', each class does [R].

    Raises:
      ValueError: if a setting is outside its range.
    """
    objective = Objective(temperature, "linear", 0.0, negatives)
    _check(objective, negative_weight, rate=rate)

    def loss(state, similarity, batch, classes):
        found, state = _contrast(
            state, similarity, batch, classes, rate, objective, negative_weight
        )
        total = objectives.global_contrastive(
            found, batch.share, batch.label, classes.size
        )
        return total, state, _told(found)

    return Criterion(lambda images, _: first_estimators(images), loss)


def group_dro(
    *,
    temperature: float,
    rate: float,
    negatives: str,
    negative_weight: str,
    surrogate: str,
    margin: float,
    class_rate: float,
    strength: float,
) -> Criterion:
    """Group DRO over the classes' contrasts.

    Args:
      temperature: tau.
      rate: gamma, of the contrasts' averages.
      negatives: see `contrast.Objective`.
      negative_weight: see `gcl`.
      surrogate: 'squared_hinge', or 'linear' for GCL with weights on the classes.
      margin: of the squared hinge.
      class_rate: gamma_2 in (0, 1], of the classes' losses.
      strength: lambda > 0, of the Kullback-Leibler term.

    Raises:
      ValueError: if a setting is outside its range.
    """
    objective = Objective(temperature, surrogate, margin, negatives)
    _check(objective, negative_weight, rate=rate, class_rate=class_rate)
    if not strength > 0:
        raise ValueError(f"strength must be above 0, got {strength}")

    def init(images: int, classes: int) -> Any:
        return first_estimators(images), objectives.class_losses(classes)

    def loss(state, similarity, batch, classes):
        averages, losses = state
        found, averages = _contrast(
            averages, similarity, batch, classes, rate, objective, negative_weight
        )
        out, losses = objectives.group_dro(
            losses,
            found,
            batch.share,
            batch.label,
            classes.size > 0,
            rate=class_rate,
            strength=strength,
        )
        p = out.weight
        entropy = -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0))
        told = _told(found) | {"objective": out.value, "weights_entropy": entropy}
        return out.loss, (averages, losses), told

    return Criterion(init, loss)


def info_nce(*, temperature: float) -> Criterion:
    """CLIP's own loss on images and class texts; nothing is carried."""
    _check_temperature(temperature)

    def loss(state, similarity, batch, classes):
        rows = objectives.info_nce(
            similarity[:, batch.label],
            classes.text[batch.label],
            batch.mask,
            temperature=temperature,
        )
        return _mean(rows, batch, classes), state, {}

    return Criterion(lambda *_: (), loss)


def cross_entropy(*, temperature: float) -> Criterion:
    """Cross entropy over the classes seen so far; nothing is carried."""
    _check_temperature(temperature)

    def loss(state, similarity, batch, classes):
        rows = objectives.cross_entropy(
            similarity, batch.label, classes.seen, batch.mask, temperature=temperature
        )
        return _mean(rows, batch, classes), state, {}

    return Criterion(lambda *_: (), loss)


CRITERIA: dict[str, Callable[..., Criterion]] = {
    "gcl": gcl,
    "gdro": group_dro,
    "info_nce": info_nce,
    "cross_entropy": cross_entropy,
}


def _contrast(
    state: Any,
    similarity: Array,
    batch: Batch,
    classes: Classes,
    rate: float,
    objective: Objective,
    negative_weight: str,
) -> tuple[Contrast, Any]:
    weight = batch.share
    if negative_weight == "sample":
        weight = weight * classes.size[batch.label]
    rows = Rows(
        id=batch.id,
        text=classes.text[batch.label],
        mask=batch.mask,
        importance=jnp.where(batch.mask, weight, 1.0),
        expected=expected(batch, classes, objective.negatives, negative_weight),
    )
    pairs = similarity[:, batch.label]
    return contrast(state, pairs, rows, rate=rate, objective=objective)


def expected(
    batch: Batch, classes: Classes, negatives: str, negative_weight: str
) -> Array | None:
    """The sum of the importance of a row's negatives in the batches with it, [n].

    None where the mean may be divided by the sum that was drawn, without bias: rows
    that count once in uniform batches, classes in class-balanced ones. And where rows
    of the own class are negatives too, for no factor is common to them and the others.
    """
    if negatives != "class" or (negative_weight == "class") == batch.balanced:
        return None
    there = classes.size > 0
    known = classes.size if negative_weight == "sample" else there
    other = classes.text[None, :] != classes.text[batch.label][:, None]
    pool = jnp.sum(jnp.where(other, known, 0.0), axis=1)
    if batch.balanced:
        own = jax.ops.segment_sum(batch.mask.astype(jnp.int32), batch.label, len(there))
        drawn, among = jnp.sum(own > 0), jnp.sum(there)
    else:
        drawn, among = jnp.sum(batch.mask), jnp.sum(classes.size)
    # One place of a draw is the row's own, so that others are there more seldom than
    # their importance says.
    seldom = (drawn - 1) / jnp.maximum(among - 1, 1) * among / jnp.maximum(drawn, 1)
    return pool * seldom


def _mean(rows: Array, batch: Batch, classes: Classes) -> Array:
    """The mean [] of `rows` [n] over the pool, estimated."""
    weight = classes.size / jnp.maximum(jnp.sum(classes.size), 1.0)
    return objectives.of_classes(rows, batch.share, batch.label, weight)


def _told(found: Contrast) -> dict[str, Array]:
    """What the log has of a contrast; its surrogate's value would mean nothing."""
    rows = jnp.maximum(jnp.sum(found.counts), 1)
    return {
        "contrast": jax.lax.stop_gradient(jnp.sum(found.value)) / rows,
        "drift": found.drift,
        "clipped": found.clipped,
        "anchors": jnp.sum(found.counts),
    }


def _check(objective: Objective, negative_weight: str, **rates: float) -> None:
    check(objective)
    for name, rate in rates.items():
        if not 0 < rate <= 1:
            raise ValueError(f"{name} must lie in (0, 1], got {rate}")
    if negative_weight not in WEIGHTINGS:
        raise ValueError(
            f"negative_weight must be one of {', '.join(WEIGHTINGS)}, got "
            f"{negative_weight!r}"
        )


def _check_temperature(temperature: float) -> None:
    if not holds(temperature > 0):
        raise ValueError(f"temperature must be above 0, got {temperature}")
