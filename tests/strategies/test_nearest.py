"""Which stored codes lie nearest, against plain loops."""

import jax.numpy as jnp
import numpy as np
import pytest

from ocssl_jax.strategies.nearest import nearest


def looped(found, wanted, stored, real, *, count, distinct):
    """Turn by turn: the nearest one that is left."""
    left, places = set(np.flatnonzero(real)), []
    for turn in range(count):
        i = turn % len(found)
        if not wanted[i] or not left:
            places.append(None)
            continue
        place = min(left, key=lambda c: np.sum((found[i] - stored[c]) ** 2))
        places.append(place)
        if distinct:
            left.remove(place)
    return places


@pytest.mark.parametrize("distinct", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_they_are_those_of_a_loop(seed, distinct):
    rng = np.random.default_rng(seed)
    found, stored = rng.normal(size=(4, 3)), rng.normal(size=(9, 3))
    wanted, real = rng.random(4) < 0.8, rng.random(9) < 0.8
    case = {"count": 10, "distinct": distinct}
    expected = looped(found, wanted, stored, real, **case)
    arrays = [jnp.asarray(x, jnp.float32) for x in (found, stored)]
    place, some = nearest(
        arrays[0], jnp.asarray(wanted), arrays[1], jnp.asarray(real), **case
    )
    assert [p if s else None for p, s in zip(place.tolist(), some, strict=True)] == (
        expected
    )
    if distinct:
        taken = [p for p in expected if p is not None]
        assert len(set(taken)) == len(taken)


def test_one_code_that_is_copied_is_its_nearest_again_and_again():
    """As the released code fills its batch: at most as many as are looked for."""
    found, stored = jnp.eye(3)[:2], jnp.eye(3)
    place, some = nearest(
        found, jnp.full(2, True), stored, jnp.full(3, True), count=6, distinct=False
    )
    assert place.tolist() == [0, 1] * 3 and some.all()
