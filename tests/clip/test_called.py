"""What classes are called, where data sets have numbers for them."""

import pytest

from ocssl_jax.clip.called import called
from ocssl_jax.errors import UsageError

CLASSES = ("n01443537", "n01440764")


def test_names_are_looked_up_up_to_the_first_comma(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text(
        "n01440764 tench, Tinca tinca\n\nn01443537\tgoldfish, Carassius auratus\n"
        "n01484850 great white shark\n"
    )
    assert called(CLASSES, str(path)) == ("goldfish", "tench")
    assert called(("apple", "bear"), "") == ("apple", "bear")
    with pytest.raises(UsageError, match=r"what 1 classes are called: n09999999$"):
        called((*CLASSES, "n09999999"), str(path))


def test_numbers_are_no_words(tmp_path):
    with pytest.raises(UsageError, match=r"clip\.names must be a file .* n01443537"):
        called(CLASSES, "")
    with pytest.raises(UsageError, match="cannot be read"):
        called(CLASSES, str(tmp_path / "nothing"))
