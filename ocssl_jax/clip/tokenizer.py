"""CLIP's byte-pair encoding, offline.

The table of merges is no part of this library: it is read from a file that comes with
every checkpoint, or with the open_clip wheel. The engine is the `tokenizers` package,
set up by CLIP's rules:

* text is repaired (ftfy), HTML entities resolved twice, white space made one blank,
  letters made small;
* words are contractions, runs of letters, single digits, runs of other signs;
* ids: 256 bytes, the same 256 at the end of a word, one for each merge, then the start
  of a text and, the largest, its end; short texts are filled up with 0 behind it.

0 is a token as well ('!' within a word), so that nothing may be read off a 0.
"""

import gzip
import html
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocssl_jax.clip.architecture import CONTEXT, VOCABULARY
from ocssl_jax.errors import UsageError

WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
END_OF_WORD = "</w>"
MERGES = VOCABULARY - 2 * 256 - 2  # of CLIP's table; the wheel's file has more lines
WHEEL = "bpe_simple_vocab_16e6.txt.gz"  # in the package open_clip
# In a checkpoint's folder, by choice.
IN_FOLDER = ("tokenizer.json", "merges.txt", WHEEL)
MULTIPLE = 8  # lengths that texts are cut to: few shapes to compile for

Merge = tuple[str, str]


class Tokenizer:
    """Texts to rows of tokens.

    Attributes:
      context: tokens a row, at most.
      start: the token before each text.
      end: the token behind it, the largest of all.
    """

    def __init__(self, merges: Sequence[Merge], *, context: int = CONTEXT):
        """`merges` are pairs of symbols, the first to be applied first.

        Raises:
          UsageError: if the package `tokenizers` or `ftfy` is not installed.
        """
        self._fix, engine = _packages()
        symbols = byte_symbols()
        symbols += [symbol + END_OF_WORD for symbol in symbols]
        symbols += [a + b for a, b in merges]
        model = engine.models.BPE(
            vocab={symbol: i for i, symbol in enumerate(symbols)},
            merges=list(merges),
            end_of_word_suffix=END_OF_WORD,
        )
        self._engine = engine.Tokenizer(model)
        parts = engine.pre_tokenizers
        self._engine.pre_tokenizer = parts.Sequence(
            [
                parts.Split(engine.Regex(WORDS), behavior="removed", invert=True),
                parts.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self.context = context
        self.start, self.end = len(symbols), len(symbols) + 1

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Tokens [n t] int32 of n texts.

        A text that is too long is cut to the context, its last token the end. t is the
        context, or the longest row's length rounded up to a multiple of `MULTIPLE` if
        that is less: what stands behind the end has no influence on the features.
        """
        rows = [
            [self.start, *self._engine.encode(self._clean(text)).ids, self.end]
            for text in texts
        ]
        longest = max(map(len, rows), default=2)
        length = min(self.context, -(-longest // MULTIPLE) * MULTIPLE)
        tokens = np.zeros((len(rows), length), np.int32)
        for row, ids in zip(tokens, rows, strict=True):
            ids = ids[:length]
            row[: len(ids)] = ids
            row[len(ids) - 1] = self.end
        return tokens

    def _clean(self, text: str) -> str:
        text = html.unescape(html.unescape(self._fix(text)))
        return " ".join(text.split()).lower()


def load_tokenizer(source: str | Path = "", *, context: int = CONTEXT) -> Tokenizer:
    """The tokenizer of a checkpoint.

    Args:
      source: a folder with one of `IN_FOLDER`, or such a file; '': the one that comes
        with the package `open_clip`, which need not be importable.
      context: tokens a text, at most.

    Raises:
      UsageError: if there is no table of merges, saying where one can be had.
    """
    path = Path(source).expanduser() if source else _in_wheel()
    if path.is_dir():
        files = [path / name for name in IN_FOLDER if (path / name).is_file()]
        if not files:
            raise UsageError(
                f"CLIP's tokenizer: {path} has none of {', '.join(IN_FOLDER)}"
            )
        path = files[0]
    if not path.is_file():
        raise UsageError(f"CLIP's tokenizer: there is no file {path}")
    return Tokenizer(read_merges(path), context=context)


def read_merges(path: Path) -> list[Merge]:
    """The pairs in a table of merges, in their order.

    Args:
      path: of a `tokenizer.json`, or of lines 'a b' under one line of heading, which
        may be compressed (.gz). Only the first `MERGES` lines count.

    Raises:
      UsageError: if it is no such file.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        text = content.decode()
        if path.suffix == ".json":
            rows: list[Any] = json.loads(text)["model"]["merges"]
        else:
            rows = text.split("\n")[1:]
        pairs = [row.split() if isinstance(row, str) else row for row in rows]
        merges = [(a, b) for a, b in (pair for pair in pairs[:MERGES] if pair)]
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise UsageError(
            f"CLIP's tokenizer: {path} is no table of merges ({error!r})"
        ) from error
    return merges


def byte_symbols() -> list[str]:
    """The sign that stands for each byte, in the order of the vocabulary.

    Printable bytes of Latin-1 stand for themselves and come first; the others follow,
    as the signs from 256 on.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = range(256 - len(printable))
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in others]


def _in_wheel() -> Path:
    found = importlib.util.find_spec("open_clip")
    places = found.submodule_search_locations if found else None
    if not places:
        raise UsageError(
            "CLIP's tokenizer needs a table of merges: give the folder of a checkpoint "
            f"with {' or '.join(IN_FOLDER[:2])}, or pip install --no-deps "
            "open_clip_torch"
        )
    return Path(places[0]) / WHEEL


def _packages() -> tuple[Any, Any]:
    try:
        import ftfy
        import tokenizers
    except ImportError as error:
        raise UsageError(
            f"CLIP's tokenizer needs the package {error.name}: "
            f"pip install 'ocssl-jax[clip]'"
        ) from error
    return ftfy.fix_text, tokenizers
