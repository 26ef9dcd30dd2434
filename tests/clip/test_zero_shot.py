"""The classifier of words: its features by hand, prompts, classes of one name."""

import jax.numpy as jnp
import numpy as np
import pytest

from ocssl_jax.clip.zero_shot import (
    SEVEN,
    class_features,
    classify,
    prompts,
    similarities,
    text_identity,
)
from ocssl_jax.errors import UsageError


def test_prompts_of_a_class_are_beside_each_other():
    found = prompts(["maple_tree", "cat"], ("a {}.", "the {}"))
    assert found == ["a maple tree.", "the maple tree", "a cat.", "the cat"]
    assert prompts(["The_Eiffel_Tower"]) == ["a photo of a The Eiffel Tower."]
    assert prompts(["a{}b"], ("{}",)) == ["a{}b"]  # a name is no template
    assert len(set(SEVEN)) == 7
    for templates in ((), ("a photo",)):
        with pytest.raises(UsageError, match="templates must have"):
            prompts(["cat"], templates)


def test_features_are_normalised_averaged_normalised():
    """Two classes of two templates: a long feature weighs no more than a short one."""
    rows = jnp.array([[10.0, 0.0], [0.0, 0.1], [3.0, 4.0], [3.0, 4.0]])
    found = class_features(
        lambda tokens: rows[tokens[:, 0]], jnp.arange(4)[:, None], templates=2
    )
    np.testing.assert_allclose(found, [[0.5**0.5, 0.5**0.5], [0.6, 0.8]], atol=1e-6)


def test_candidates_and_ties():
    cosines = similarities(jnp.array([[2.0, 0.0], [0.1, 0.1]]), 7.0 * jnp.eye(2))
    np.testing.assert_allclose(cosines, [[1, 0], [0.5**0.5, 0.5**0.5]], atol=1e-6)
    assert classify(cosines, jnp.array([True, True])).tolist() == [0, 0]
    assert classify(cosines, jnp.array([False, True])).tolist() == [1, 1]


def test_classes_of_one_name():
    tokens = np.array([[5, 1], [5, 2], [5, 1], [4, 9]])
    with pytest.warns(
        UserWarning, match=r"classes \[2\] have the texts of classes \[0\]"
    ):
        assert text_identity(tokens).tolist() == [0, 1, 0, 3]
    # Of several templates all must agree.
    assert text_identity(tokens.reshape(2, 2, 2)).tolist() == [0, 1]
