"""Siblings side by side learn what each of them learns by itself."""

import jax
import pytest
from linear_method import install
from test_seeds import SEEDS, assert_same, feed
from test_siblings import RATE, learning_of
from tiny import tiny_config

from ocssl_jax import crew, dotted
from ocssl_jax.seeds import Carriers, Work, alone
from ocssl_jax.siblings import with_numbers

RATES = (0.1, 0.01, 0.3)
CHUNKS = ((0, 4), (4, 6))


class Made:
    """What a crew wants to know of an experiment."""

    def __init__(self, config, learning_of=learning_of):
        self.learning_of, self.fresh = learning_of, True
        self.learning = learning_of(config)


@pytest.fixture
def configs(monkeypatch):
    install(monkeypatch)  # without a ReLU, which rounding may switch
    config = tiny_config(
        method__name="linear",
        strategy__name="climb",
        strategy__climb__use_aligner=False,
    )
    config.seeds = SEEDS
    return [with_numbers(config, {RATE: rate}) for rate in RATES]


def learning(carrier, chunks=CHUNKS):
    """A run without its files: the final states and the metrics of all batches."""
    states, log = carrier.init(SEEDS, feed(0, 1)), []
    for first, stop in chunks:
        work = Work(carrier, states, feed(first, stop), stop - first, [True, True])
        states, seen = yield work
        log += carrier.metrics(seen, stop - first)
        states = carrier.join(carrier.split(states))
    return carrier.split(states), log


def together(runs):
    """What each of the runs ends with; all are driven at once."""
    answers, ended = dict.fromkeys(runs), {}
    while answers:
        asked = {}
        for name, answer in answers.items():
            try:
                asked[name] = runs[name].send(answer)
            except StopIteration as end:
                ended[name] = end.value
        answers = crew.done(asked)
    return ended


def siblings_of(configs, monkeypatch, *, in_turn, traces=None, at_once=0):
    """Carriers of each of the configs, which share what `in_turn` says."""
    monkeypatch.setattr(crew, "turns", lambda mesh: in_turn)

    def counted(config):
        traces.append(dotted.get(config, RATE))
        return learning_of(config)

    found = crew.Siblings(configs, at_once=at_once)
    made = Made(configs[0], counted if traces is not None else learning_of)
    return [found.carriers(made, config).learning for config in configs]


def test_siblings_in_turn_are_those_built_one_by_one(configs, monkeypatch):
    """To the last bit on this machine's CPU, and compiled once."""
    traces = []
    shared = siblings_of(configs, monkeypatch, in_turn=True, traces=traces)
    built = len(traces)
    for config, carrier in zip(configs, shared, strict=True):
        made = learning_of(config)
        own = crew.turning(jax.jit(made.init), jax.jit(made.step, donate_argnums=0))
        assert_same(alone(learning(carrier)), alone(learning(own)))
    assert len(traces) == built + 2  # one init, one step


@pytest.mark.parametrize("vmap", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_siblings_side_by_side_are_those_in_turn(configs, monkeypatch, vmap):
    traces = []
    in_turn = siblings_of(configs, monkeypatch, in_turn=True)
    monkeypatch.setattr(crew, "turns", lambda mesh: False)
    made = Made(configs[0], lambda c: traces.append(c) or learning_of(c))
    made.learning = made.learning._replace(vmap=vmap)
    found = crew.Siblings(configs)
    beside = [found.carriers(made, config).learning for config in configs]
    before = len(traces)
    ended = together({i: learning(carrier) for i, carrier in enumerate(beside)})
    for i, carrier in enumerate(in_turn):
        assert_same(ended[i], alone(learning(carrier)))
    once = len(traces)
    # One that goes on by itself is filled up, to the same program: the same bits.
    assert_same(alone(learning(beside[1])), ended[1], exact=True)
    assert len(traces) == once > before


def test_runs_that_stand_at_different_places_go_on_together(configs, monkeypatch):
    beside = siblings_of(configs, monkeypatch, in_turn=False)
    runs = {
        "even": learning(beside[0]),
        "odd": learning(beside[1], ((0, 3), (3, 6))),
    }
    ended = together(runs)
    for name, carrier in zip(runs, beside, strict=False):
        assert_same(ended[name], alone(learning(carrier)), exact=True)


def test_work_of_others_is_done_by_itself(configs, monkeypatch):
    (one, two, _) = siblings_of(configs, monkeypatch, in_turn=True)
    ended = together({"a": learning(one), "b": learning(two)})
    assert_same(ended["b"], alone(learning(two)), exact=True)
    assert one.beside is None


SIZES = [(1, 0, 6), (1, 2, 4), (4, 0, 8), (8, 0, 8), (8, 1, 2), (12, 2, 4), (4, 9, 8)]


@pytest.mark.parametrize(("devices", "at_once", "size"), SIZES)
def test_members_fill_all_devices_alike(configs, monkeypatch, devices, at_once, size):
    monkeypatch.setattr(crew.jax, "device_count", lambda: devices)
    monkeypatch.setattr(crew, "make_mesh", lambda d, *, seeds, **_: seeds)
    monkeypatch.setattr(crew, "turns", lambda mesh: False)
    found = crew.Siblings(configs, at_once=at_once)
    assert found.size == size and found.at_once == min(at_once or 3, 3)


def test_programs_of_learners_that_start_otherwise_are_their_own(configs, monkeypatch):
    """A resumed run must not read weights that a fresh one starts with."""
    monkeypatch.setattr(crew, "turns", lambda mesh: True)
    found, read = crew.Siblings(configs), []
    for fresh in (True, False, True):
        made = Made(configs[0], lambda c, f=fresh: read.append(f) or learning_of(c))
        made.fresh = fresh
        read.clear()
        carriers = found.carriers(made, configs[0])
        assert isinstance(carriers, Carriers)
        carriers.learning.init(SEEDS, feed(0, 1))
        assert set(read) <= {fresh}
