"""Damaged, foreign and missing files of a run: one line, and earlier results untouched.

A finished run is damaged in one way after the other and taken up again, as after a
power cut or a mistake with `cp`; whatever happens, it ends well or says which file.
"""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fuzzing import tries
from hypothesis import given
from hypothesis import strategies as st
from kill_config import get_config
from nobody import as_nobody, reachable

from ocssl_jax import dotted, encoders, evaluate, experiment, settings, workdir
from ocssl_jax.build import build
from ocssl_jax.checkpoint import Checkpoints
from ocssl_jax.errors import UsageError
from ocssl_jax.train import Run

RESULTS = ("accuracy.csv", "validation.csv", "metrics.jsonl", "config.json")


def config_for(place, **fields):
    config = get_config("er-simclr")
    config.stream.data_dir = str(place / "data")
    config.stream.limit, config.baselines, config.probe.names = 6, (), ("ridge",)
    for name, value in fields.items():
        dotted.put(config, name.replace("__", "."), value)
    return settings.resolve(config, {})


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Holds `whole`, a run with the checkpoints 4 and 6 that lacks only its summary."""
    place = tmp_path_factory.mktemp("checkpoints")
    experiment.run(config_for(place), place / "whole", {})
    (place / "whole" / "summary.json").unlink()
    return place


@pytest.fixture
def run(place, tmp_path) -> Path:
    return shutil.copytree(place / "whole", tmp_path / "run")


@pytest.fixture(scope="module")
def like(place):
    """States as the run's checkpoints must have them."""
    learner = Run(build(config_for(place)), config_for(place), place / "fresh")
    learner.checkpoints.close()
    return learner.seeds.split(learner.states)


def refused(folder, like) -> str:
    """What is said of the newest checkpoint."""
    with pytest.raises(UsageError) as error:
        Checkpoints(folder / "checkpoints", keep=2).restore(like)
    assert "\n" not in str(error.value)
    assert str(folder / "checkpoints" / "6") in str(error.value)
    return str(error.value)


