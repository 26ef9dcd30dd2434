"""The tokenizer: an encoder in plain Python beside it, CLIP's vectors, its files."""

import gzip
import importlib.util
import json
from itertools import pairwise

import numpy as np
import pytest

from ocssl_jax.clip.tokenizer import Tokenizer, byte_symbols, load_tokenizer
from ocssl_jax.errors import UsageError

MERGES = [
    ("a", "t</w>"),
    ("c", "at</w>"),
    ("i", "n"),
    ("h", "e</w>"),
    ("t", "he</w>"),
    ("t", "h"),
    ("in", "g</w>"),
    ("c", "a"),
    ("'", "s</w>"),
    ("Ã", "©</w>"),
]


def oracle(word, merges):
    """Symbols of a word: the earliest merge that occurs is made everywhere, again."""
    signs = {byte: chr(byte) for byte in [*range(33, 127), *range(161, 173)]}
    signs |= {byte: chr(byte) for byte in range(174, 256)}
    others = [byte for byte in range(256) if byte not in signs]
    signs |= {byte: chr(256 + i) for i, byte in enumerate(others)}
    symbols = [signs[byte] for byte in word.encode()]
    symbols[-1] += "</w>"
    while pairs := set(pairwise(symbols)) & set(merges):
        pair = min(pairs, key=merges.index)
        joined, i = [], 0
        while i < len(symbols):
            if tuple(symbols[i : i + 2]) == pair:
                joined.append(pair[0] + pair[1])
                i += 2
            else:
                joined.append(symbols[i])
                i += 1
        symbols = joined
    return symbols


def vocabulary(merges):
    symbols = byte_symbols()
    symbols += [s + "</w>" for s in symbols] + [a + b for a, b in merges]
    return symbols


# Texts and the words they are made of.
TEXTS = [
    ("the cat's in the hat", ["the", "cat", "'s", "in", "the", "hat"]),
    ("  The\tCAT\n thing ", ["the", "cat", "thing"]),
    ("a photo of a cat.", ["a", "photo", "of", "a", "cat", "."]),
    (
        "22 caf\u00e9s, 1 cafe\u0301!!",
        ["2", "2", "caf\u00e9s", ",", "1", "caf\u00e9", "!!"],
    ),
    ("cat &amp;amp; hat", ["cat", "&", "hat"]),  # resolved twice
    ("the cat\u2019s hat", ["the", "cat", "'s", "hat"]),  # repaired
    ("\u732b \U0001f408 at!in", ["\u732b", "\U0001f408", "at", "!", "in"]),
]


@pytest.mark.parametrize(("text", "words"), TEXTS)
def test_against_plain_python(text, words):
    tokenizer = Tokenizer(MERGES, context=64)
    symbols = vocabulary(MERGES)
    expected = [symbols.index(s) for w in words for s in oracle(w, MERGES)]
    row = tokenizer([text])[0]
    assert row[0] == tokenizer.start == len(symbols)
    end = int(np.argmax(row))
    assert row[end] == tokenizer.end == len(symbols) + 1
    assert row[1:end].tolist() == expected
    assert not row[end + 1 :].any()


def test_places_of_the_bytes():
    symbols = byte_symbols()
    assert len(symbols) == len(set(symbols)) == 256
    tokenizer = Tokenizer(MERGES)
    # '!' within a word is token 0, a word of its own it is token 256.
    assert tokenizer(["!"])[0, 1] == 256
    assert tokenizer(["!?"])[0, 1] == 0
    assert symbols[:2] == ["!", '"'] and symbols[188] == chr(256)


def test_rows_are_cut_and_filled():
    tokenizer = Tokenizer(MERGES, context=12)
    tokens = tokenizer(["cat", "cat cat cat cat cat cat cat"])
    assert tokens.shape == (2, 12) and tokens.dtype == np.int32  # 9, rounded up to 16
    assert tokenizer(["cat"]).shape == (1, 8)
    long = tokenizer(["cat " * 40])[0]
    assert long.shape == (12,) and long[-1] == tokenizer.end  # cut, the end kept
    assert (long[1:-1] == tokenizer(["cat"])[0, 1]).all()
    assert tokenizer([""])[0, :3].tolist() == [tokenizer.start, tokenizer.end, 0]


def test_every_source_is_the_same_table(tmp_path):
    lines = "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in MERGES)
    expected = Tokenizer(MERGES)(["the cat thing"])
    (tmp_path / "bpe_simple_vocab_16e6.txt.gz").write_bytes(
        gzip.compress(lines.encode())
    )
    np.testing.assert_array_equal(load_tokenizer(tmp_path)(["the cat thing"]), expected)
    (tmp_path / "merges.txt").write_text(lines)
    found = load_tokenizer(tmp_path / "merges.txt")(["the cat thing"])
    np.testing.assert_array_equal(found, expected)
    for rows in (MERGES, [f"{a} {b}" for a, b in MERGES]):  # both spellings occur
        table = {"model": {"merges": rows}}
        (tmp_path / "tokenizer.json").write_text(json.dumps(table))
        found = load_tokenizer(tmp_path)(["the cat thing"])
        np.testing.assert_array_equal(found, expected)


def test_missing_and_damaged_tables(tmp_path):
    for name, content, match in [
        ("merges.txt", b"\xff\xfe", "is no table of merges"),
        ("merges.txt", b"#\na b c\n", "is no table of merges"),
        ("tokenizer.json", b"{}", "is no table of merges"),
        ("a.txt.gz", b"no gzip", "is no table of merges"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=match):
            load_tokenizer(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"has none of tokenizer.json, merges.txt"):
        load_tokenizer(tmp_path / "empty")
    with pytest.raises(UsageError, match="there is no file"):
        load_tokenizer(tmp_path / "none.txt")


@pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None,
    reason="CLIP's table of merges comes with open_clip_torch (pip install --no-deps)",
)
def test_vectors_of_clip():
    tokenizer = load_tokenizer()
    assert (tokenizer.start, tokenizer.end) == (49406, 49407)
    for text, expected in [
        (
            "a photo of a goldfish.",
            [49406, 320, 1125, 539, 320, 40293, 269, 49407],
        ),
        (
            "a photo of a maple tree.",
            [49406, 320, 1125, 539, 320, 10570, 2677, 269, 49407],
        ),
    ]:
        row = tokenizer([text])[0]
        assert row[: len(expected)].tolist() == expected
        assert not row[len(expected) :].any()
