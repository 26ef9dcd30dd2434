"""scikit-learn's digits as a TFDS data set: the one that needs no download.

1,797 real scans of handwritten digits, 8x8, 17 grey levels (Alpaydin and Kaynak 1998,
UCI Optical Recognition of Handwritten Digits, test part). They ship with scikit-learn.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.utils import tqdm_utils

TEST_PART = 0.2  # of each class
SPLIT_SEED = 0


def split(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Positions of the train and test examples, stratified and always the same.

    Args:
      labels: [n] of the examples in scikit-learn's order.

    Returns:
      'train' and 'test', each ascending; a class of m has round(0.2 m) test examples.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        test[members[: round(TEST_PART * len(members))]] = True
    return {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}


def to_uint8(levels: np.ndarray) -> np.ndarray:
    """Grey levels 0..16 spread over 0..255; each level keeps a value of its own."""
    return np.rint(levels * (255 / 16)).astype(np.uint8)


class OcsslDigits(tfds.core.GeneratorBasedBuilder):
    """The digits in scikit-learn's order, with a fixed split."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(8, 8, 1)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits, 8x8, as they ship with scikit-learn.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        del dl_manager  # nothing to download
        from sklearn.datasets import load_digits

        digits = load_digits()
        return {
            name: self._generate_examples(digits.images[rows], digits.target[rows])
            for name, rows in split(digits.target).items()
        }

    def _generate_examples(
        self, levels: np.ndarray, labels: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for i, (image, label) in enumerate(zip(to_uint8(levels), labels, strict=True)):
            yield i, {"image": Image.fromarray(image), "label": int(label)}


def prepare_digits(data_dir: Path) -> None:
    """Writes the data set to `<data_dir>/ocssl_digits`, some seconds' work."""
    builder = OcsslDigits(data_dir=str(data_dir), file_format="array_record")
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    tqdm_utils.disable_progress_bar()  # it is over before a bar is of use
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces a download
            builder.download_and_prepare(download_config=config)
    except OSError:
        if not Path(builder.data_dir).is_dir():  # no other process was faster
            raise
    finally:
        tqdm_utils.enable_progress_bar()
