"""AE: what the autoencoder learns and keeps, and what the classifier is shown of it."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hybrid_case import (
    ADAM_RATE,
    EPOCHS,
    PLAIN,
    RATE,
    STEPS,
    R,
    batches,
    decode,
    drawn,
    encode,
    far,
    held,
    image_of,
    learner_of,
    made,
    pairs,
    released,
    states,
    stepper,
)
from marks import slow
from perceptron import slopes, weights
from tiny import BATCH, bits, equal, stream, tiny_config

from configs import mir_cifar10
from ocssl_jax import Learner as OwnLoop
from ocssl_jax import encoders, settings
from ocssl_jax.autoencoder import signed, to_pixels
from ocssl_jax.errors import UsageError
from ocssl_jax.learning import make_learning

HALF = {"strategy__ae__autoencoder__replays": True, "strategy__ae__strength": 0.5}


# What is kept.


@pytest.mark.parametrize(("variant", "codes"), [("ae", 1000), ("ae_mir-5000", 5000)])
def test_the_memory_is_9_6_times_as_small_as_its_images(variant, codes):
    config = settings.resolve(mir_cifar10.get_config(variant), {})
    config.backbone.update({"name": "mlp", "width": 8})
    half = (0.5,) * 3
    big = make_learning(config, shape=(32, 32, 3), mean=half, std=half)
    arrival = next(stream(1, labelled=True))
    arrival = arrival._replace(image=jnp.zeros((BATCH, 32, 32, 3), jnp.uint8))
    kept = jax.eval_shape(big.init, jax.random.key(0), arrival).strategy
    size = lambda tree: sum(
        x.size * x.dtype.itemsize for x in jax.tree.leaves(tree, is_leaf=None)
    )
    raw = 4 * 32 * 32 * 3  # bytes of an image in float32, as codes are
    code = kept.memory.items["code"]
    assert code.shape == (codes, 320) and code.dtype == jnp.float32
    assert codes * raw / size(code) == pytest.approx(9.6)
    # Labels, ids, tasks and ranks take 20 bytes a row; images are nowhere.
    assert size(kept.memory) == size(code) + 20 * codes
    assert kept.now == ()
    # The paper's account: so many raw images' room, and the decoder's beside it.
    assert size(code) // raw == {1000: 104, 5000: 520}[codes]
    params = kept.coder.live["params"]
    decoder = [v for k, v in params.items() if k.startswith(("up", "outer"))]
    assert round(size(decoder) / raw) == 7


def test_codes_are_those_of_the_autoencoder_that_decodes_them():
    """Of the present experience as encoded, of the one before carried over."""
    found, _ = states(made())
    after_first, after_second = found[4].strategy, found[8].strategy
    images = image_of()
    for state in (after_first, after_second):
        task = int(state.task)
        own = [i for i in held(state) if i // (STEPS * BATCH) == task]
        assert len(own) == STEPS * BATCH
        x = signed(jnp.asarray(np.stack([images[i] for i in own])))
        codes = np.stack([held(state)[i] for i in own])
        np.testing.assert_allclose(codes, encode()(state.coder.settled, x), atol=1e-4)
        np.testing.assert_array_equal(
            *map(
                np.concatenate, ([x.ravel() for x in bits(v)] for v in state.coder[::3])
            )
        )  # the settled copy is the one that learns, which has stopped
    then, now = held(after_first), held(after_second)
    assert set(then) < set(now)
    old = jnp.asarray(np.stack(list(then.values())))
    decoded = decode()(after_first.coder.settled, old)
    carried = encode()(after_second.coder.settled, decoded)
    np.testing.assert_allclose(np.stack([now[i] for i in then]), carried, atol=1e-4)


def test_all_epochs_but_the_last_are_for_the_autoencoder():
    found, seen = states(made())
    classifier = lambda s: (s.params, s.model, s.opt_state)
    for i, (before, after) in enumerate(pairwise(found)):
        last = int(batches()[i].epoch) == EPOCHS - 1
        assert (far(classifier(before), classifier(after)) > 0) == last
        live = before.strategy.coder.live, after.strategy.coder.live
        assert (far(*live) == 0) == last
        grown = len(held(after.strategy)) - len(held(before.strategy))
        assert grown == (BATCH if last and i < 12 else 0)  # 24 slots
        assert (float(seen[i]["rows"]) > 0) == last
        assert (float(seen[i]["loss"]) > 0) == last


@pytest.mark.slow
def test_in_the_released_code_it_learns_on():
    found, seen = states(released())
    for before, after in pairwise(found):
        assert far(before.strategy.coder.live, after.strategy.coder.live) > 0
    assert all(float(m["loss_autoencoder"]) > 0 for m in seen)
    # And its codes follow it from epoch to epoch, not only to the last one.
    copies = [s.strategy.coder.settled for s in found]
    moved = [far(a, b) > 0 for a, b in pairwise(copies)]
    assert moved[2:] == [i % STEPS == 0 for i in range(2, len(moved))]
    copies = [s.strategy.coder.settled for s in states(made())[0]]
    moved = [far(a, b) > 0 for a, b in pairwise(copies)]
    assert moved == [i % (EPOCHS * STEPS) == STEPS for i in range(len(moved))]


@pytest.mark.parametrize("replays", [True, *slow(False)])
@pytest.mark.slow
def test_its_step_is_adams_on_the_mean_square(replays):
    """If asked, over decoded codes as well: here all that there are."""
    learning = made(**HALF) if replays else made()
    before, after = (s.strategy for s in states(learning)[0][4:6])
    batch, coder = batches()[4], before.coder
    x = signed(batch.image)
    if replays:
        old = jnp.asarray(np.stack(list(held(before).values())))
        x = jnp.concatenate([x, decode()(coder.settled, old)])

    def loss(params):
        variables = {"params": params, "batch_stats": coder.live["batch_stats"]}
        y = decode(True)(variables, encode(True)(variables, x))
        return jnp.mean(jnp.square(y - x))

    value, slope = jax.value_and_grad(loss)(coder.live["params"])
    step, _ = optax.adam(ADAM_RATE).update(slope, coder.adam)
    expected = optax.apply_updates(coder.live["params"], step)
    np.testing.assert_allclose(after.coder.loss, value, rtol=1e-4)
    assert far(after.coder.live["params"], expected) < 1e-4


# What the classifier sees.


def test_the_classifier_sees_what_the_autoencoder_leaves():
    learning = made()
    state, batch = states(learning)[0][7], batches()[7]
    found, kept = drawn(learning, state, batch)
    live = kept.coder.live
    code = encode()(live, signed(batch.image))
    image = to_pixels(decode()(live, code))
    np.testing.assert_array_equal(found.items["image"][R:], image)
    np.testing.assert_array_equal(found.views[0, R:], learning.prepare(image))
    assert not np.array_equal(image, batch.image)
    np.testing.assert_array_equal(found.items["label"][R:], batch.label)


def test_in_the_released_code_the_first_experience_is_seen_as_it_is():
    for number, raw in ((3, True), (7, False)):
        state, batch = states(released())[0][number], batches()[number]
        found, _ = drawn(released(), state, batch)
        same = np.array_equal(found.items["image"][R:], batch.image)
        assert same == raw


def test_so_does_whoever_judges_it(tmp_path):
    learning, state = made(), states(made())[0][8]
    images = batches()[0].image
    live = state.strategy.coder.live
    code = encode()(live, signed(images))
    seen = learning.prepare(to_pixels(decode()(live, code)))
    expected = learner_of(learning, state).method.forward(
        state.params["method"], state.model, seen, train=False
    )
    variables = learning.encoder(state)
    np.testing.assert_allclose(
        learning.encode(variables, images), expected.e, rtol=1e-5
    )
    [(_, whole)] = encoders.of({0: state}, learning.encoder, learning.head)
    encoders.save(tmp_path / "seed_0.safetensors", whole)
    again = encoders.load(tmp_path / "seed_0.safetensors")
    np.testing.assert_array_equal(
        learning.encode(again, images), learning.encode(variables, images)
    )


def test_random_replay_is_of_earlier_experiences_and_never_mixes():
    """Each row is one code, decoded, with the label that came with it."""
    learning = made()
    state, batch = states(learning)[0][11], batches()[11]  # the third experience
    labels = {int(i): int(y) for b in batches() for i, y in pairs(b)}
    counts = dict.fromkeys(range(2 * STEPS * BATCH), 0)
    for key in range(200):
        found, kept = drawn(learning, state, batch, key)
        items, codes = found.items, held(kept)
        ids = np.asarray(items["id"][:R]).tolist()
        assert found.replay_mask.all() and len(set(ids)) == R
        for i in ids:
            counts[i] += 1
        if key < 5:
            code = jnp.asarray(np.stack([codes[i] for i in ids]))
            x = decode()(kept.coder.settled, code)
            np.testing.assert_array_equal(items["image"][:R], to_pixels(x))
            assert items["label"][:R].tolist() == [labels[i] for i in ids]
            assert (np.asarray(items["task"][:R]) < int(kept.task)).all()
    expected = 200 * R / len(counts)
    assert max(abs(n - expected) for n in counts.values()) < 5 * expected**0.5


def test_random_replay_does_not_look_at_classifier_or_stream():
    learning = made()
    state, batch = states(learning)[0][11], batches()[11]
    other = state.replace(
        params=jax.tree.map(lambda x: x + 1.0, state.params), model=state.model
    )
    changed = batch._replace(image=255 - batch.image, label=batch.label * 0)
    a, _ = drawn(learning, state, batch)
    b, _ = drawn(learning, other, changed)
    np.testing.assert_array_equal(a.items["id"][:R], b.items["id"][:R])
    np.testing.assert_array_equal(a.views[:, :R], b.views[:, :R])


def test_there_is_nothing_to_replay_in_the_first_experience():
    found, _ = drawn(made(), states(made())[0][3], batches()[3])
    assert not found.replay_mask.any() and found.mask[R:].all()


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_step_is_along_the_mean_over_stream_and_replay(strength):
    """Half of it in the released code, but in the first experience."""
    learning = made(**HALF) if strength < 1 else made()
    for number, factor in ((3, 1.0), (7, strength)):
        state, batch = states(learning)[0][number], batches()[number]
        rows, _ = drawn(learning, state, batch)
        real = np.asarray(rows.mask)
        x = np.asarray(rows.views[0], np.float64).reshape(len(real), -1)[real]
        y = np.asarray(rows.items["label"])[real]
        assert len(y) == (BATCH if number == 3 else BATCH + STEPS * BATCH)
        w = weights(state.params["method"])
        expected = [
            a - RATE * factor * g for a, g in zip(w, slopes(w, x, y), strict=True)
        ]
        after = weights(states(learning)[0][number + 1].params["method"])
        for a, b in zip(after, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_a_stop_in_between_changes_nothing():
    for one in (made(), released()):
        for at in (1, 6, 9):
            state = jax.device_put(jax.device_get(states(one)[0][at]))
            again, _ = stepper(one)(state, batches()[at])
            assert equal(again, states(one)[0][at + 1])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"strategy__ae__memory": "minred"}, "memory must be one of reservoir"),
        (
            {"stream__epochs": 1},
            r"learns_on must be True where .*epochs=1\), got False",
        ),
    ],
)
def test_settings_that_cannot_be_are_told(fields, words):
    with pytest.raises(UsageError, match=f"^config.strategy.ae: .*{words}"):
        made(**fields)


def test_in_ones_own_loop_there_are_no_epochs():
    """Whatever the config's stream has: the autoencoder has to learn on."""
    config = tiny_config(**PLAIN, strategy__name="ae")
    config.strategy.ae.autoencoder.learns_on = False
    with pytest.raises(UsageError, match="learns_on must be True where images arrive"):
        OwnLoop(config).init(jax.random.key(0), np.zeros((2, 8, 8, 3), np.uint8))


def test_no_experience_may_have_passed_by():
    with pytest.raises(
        UsageError, match=r"^config.stream.known must be 0 with .* 'ae'"
    ):
        made(stream__known=1)