def damage(path: Path, how: str, rng: np.random.Generator) -> None:
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "flipped":
        flipped = bytearray(data)
        for i in rng.integers(0, max(len(data), 1), 4) if data else ():
            flipped[i] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(flipped))
    else:
        left = {"cut": data[: len(data) // 2], "empty": b"", "noise": rng.bytes(99)}
        path.write_bytes(left[how])


HOW = ("gone", "cut", "empty", "noise", "flipped")


@pytest.mark.parametrize("examples", [12, pytest.param(400, marks=pytest.mark.slow)])
def test_any_damage_to_a_checkpoint(place, like, tmp_path, examples, capsys):
    """Restored to the very same bits, or refused by a line that names the folder."""
    truth = Checkpoints(place / "whole" / "checkpoints", keep=2)
    whole = truth.restore(like)
    truth.close()
    said: list[str] = []

    @tries(examples)
    @given(st.data())
    def each(data):
        folder = tmp_path / "checkpoints"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(place / "whole" / "checkpoints", folder)
        files = sorted(p for p in (folder / "6").rglob("*") if p.is_file())
        chosen = data.draw(st.lists(st.sampled_from(files), min_size=1, unique=True))
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        for path in chosen:
            damage(path, data.draw(st.sampled_from(HOW)), rng)
        try:
            saved = Checkpoints(folder, keep=2)
            states, progress = saved.restore(like)
        except UsageError as error:
            said.append(str(error))
            assert "\n" not in said[-1] and str(folder / "6") in said[-1]
            assert "move that folder away to go on from checkpoint 4" in said[-1]
        else:
            assert set(progress) >= {"time", "trained", "stopped"}
            for a, b in zip(bits(states), bits(whole[0]), strict=True):
                np.testing.assert_array_equal(a, b)
            saved.close()

    each()
    with capsys.disabled():
        print(f"{examples} damaged checkpoints tried, {len(said)} refused")
    assert len(said) > examples // 4


def test_what_is_not_as_it_was_saved_is_noticed(run, like):
    """Whatever the storage below takes for good, as it does flipped bits of arrays."""
    path = run / "checkpoints" / "6" / "progress" / "metadata"
    progress = json.loads(path.read_text())
    assert len(progress["checksums"]["states"]) == len(jax.tree.leaves(like))
    progress["checksums"]["states"][3] ^= 1
    path.write_text(json.dumps(progress))
    assert "is not as it was saved" in refused(run, like)
    progress["checksums"]["states"][3] ^= 1
    path.write_text(json.dumps(progress | {"trained": progress["trained"] + 1}))
    assert "its progress is not as it was saved" in refused(run, like)


def test_metadata_that_keep_all_checkpoints_from_being_listed(run):
    saves = run / "checkpoints"
    path = saves / "4" / "_CHECKPOINT_METADATA"
    path.write_text(path.read_text().replace("timestamp", "timestemp"))
    with pytest.raises(UsageError) as error:
        Checkpoints(saves, keep=2)
    assert "checkpoints/4 cannot be restored" in str(error.value)
    assert str(error.value).endswith("move that folder away to start over")
    assert "\n" not in str(error.value)
    (saves / "4").rename(run / "moved")  # the newest one is whole
    opened = Checkpoints(saves, keep=2)
    assert opened.latest() == 6
    opened.close()


def test_what_may_not_be_read_is_not_called_damaged(place, like):
    """The line must not send anybody to throw a good file away."""
    whole, said = place / "whole", []
    with reachable() as run:
        saves = shutil.copytree(whole / "checkpoints", run / "checkpoints")
        for path in (whole / "config.json", *whole.glob("encoder/*.safetensors")):
            shutil.copy(path, run)
        for path in run.rglob("*"):
            path.chmod(0o777 if path.is_dir() else 0)
        with as_nobody(run):
            for read in (
                lambda: Checkpoints(saves, keep=2).restore(like),
                lambda: workdir.read_json(run / "config.json", needs="config"),
                lambda: encoders.load(run / "seed_0.safetensors"),
            ):
                with pytest.raises(OSError) as error:
                    read()
                said.append(str(error.value))
    for words in said:
        assert "Permission denied" in words and "damaged" not in words
        assert "move" not in words and "delete" not in words


def bits(tree):
    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    leaves = jax.tree.leaves(tree)
    return [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in leaves]


def test_a_damaged_run_says_so_and_keeps_what_it_has(place, run):
    before = {name: (run / name).read_bytes() for name in RESULTS}
    for path in (run / "checkpoints" / "6").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UsageError, match=r"checkpoints/6 cannot be restored"):
        experiment.run(config_for(place), run, {})
    assert {name: (run / name).read_bytes() for name in RESULTS} == before
    shutil.rmtree(run / "checkpoints" / "6")  # as the line says
    experiment.run(config_for(place), run, {})
    assert {name: (run / name).read_bytes() for name in RESULTS} == before


@pytest.mark.slow
def test_of_another_dtype_or_config(place, run, like):
    def cast(x):
        floats = jax.dtypes.issubdtype(x.dtype, jnp.floating)
        return x.astype(jnp.bfloat16) if floats else x

    other = [jax.tree.map(cast, state) for state in like]
    assert "this run needs bfloat16" in refused(run, other)
    assert "structures do not match" in refused(run, like[:1])
    with pytest.raises(UsageError, match=r"another config \(method.projection: 16"):
        experiment.run(config_for(place, method__projection=8), run, {})
    # A checkpoint that was copied here from a run of another width.
    experiment.run(config_for(place, method__projection=8), run / "other", {})
    shutil.rmtree(run / "checkpoints" / "6")
    shutil.copytree(run / "other" / "checkpoints" / "6", run / "checkpoints" / "6")
    assert "shape" in refused(run, like)


def test_of_another_version(place, run):
    """Older runs lack what was not kept yet; of newer ones nothing is understood."""
    path = run / "checkpoints" / "6" / "progress" / "metadata"
    progress = json.loads(path.read_text())
    path.write_text(json.dumps({"time": progress["time"]}))
    experiment.run(config_for(place), run, {})
    (run / "summary.json").unlink()
    for text in ('{"stopped": {"0": 3}}', '{"stopped": 5}', '{"time": "later"}', "[]"):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"checkpoints/6 cannot be restored"):
            experiment.run(config_for(place), run, {})


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize(
    "how", ["cut", *(pytest.param(h, marks=pytest.mark.slow) for h in HOW[2:4])]
)
def test_other_files_of_a_run(place, run, name, how, capsys):
    """Damaged tables and logs are named; what can be made again is."""
    before = (run / name).read_bytes()
    damage(run / name, how, np.random.default_rng(1))
    left = (run / name).read_bytes()
    try:
        experiment.run(config_for(place), run, {})
    except UsageError as error:
        assert name in str(error) and "\n" not in str(error)
        assert (run / name).read_bytes() == left
    else:
        assert name != "config.json"
        if name != "metrics.jsonl":
            assert (run / name).read_bytes() == before
        else:  # the log's lost lines are not learnt again
            kept = len((run / name).read_text().splitlines())
            assert f"lacks {6 - kept} of its 6 lines" in capsys.readouterr().out


def test_any_damage_to_the_config_of_a_run(place, run, capsys):
    """As `ocssl_jax.evaluate` reads it, whose only source it is."""
    path = run / "config.json"
    whole, rng = json.loads(path.read_text()), np.random.default_rng(0)
    fields = dotted.flat(whole["config"])
    junk = (None, -1, 10**30, 1e-30, "x", [], [None], {}, {"a": 1}, True)
    names = [n for n in fields if not n.startswith("reference.")]
    told = 0
    for name in rng.choice(names, 40, replace=False):
        broken = json.loads(json.dumps(whole))
        dotted.put(broken["config"], name, junk[rng.integers(len(junk))])
        path.write_text(json.dumps(broken))
        code = 0
        try:
            evaluate.main([str(run), "--probe=ridge"])
        except SystemExit as left:
            code = left.code
        said = capsys.readouterr().err
        assert code in (0, 2)
        assert said.count("\n") == (code == 2), said
        told += code == 2
    assert told > 20
