"""GEN and GEN-MIR: what is replayed, when, and what the searches look for."""

from functools import cache
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import BATCH, SHAPE, bits, equal, stream, tiny_learning

from ocssl_jax.core import Learner
from ocssl_jax.generator import make_vae
from ocssl_jax.strategies import gains
from ocssl_jax.strategies.generative import Settings, generative, soft_cross_entropy

RATE, ROWS = 0.5, 2 * BATCH
PLAIN = {
    "method__name": "supervised",
    "augment__name": "none",
    "passes": 1,
    "optimizer__momentum": 0.0,
    "optimizer__weight_decay": 0.0,
    "optimizer__learning_rate": RATE,
}
STALE = {"strategy__gen_mir__stale_step": True, "strategy__gen_mir__fresh_noise": True}


@cache
def learning(name="gen", **fields):
    return tiny_learning(strategy__name=name, **{**PLAIN, **fields})


@cache
def batches(count=14):
    return list(stream(count, short=False, labelled=True))


@cache
def stepper(made):
    return jax.jit(made.step)


@cache
def states(made, count=7):
    """Before each of the first batches, and after the last; metrics of each."""
    found, seen = [made.init(jax.random.key(0), batches()[0])], []
    for batch in batches()[:count]:
        state, metrics = stepper(made)(found[-1], batch)
        found.append(state)
        seen.append(metrics)
    return found, seen


def far(a, b):
    return max(np.abs(x - y).max() for x, y in zip(bits(a), bits(b), strict=True))


def same(a, b):
    return far(a, b) == 0


@pytest.mark.parametrize("name", ["gen", "gen_mir"])
def test_copies_are_made_when_an_experience_has_ended(name):
    found, _ = states(learning(name))
    first, last = found[5], found[7]  # of the second experience two batches are learnt
    assert same(last.strategy.before.generator, first.strategy.generator)
    assert same(last.strategy.before.params, first.params["method"])
    assert not same(last.strategy.before.params, last.params["method"])
    assert int(last.strategy.task) == 1 and float(last.strategy.seen) == 2 * BATCH


@pytest.mark.parametrize("name", ["gen", "gen_mir"])
def test_the_first_experience_has_no_replay(name):
    plain, _ = states(learning("none"))
    replaying, seen = states(learning(name))
    for i in range(1, 6):
        a, b = plain[i].params["method"], replaying[i].params["method"]
        assert far(a, b) < 1e-5  # sums are rounded anew
    assert [float(m["loss_replay"]) > 0 for m in seen] == [False] * 5 + [True] * 2
    # What the copy says of an image is what the classifier itself says at first.
    a, b = plain[6].params["method"], replaying[6].params["method"]
    assert far(a, b) < 1e-5
    a, b = plain[7].params["method"], replaying[7].params["method"]
    assert far(a, b) > 1e-4


def test_nor_has_the_generator():
    """The weight of its replay is of no account there."""
    replaying, _ = states(learning())
    other, _ = states(learning(strategy__gen__replay_weight=0.5))
    a, b = ([s.strategy.generator for s in x] for x in (replaying, other))
    assert far(a[5], b[5]) < 1e-7 and far(a[7], b[7]) > 1e-5


def test_adam_is_at_its_own_rate():
    found, _ = states(learning())
    before, after = (bits(s.strategy.generator) for s in found[:2])
    moved = [np.abs(b - a) for a, b in zip(before, after, strict=True)]
    assert max(m.max() for m in moved) == pytest.approx(1e-3, rel=1e-2)
    assert all((m > 0).any() for m in moved)


def test_what_is_replayed_is_made_by_the_copies():
    found, _ = states(learning())
    made, kept = learning(), found[7].strategy
    replay = kept.replay
    assert replay.image.shape == (ROWS, *SHAPE) and replay.image.dtype == jnp.uint8
    assert not same(replay.image, replay.generator_image)  # each has its own
    x = made.prepare(replay.image)
    z = made.method.forward(kept.before.params, kept.before.model, x, train=False).z
    np.testing.assert_allclose(replay.target, jax.nn.softmax(z), rtol=1e-5)


def test_soft_cross_entropy_is_cut_off():
    logits = jnp.array([[0.0, 1.0, -30.0]])
    target = jnp.array([[0.2, 0.5, 0.3]])
    p = np.clip(np.exp(logits) / np.exp(logits).sum(), 1e-5, 1)
    expected = -(np.asarray(target) * np.log(p)).sum()
    np.testing.assert_allclose(
        soft_cross_entropy(logits, target), [expected], rtol=1e-5
    )
    only_rare = jnp.array([[0.0, 0.0, 1.0]])
    slope = jax.grad(lambda z: soft_cross_entropy(z, only_rare)[0])(logits)
    np.testing.assert_array_equal(slope, 0.0)


def learner_of(made, state):
    return Learner(state.params["method"], state.model, made.method, made.prepare)


