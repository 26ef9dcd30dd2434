"""Global contrast: each row against all rows of another text, by moving averages.

A row is an image and the text of its class, s their cosine. For row i and a negative j

  h_I = s(x_i, t_j) - s(x_i, t_i)     the image of i against the text of j
  h_T = s(x_j, t_i) - s(x_i, t_i)     the text of i against the image of j

the contrast of row i is  tau log g_I + tau log g_T,  with g = mean over j of
exp(a / tau). The surrogate a is h for GCL ('linear') and max(margin + h, 0)^2 for the
losses of classes ('squared_hinge'). That labels are texts, the two normalisers over the
whole pool, moving averages kept across tasks and the squared hinge on negatives with a
margin are stated [S]; this algebra, with the positive inside h and outside the sum, is
reconstructed from SogCLR, iSogCLR and FastCLIP [R+].

A mini-batch only estimates g. Its average over visits u stands in for g in the gradient

  u <- (1 - rate) u + rate g_batch,      gradient  (tau / u) dg_batch

so that no large batch is needed (Yuan et al. 2022). Everything is kept as log u: at
a temperature of 0.01 exp(h / tau) reaches 1e87, past float32.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import struct

from ocssl_jax.core import Array
from ocssl_jax.traced import holds

SURROGATES = ("linear", "squared_hinge")
NEGATIVES = ("class", "instance")
# Largest exponent of a pair's weight exp(a / tau - log u): where u is an average of
# long ago, one batch must not throw the weights.
LARGEST = 20.0
TINY = 1e-30


@struct.dataclass
class Estimators:
    """log u of every image of the run; -inf where it has not been an anchor yet.

    They are never reset: an image that stays in the memory keeps its own [S].
    """

    image: Array  # [N] float32
    text: Array  # [N] float32


class Objective(NamedTuple):
    """Settings of a contrast."""

    temperature: float  # tau
    surrogate: str  # one of `SURROGATES`
    margin: float  # of the squared hinge
    # Which rows are negatives: those of another text ('class' [R]), or all but the row
    # itself ('instance', SogCLR's).
    negatives: str


class Rows(NamedTuple):
    """What is known of a batch's rows beside their features."""

    id: Array  # [n] int32, positions in the tables of `Estimators`
    text: Array  # [n] int32, equal where the texts are, see `zero_shot.text_identity`
    mask: Array  # [n] bool
    # [n] float32 > 0: how much a row counts as a negative, up to a common factor: the
    # pool's number of such rows over that expected in a batch.
    importance: Array
    # [n] float32, the sum of the importance of a row's negatives that the batches with
    # it have on average. None: what was drawn is divided by its own sum, which varies
    # less, and has no bias where that sum tells nothing of what was drawn.
    expected: Array | None = None


class Contrast(NamedTuple):
    """The rows' contrasts; 0 in rows that are masked or have no negative."""

    surrogate: Array  # [n] has the gradient of the contrast; its value means nothing
    value: Array  # [n] tau (log u_I + log u_T), no gradient
    counts: Array  # [n] bool, rows that have a contrast
    clipped: Array  # [] share of the pairs whose weight was cut at exp(`LARGEST`)
    drift: Array  # [] mean of |log u - log g_batch| over rows and sides


def check(objective: Objective) -> None:
    """Raise unless the settings are possible.

    Raises:
      ValueError: naming the setting and what it may be.
    """
    if not holds(objective.temperature > 0):
        raise ValueError(f"temperature must be above 0, got {objective.temperature}")
    if objective.margin < 0:
        raise ValueError(f"margin must be at least 0, got {objective.margin}")
    for name, allowed in (("surrogate", SURROGATES), ("negatives", NEGATIVES)):
        if getattr(objective, name) not in allowed:
            raise ValueError(
                f"{name} must be one of {', '.join(allowed)}, got "
                f"{getattr(objective, name)!r}"
            )


def estimators(size: int) -> Estimators:
    """Those of `size` images before any was seen."""
    # The state is donated, and two leaves must not share one buffer.
    never = lambda: jnp.full((size,), -jnp.inf, jnp.float32)
    return Estimators(image=never(), text=never())


def negatives(rows: Rows, kind: str) -> Array:
    """[n n] bool: whether row j is a negative of row i."""
    other = ~jnp.eye(rows.text.shape[0], dtype=bool)
    if kind == "class":
        other = rows.text[:, None] != rows.text[None, :]
    return other & rows.mask[:, None] & rows.mask[None, :]


def gaps(similarity: Array) -> tuple[Array, Array]:
    """h_I and h_T [n n] of the cosines s(x_i, t_j) [n n]."""
    own = jnp.diagonal(similarity)[:, None]
    return similarity - own, similarity.T - own


