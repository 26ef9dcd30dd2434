"""Configs of random fields, kinds and sizes: built, or refused by one line."""

import io
import json
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from fuzzing import tries
from hypothesis import given
from hypothesis import strategies as st
from processes import CONFIG

from ocssl_jax import commandline, dotted, settings
from ocssl_jax.build import build
from ocssl_jax.errors import UsageError

# A few in the default run; many where there is time.
EXAMPLES = pytest.mark.parametrize(
    "examples", [25, pytest.param(1000, marks=pytest.mark.slow)]
)
DEFAULT = commandline.configured([f"--config={CONFIG}"])[0]
FIELDS = [n for n in dotted.flat(DEFAULT.to_dict()) if not n.startswith("reference.")]
NUMBERS = st.sampled_from(
    [0, 1, -1, 2, 3, 7, 100, 2**31, 2**63, 10**30, 0.5, 1e30, -1e-30]
) | st.floats(width=32)
SCALARS = NUMBERS | st.booleans() | st.none() | st.text(max_size=9)
VALUES = (
    SCALARS
    | st.lists(SCALARS, max_size=3).map(tuple)
    | st.lists(SCALARS, max_size=2)
    | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)
)
CHANGES = st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1, max_size=3)
WORDS = st.text(st.characters(exclude_characters="\0"), max_size=12)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    """A random name of a folder is one in the current folder, where data are made."""
    monkeypatch.chdir(tmp_path)


def tried(check, strategy, examples):
    """Run `check` on that many examples; how many of them it took for bad ones."""
    refused = []

    @tries(examples)
    @given(strategy)
    def each(example):
        try:
            check(example)
        except UsageError as error:
            refused.append(error)
            assert "\n" not in str(error) and len(str(error)) > 10

    each()
    print(f"{examples} tried, {len(refused)} refused")
    return len(refused)


@EXAMPLES
def test_any_value_of_any_field_in_a_file(data, examples):
    def check(changes):
        fields = settings.as_json(DEFAULT)
        fields["stream"]["data_dir"] = str(data)
        for name, value in changes.items():
            try:
                dotted.put(fields, name, value)
            except (KeyError, TypeError):
                return  # a group of it was just replaced by something else
        build(settings.from_json(fields))

    assert tried(check, CHANGES, examples) > examples // 4


@EXAMPLES
def test_any_text_of_any_field_on_the_command_line(data, examples):
    def check(changes):
        flags = [f"--config.{name}={text}" for name, text in changes.items()]
        place = f"--config.stream.data_dir={data}"
        found = commandline.configured([f"--config={CONFIG}", place, *flags])
        build(settings.resolve(*found))

    texts = WORDS | NUMBERS.map(repr) | VALUES.map(repr)
    changes = st.dictionaries(
        st.sampled_from([f for f in FIELDS if f != "stream.data_dir"]),
        texts.filter(lambda text: "\0" not in text),
        min_size=1,
        max_size=3,
    )
    assert tried(check, changes, examples) > examples // 4


@EXAMPLES
def test_any_flag(examples):
    def check(flags):
        commandline.configured([f"--config={CONFIG}", *(f"--{f}" for f in flags)])

    names = WORDS.map("config.".__add__) | WORDS
    flags = st.lists(st.builds("{}={}".format, names, WORDS), min_size=1, max_size=2)
    assert tried(check, flags, examples) > examples // 4


@pytest.mark.parametrize(
    "missing", ["seeds", "stream", "strategy.climb.centroid_memory", "probe.linear"]
)
def test_a_field_that_is_missing_is_named(missing):
    fields = json.loads(json.dumps(settings.as_json(DEFAULT)))
    *groups, last = missing.split(".")
    node = fields
    for group in groups:
        node = node[group]
    del node[last]
    with pytest.raises(UsageError, match=rf"lacks the field {missing}"):
        settings.from_json(fields)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UsageError("two\nlines"), "x: two lines"),
        (MemoryError(), "x: the memory is too small for this run"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nmore"), "x: the memory is"),
        (OSError(28, "No space left on device", "f"), "x: No space left on device: f"),
    ],
)
def test_whatever_ends_a_command_is_one_line(error, words):
    said = io.StringIO()
    with (
        redirect_stderr(said),
        pytest.raises(SystemExit) as left,
        commandline.ending("x", Path("folder")),
    ):
        raise error
    assert left.value.code == (2 if isinstance(error, UsageError) else 1)
    assert said.getvalue().startswith(words) and said.getvalue().count("\n") == 1


def test_other_errors_are_not_hidden():
    with (
        pytest.raises(RuntimeError, match="a mistake"),
        commandline.ending("x", Path("folder")),
    ):
        raise RuntimeError("a mistake of ours")
