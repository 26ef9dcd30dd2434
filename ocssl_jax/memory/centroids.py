"""CLIMB's centroid memory (Lefebvre, Duffner, Lefort, CoLLAs 2026).

Short-term memory (STM): centroids made by novel images, moved and filled by the images
that match them. Long-term memory (LTM): centroids that were matched M times; when there
are too many the two most similar merge. When the images reach the budget, positions are
computed again with the current encoder and the STM keeps one image a centroid.

    distance of z to every centroid -> threshold = p-quantile of the last w distances
    farther: new STM centroid in place of the one matched longest ago
    nearer:  STM centroid moves by alpha and keeps the image; LTM centroid may take it;
             an STM centroid that was promoted is an anchor and lets the image pass
    M matches: copy to the LTM     LTM over K: merge     N images: consolidate

The parts: `centroids_state` (arrays), `_window` (threshold), `_stream` (one image),
`_ltm` (promotion, merge, replacement), `_consolidate`, `_sample` (draw, refresh).
"""

from functools import partial

from ocssl_jax.core import Memory
from ocssl_jax.memory import centroids_state as states
from ocssl_jax.memory.centroids_consolidate import CONSOLIDATION
from ocssl_jax.memory.centroids_ltm import LTM_REPLACE, MERGE_SELECT
from ocssl_jax.memory.centroids_sample import refresh, sample
from ocssl_jax.memory.centroids_stream import add


def check(s: states.Settings) -> None:
    """Raises ValueError, in one line, at the first setting outside its range."""
    for name in ("batch_size", "stm", "ltm", "images_per_centroid", "window"):
        if getattr(s, name) < 1:
            raise ValueError(f"{name} must be at least 1, not {getattr(s, name)}")
    need = s.ltm * s.images_per_centroid + s.stm
    if s.budget < need:
        raise ValueError(
            f"budget={s.budget} is too small: consolidation keeps up to ltm *"
            f" images_per_centroid + stm = {need} images"
        )
    for name in ("percentile", "alpha", "refresh_rate", "ratio_ltm"):
        if not 0 <= getattr(s, name) <= 1:
            raise ValueError(f"{name} must lie in [0, 1], not {getattr(s, name)}")
    if not 1 <= s.window_repeats <= s.window:
        raise ValueError(
            f"window_repeats must lie in 1..window={s.window}, not {s.window_repeats}"
        )
    for name, table in (
        ("ltm_replace", LTM_REPLACE),
        ("merge_select", MERGE_SELECT),
        ("consolidation", CONSOLIDATION),
    ):
        if getattr(s, name) not in table:
            known = ", ".join(table)
            raise ValueError(f"{name} must be one of {known}; not {getattr(s, name)!r}")


def centroids(
    *,
    budget: int,
    batch_size: int,
    stm: int,
    ltm: int,
    images_per_centroid: int,
    window: int,
    percentile: float,
    alpha: float,
    refresh_rate: float,
    ratio_ltm: float,
    ltm_replace: str,
    merge_select: str,
    consolidation: str,
    refresh_centroids: bool,
    swap_halves: bool,
    window_repeats: int,
    fill_pushes_nan: bool,
    freeze_with_first_row: bool,
    first_fill_matches: int,
) -> Memory:
    """CLIMB's memory; images are rows of `Items` that have an 'image'.

    `add` takes as `feature` the rows' embeddings by the current encoder, not augmented,
    and as `embed` that encoder; `Sample.feature` is the centroid of each row.

    Args:
      budget: N, images of STM and LTM together at which consolidation happens.
      batch_size: the most rows one `add` brings; sizes the store (N + b images).
      stm: L, centroids of the STM.
      ltm: K, centroids of the LTM.
      images_per_centroid: M, also the number of matches that promotes a centroid.
      window: w, nearest-centroid distances the threshold is computed from.
      percentile: p in [0, 1], the threshold's quantile.
      alpha: how far a matched STM centroid moves to the image.
      refresh_rate: a replayed centroid moves by refresh_rate / (its images).
      ratio_ltm: share of a replay batch drawn from the LTM.
      ltm_replace: what a full LTM row does with a match, a name of `LTM_REPLACE`.
        `similar` encodes the row's M images, each time; it and `balanced_time`
        (overwrite among the images of the cycle that holds most) are our reading.
      merge_select: which pooled images a merge keeps: `random`, or `balanced`, equal
        shares of both rows (our reading).
      consolidation: `consolidate` as in the paper; `reset_stm` empties the STM as well;
        `trim` drops the last images of the STM rows matched longest ago, re-encoding
        nothing.
      refresh_centroids: whether `refresh` moves centroids.
      swap_halves: released code: replayed features go to the other half's centroids.
      window_repeats: times each distance is pushed (released code: 10).
      fill_pushes_nan: released code: NaN is pushed while the STM fills.
      freeze_with_first_row: released code: STM updates depend on whether STM row 0 was
        promoted, instead of the matched row.
      first_fill_matches: matches a centroid starts with while the STM fills (released
        code: 0); evicting ones start with 1.

    Raises:
      ValueError: a setting is outside its range.
    """
    settings = states.Settings(**locals())
    check(settings)
    return Memory(
        init=partial(states.init, settings),
        add=partial(add, settings),
        sample=partial(sample, settings),
        refresh=partial(refresh, settings),
        size=states.size,
        rows=states.rows,
        metrics=states.metrics,
    )