def surrogate_of(gap: Array, objective: Objective) -> Array:
    """The surrogate a of a gap h, of any shape."""
    if objective.surrogate == "linear":
        return gap
    return jnp.square(jnp.maximum(objective.margin + gap, 0.0))


def weights(negative: Array, rows: Rows) -> tuple[Array, Array]:
    """Each pair's weight [n n] in its row's mean, and what that is divided by, [n].

    Args:
      negative: [n n] bool.
      rows: of the batch.
    """
    weight = jnp.where(negative, rows.importance[None, :], 0.0)
    drawn = jnp.sum(weight, axis=1)
    if rows.expected is None:
        return weight, drawn
    return weight, jnp.where(drawn > 0, rows.expected, 0.0)


def log_mean(exponent: Array, negative: Array, weight: Array, total: Array) -> Array:
    """Log of each row's mean of exp(`exponent`) [n n] over its negatives, by `weights`.

    A row [n] without negatives has -inf.
    """
    found = jax.nn.logsumexp(exponent, axis=1, b=weight, where=negative)
    return found - jnp.where(total > 0, jnp.log(jnp.maximum(total, TINY)), 0.0)


def moved(old: Array, new: Array, rate: Array | float) -> Array:
    """log((1 - rate) u + rate g) of log u and log g, [n].

    A first visit gives g, whatever the rate; no g (-inf) leaves u as it is.
    """
    mixed = jnp.logaddexp(jnp.log1p(-rate) + old, jnp.log(rate) + new)
    found = jnp.where(jnp.isneginf(old), new, mixed)
    return jnp.where(jnp.isneginf(new), old, found)


def contrast(
    state: Estimators,
    similarity: Array,
    rows: Rows,
    *,
    rate: Array | float,
    objective: Objective,
) -> tuple[Contrast, Estimators]:
    """The contrast of each row of a batch, and the averages after it.

    Args:
      state: the averages before.
      similarity: [n n] float32, s(x_i, t_j) of the image of row i and the text of row
        j, in full precision; the gradient flows into it.
      rows: of the batch. No id may occur twice among the real ones.
      rate: gamma in (0, 1], the weight of the new value; may be traced.
      objective: the settings.
    """
    n = similarity.shape[0]
    chex.assert_shape(similarity, (n, n))
    chex.assert_tree_shape_prefix(rows, (n,))
    negative = negatives(rows, objective.negatives)
    sides = [surrogate_of(gap, objective) for gap in gaps(similarity)]
    tables, parts = [], []
    for table, a in zip((state.image, state.text), sides, strict=True):
        side, log_u = _one_side(table, a, negative, rows, rate, objective.temperature)
        # Masked rows are written nowhere: -1 would be the last image's place.
        where = jnp.where(rows.mask, rows.id, table.shape[0])
        tables.append(table.at[where].set(log_u, mode="drop"))
        parts.append(side)
    surrogate, value, cut, drift = (sum(x) for x in zip(*parts, strict=True))
    counts = jnp.any(negative, axis=1)
    pairs, anchors = jnp.sum(negative), jnp.sum(counts)
    found = Contrast(
        surrogate=surrogate,
        value=value,
        counts=counts,
        clipped=cut / jnp.maximum(2 * pairs, 1),
        drift=drift / jnp.maximum(2 * anchors, 1),
    )
    return found, Estimators(*tables)


def _one_side(
    table: Array,
    a: Array,
    negative: Array,
    rows: Rows,
    rate: Array | float,
    temperature: float,
) -> tuple[tuple[Array, Array, Array, Array], Array]:
    """One side's surrogate [n], value [n], pairs cut [], drift [], and log u [n]."""
    exponent = jax.lax.stop_gradient(a) / temperature
    weight, total = weights(negative, rows)
    log_g = log_mean(exponent, negative, weight, total)
    log_u = moved(table[rows.id], log_g, rate)
    counts = jnp.any(negative, axis=1)
    safe = jnp.where(counts, log_u, 0.0)
    power = exponent - safe[:, None]
    # The weights of the negatives in the mean that estimates g.
    share = weight / jnp.where(counts, total, 1.0)[:, None]
    pair = share * jnp.exp(jnp.minimum(power, LARGEST))
    surrogate = jnp.sum(jnp.where(negative, pair * a, 0.0), axis=1)
    value = jnp.where(counts, temperature * safe, 0.0)
    cut = jnp.sum(negative & (power > LARGEST))
    drift = jnp.sum(jnp.where(counts, jnp.abs(safe - jnp.where(counts, log_g, 0.0)), 0))
    return (surrogate, value, cut, drift), log_u
