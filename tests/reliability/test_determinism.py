"""The same config and seeds give the same bits: whatever the chunks, whoever runs it.

That two processes agree is shown by `test_kill`, whose runs are processes of their own.
"""

import json

import jax
import numpy as np
import pytest
from kill_config import get_config
from tiny import bits, tiny_learning

from ocssl_jax import dotted, experiment, seeds, settings
from ocssl_jax.core import Stream
from ocssl_jax.mesh import make_mesh


def run(place, name, **fields):
    config = get_config("er-simclr")
    config.stream.data_dir = str(place / "data")
    config.baselines, config.probe.names = (), ("ridge",)
    for field, value in fields.items():
        dotted.put(config, field.replace("__", "."), value)
    experiment.run(settings.resolve(config, {}), place / name, {})
    return place / name


def files(folder):
    """What must not differ, by name."""
    names = ["metrics.jsonl", "accuracy.csv", "validation.csv"]
    names += sorted(str(p.relative_to(folder)) for p in folder.rglob("*.safetensors"))
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("same")
    run(place, "one", chunk=1)
    return place


@pytest.mark.parametrize(
    "fields",
    [
        {"chunk": 5},
        *(
            pytest.param(fields, marks=pytest.mark.slow)
            for fields in (
                {"chunk": 7, "checkpoint__every": 1, "checkpoint__keep": 1},
                {"debug": True},
            )
        ),
    ],
    ids=str,
)
def test_what_decides_nothing_changes_no_byte(place, fields, request):
    found = files(run(place, f"other{request.node.name}", **fields))
    assert found == files(place / "one")
    assert len(found) == 3 + 2 * (3 + 1)


@pytest.mark.slow
def test_a_seed_does_not_depend_on_its_company(place):
    alone = run(place, "alone", seeds=(1,))
    for path in (place / "one").rglob("seed_1.safetensors"):
        own = alone / path.relative_to(place / "one")
        assert own.read_bytes() == path.read_bytes()
    ours = [json.loads(x)["loss"] for x in (alone / "metrics.jsonl").open()]
    theirs = (place / "one" / "metrics.jsonl").open()
    assert ours == [json.loads(x)["per_seed"]["loss"][1] for x in theirs]


@pytest.mark.slow
@pytest.mark.parametrize("vmap", [True, False])
def test_one_program_gives_the_same_bits_for_chunks_of_any_length(vmap):
    """As accelerators run it: the length of a chunk is part of the program."""
    learning = tiny_learning(strategy__name="er", passes=2)
    mesh = make_mesh(jax.devices()[:1], seeds=2, seed=0, data=0)
    carrier = seeds.on_mesh(learning.init, learning.step, mesh, vmap=vmap)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (12, 2, 4, 8, 8, 1), np.uint8)
    index = np.arange(96, dtype=np.int32).reshape(12, 2, 4)
    feed = Stream(image, index, np.ones((12, 2, 4), bool), np.zeros((12, 2), bool))

    def final(length):
        states, seen = carrier.init((0, 1), feed), []
        for first in range(0, 12, length):
            part = seeds.at(feed, slice(first, first + length))
            states, metrics = carrier.learn(states, part, length, [True, True])
            seen += carrier.metrics(metrics, length)
        return bits(carrier.split(states)), jax.tree.leaves(seen)

    known = final(1)
    for length in (3, 12):
        for a, b in zip(known, final(length), strict=True):
            for x, y in zip(a, b, strict=True):
                np.testing.assert_array_equal(x, y)
