"""The classifier of words: its features by hand, prompts, classes of one name."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ocssl_jax.clip.architecture import ARCHITECTURES
from ocssl_jax.clip.objectives import cross_entropy
from ocssl_jax.clip.tokenizer import Tokenizer
from ocssl_jax.clip.towers import Clip, random_params
from ocssl_jax.clip.zero_shot import (
    SEVEN,
    class_features,
    class_tokens,
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
    tokens = jnp.arange(4).reshape(2, 2, 1)
    found = class_features(lambda tokens: rows[tokens[:, 0]], tokens)
    np.testing.assert_allclose(found, [[0.5**0.5, 0.5**0.5], [0.6, 0.8]], atol=1e-6)


def test_candidates_and_ties():
    cosines = similarities(jnp.array([[2.0, 0.0], [0.1, 0.1]]), 7.0 * jnp.eye(2))
    np.testing.assert_allclose(cosines, [[1, 0], [0.5**0.5, 0.5**0.5]], atol=1e-6)
    assert classify(cosines, jnp.array([True, True])).tolist() == [0, 0]
    assert classify(cosines, jnp.array([False, True])).tolist() == [1, 1]


def test_classes_of_one_name():
    tokens = np.array([[5, 1], [5, 2], [5, 1], [4, 9]])
    with pytest.warns(UserWarning, match=r"\[2\] have the texts of classes \[0\]"):
        assert text_identity(tokens[:, None]).tolist() == [0, 1, 0, 3]
    # Of several templates all must agree.
    assert text_identity(tokens.reshape(2, 2, 2)).tolist() == [0, 1]


def test_tokens_of_classes():
    """Each class's row is that of its texts; another network's tokenizer is refused."""
    tokenizer = Tokenizer([("c", "a")], context=16)
    micro = replace(ARCHITECTURES["micro"], vocabulary=515)
    tokens = class_tokens(tokenizer, micro, ["ca", "b"], ("{}", "a {}"))
    assert tokens.shape == (2, 2, 8)
    np.testing.assert_array_equal(tokens[1, 1], tokenizer(["a b"])[0])
    for other in (ARCHITECTURES["micro"], replace(micro, context=8)):
        with pytest.raises(UsageError, match="has 515 tokens and texts of 16, the net"):
            class_tokens(tokenizer, other, ["cat"])


@pytest.mark.slow
def test_colours_are_told_by_their_names():
    """All parts at once: a CLIP trained on colours and names names new images."""
    names = ["red", "green", "blue"]
    tokenizer = Tokenizer([], context=16)
    micro = ARCHITECTURES["micro"]
    small = replace(
        micro, image=micro.image._replace(layers=1), image_size=6, vocabulary=514
    )
    tokens = class_tokens(tokenizer, small, names)
    module = Clip(small, jnp.float32)
    params = random_params(jax.random.key(0), small)
    rng = np.random.default_rng(0)

    def images(label):
        noise = rng.normal(scale=0.3, size=(len(label), 6, 6, 3))
        return jnp.asarray(noise + 2 * np.eye(3)[label][:, None, None], jnp.float32)

    def loss(params, x, label):
        features, texts = module.apply({"params": params}, x, tokens[:, 0])
        s = similarities(features, texts)
        every = jnp.ones(len(label), bool)
        return cross_entropy(s, label, jnp.ones(3, bool), every, temperature=0.1).mean()

    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, state, x, label):
        moves, state = optimizer.update(jax.grad(loss)(params, x, label), state)
        return optax.apply_updates(params, moves), state

    state = optimizer.init(params)
    for _ in range(25):
        label = rng.integers(0, 3, size=16)
        params, state = step(params, state, images(label), jnp.asarray(label))
    label = rng.integers(0, 3, size=60)
    encode = lambda t: module.apply({"params": params}, t, method="encode_text")
    rows = class_features(encode, jnp.asarray(tokens))
    found = module.apply({"params": params}, images(label), method="encode_image")
    every = jnp.ones(3, bool)
    assert (classify(similarities(found, rows), every) == label).mean() > 0.95
    # A class that is no candidate is never predicted.
    some = classify(similarities(found, rows), jnp.array([True, False, True]))
    assert (some[label != 1] == label[label != 1]).mean() > 0.95 and (some != 1).all()
