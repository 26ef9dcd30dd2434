"""Features of a folder's pictures, block by block: images are never all in memory."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ocssl_jax import feature_files, saved
from ocssl_jax.data import folders
from ocssl_jax.data.cache import told
from ocssl_jax.encoding import Encoder
from ocssl_jax.errors import TrainingError, UsageError
from ocssl_jax.feature_files import Features


def embed(workdir: Path, folder: Path, out: Path, *, seed: int | None) -> str:
    """Write the features of every picture below `folder`; what was done, in a line.

    Args:
      workdir: of a finished run.
      folder: whose pictures are resized to the run's images, aspect ratios ignored.
      out: a `.parquet` or `.npz` file.
      seed: whose encoder; None: the first.

    Raises:
      UsageError: before anything is written, if there is no finished run, no picture,
        or `out` cannot be what it is called.
      TrainingError: if a feature is not finite.
    """
    feature_files.check(out)
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    files = folders.below(folder)
    if not files:
        raise UsageError(folders.no_picture(folder))
    encoder = saved.load(workdir, seed)
    found = features(encoder, folder, files)
    if not np.isfinite(found.feature).all():
        raise TrainingError(
            f"the encoder of {workdir} gives features that are not finite"
        )
    feature_files.write(out, found)
    rows, width = found.feature.shape
    return f"{rows:,} pictures, {width} features each: {out}"


def features(encoder: saved.Saved, root: Path, files: list[folders.File]) -> Features:
    """Of all files that can be read; others are named on stderr and counted.

    Raises:
      UsageError: if none can be read.
    """
    size = encoder.config.probe.batch_size
    encode = Encoder(encoder.encode, batch_size=size)
    kept: list[folders.File] = []
    lost: list[str] = []
    found = []
    for block, images, broken in blocks(encoder, root, files, size):
        kept += block
        lost += broken
        if block:
            found.append(encode(encoder.variables, np.stack(images)))
    if lost:
        print(folders.skipped(str(root), len(kept), lost), file=sys.stderr)
    if not kept:
        raise UsageError(f"no picture in {root} can be read")
    paths, categories = [f.path for f in kept], [f.category for f in kept]
    return Features(paths, categories, np.concatenate(found))


Block = tuple[list[folders.File], list[np.ndarray], list[str]]  # read, and not read


def blocks(
    encoder: saved.Saved, root: Path, files: list[folders.File], size: int
) -> Iterator[Block]:
    """Files and their images, at most `size`, and the paths of those without one."""
    side, _, channels = encoder.pixels.shape
    read = partial(folders.picture_of, root, channels=channels, size=side)
    rows = folders.decoded(files, read)
    block: Block = [], [], []
    for file, image in told(rows, f"embedding {len(files):,} pictures of {root}"):
        if image is None:
            block[2].append(file.path)
            continue
        block[0].append(file)
        block[1].append(image)
        if len(block[0]) == size:
            yield block
            block = [], [], []
    yield block