def test_the_divergences_weight_rises_in_each_experience():
    def spy(key, state, settings, learner, stream, prior):
        return prior, settings.beta  # where the state shows it

    sizes = {"hidden": 8, "latent": 3, "depth": 1, "dropout": 0.0}
    strategy = generative(
        replay_batches=2,
        replay_weight=1.0,
        generator={**sizes, "learning_rate": 1e-3, "max_beta": 0.5, "warmup": 20},
        seek=spy,
        remembers_update=False,
    )
    made = learning()
    learner = learner_of(made, states(made)[0][0])
    _, state = strategy.init(jax.random.key(0), learner, batches()[0])
    begin, seen = jax.jit(strategy.begin), []
    for batch in batches()[:9]:
        state, _ = begin(jax.random.key(1), state, learner, batch)
        seen.append(float(state.replay.lost))
    assert seen[5:] == pytest.approx([0.2, 0.4, 0.5, 0.5])  # 4, 8, 12, 16 images of 20


@cache
def searched():
    """A learner in its second experience; its networks ahead."""
    made = learning("gen_mir")
    state = states(made)[0][7]
    learner = learner_of(made, state)
    ahead = jax.tree.map(
        lambda x: x + 0.1 * jnp.sin(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape),
        (learner.params, state.strategy.generator),
    )
    return made, state.strategy, learner, ahead


def settings():
    vae = make_vae(SHAPE, hidden=8, latent=3, depth=1, dropout=0.0)
    return Settings(vae, jnp.float32(1))


def softmax_of(made, params, model, x):
    views = jnp.asarray((x - 0.5) / 0.3, jnp.float32)  # as `tiny` normalises
    z = made.method.forward(params, model, views, train=False).z
    return np.asarray(jax.nn.softmax(z), np.float64)


def entropy(p, q):
    return -(p * np.log(q)).sum(axis=1).mean()


def test_the_classifiers_gain_is_the_papers():
    made, state, learner, ahead = searched()
    z = jax.random.normal(jax.random.key(4), (BATCH, 3))
    weights = {"interference": 0.3, "entropy": 0.8}
    told = (state, settings(), learner, ahead, batches()[7])
    gain = gains.classifier_gain(*told, weights)
    x = np.asarray(settings().generator.decode(state.before.generator, z))
    p = softmax_of(made, state.before.params, state.before.model, x)
    q = softmax_of(made, ahead[0], learner.model, x)
    kl = (p * np.log(p / q)).sum(axis=1).mean()
    expected = 0.3 * kl - (0.8 - 0.3) * entropy(p, p)
    found = gain(jax.random.key(0), z)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_generators_gain_is_the_rise_of_its_losses():
    made, state, learner, ahead = searched()
    z = jax.random.normal(jax.random.key(4), (BATCH, 3))
    weights = {"kl": 0.3, "reconstruction": 0.2, "entropy": 0.8}
    told = (state, settings(), learner, ahead, batches()[7])
    gain = gains.generator_gain(*told, weights)
    vae, real = settings().generator, jnp.full(BATCH, True)
    x = vae.decode(state.before.generator, z)
    then, now = (
        vae.losses(w, k, x, real)
        for w, k in zip(
            (ahead[1], state.before.generator),
            jax.random.split(jax.random.key(0)),
            strict=True,
        )
    )
    p = softmax_of(made, state.before.params, state.before.model, np.asarray(x))
    expected = 0.3 * (then.divergence - now.divergence) - 0.8 * entropy(p, p)
    expected += 0.2 * (then.reconstruction - now.reconstruction)
    found = gain(jax.random.key(0), z)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_released_code_repeats_the_last_step():
    made = learning("gen_mir", **STALE)
    found, _ = states(made)
    for before, after in pairwise(found):
        moved = jax.tree.map(
            jnp.subtract, after.params["method"], before.params["method"]
        )
        assert far(after.strategy.last[0], moved) < 1e-7
    assert max(np.abs(x).max() for x in bits(found[7].strategy.last[1])) > 0


def test_a_stop_in_between_changes_nothing_there():
    made = learning("gen_mir", **STALE)
    state = jax.device_put(jax.device_get(states(made)[0][6]))
    again, _ = stepper(made)(state, batches()[6])
    assert equal(again, states(made)[0][7])


def test_only_what_is_asked_for_is_searched():
    ways = [(), ("classifier",), ("generator",)]
    field = "strategy__gen_mir__sought"
    made, _, learner, _ = searched()
    before = states(made)[0][6].strategy
    begins = (learning("gen_mir", **{field: way}).strategy.begin for way in ways)
    none, classifier, generator = (
        jax.jit(begin)(jax.random.key(1), before, learner, batches()[6])[0].replay
        for begin in begins
    )
    assert not same(none.image, classifier.image)
    assert same(none.generator_image, classifier.generator_image)
    assert same(none.image, generator.image)
    assert not same(none.generator_image, generator.generator_image)


def test_something_else_cannot_be_sought():
    words = r"^config.strategy.gen_mir: sought must be of classifier, generator"
    with pytest.raises(Exception, match=words):
        learning("gen_mir", strategy__gen_mir__sought=("encoder",))
