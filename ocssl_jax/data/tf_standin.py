"""A stand-in for the few TensorFlow functions that TFDS calls to prepare image data.

TFDS reads archives through `tf.io.gfile` and encodes pictures with `tf.io.encode_png`.
Both have a plain Python equal, so a gigabyte of TensorFlow is not needed for them. The
stand-in is put only into the lazy proxy through which TFDS itself reaches TensorFlow:
`sys.modules` never sees it, so no other library can mistake it for the real thing.
"""

import contextlib
import io
import os
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

_one_at_a_time = threading.RLock()  # the proxy is shared by the whole process


class _Encoded(bytes):
    """Encoded bytes that answer `.numpy()`, as an eager tensor does."""

    def numpy(self) -> bytes:
        return bytes(self)


def _encode(image: np.ndarray, **options: Any) -> _Encoded:
    grey = image.ndim == 3 and image.shape[-1] == 1
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if grey else image).save(file, **options)
    return _Encoded(file.getvalue())


def _encode_png(image: np.ndarray) -> _Encoded:
    """PNG bytes of `image` [h w c] uint8 with 1, 3 or 4 channels; lossless."""
    return _encode(image, format="PNG")


def _encode_jpeg(image: np.ndarray) -> _Encoded:
    """JPEG bytes of `image` [h w c] uint8 at TensorFlow's default quality."""
    return _encode(image, format="JPEG", quality=95)


def _as_text(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text


def _open(path: Any, mode: str = "r") -> Any:
    return open(path, mode, encoding=None if "b" in mode else "utf-8")


def _standin() -> SimpleNamespace:
    class UnimplementedError(Exception):
        """Never raised; TFDS names it in its `except` clauses."""

    gfile = SimpleNamespace(
        GFile=_open, exists=os.path.exists, isdir=os.path.isdir, listdir=os.listdir
    )
    encoders = {"encode_png": _encode_png, "encode_jpeg": _encode_jpeg}
    return SimpleNamespace(
        io=SimpleNamespace(gfile=gfile, **encoders),
        image=SimpleNamespace(**encoders),
        compat=SimpleNamespace(as_text=_as_text),
        errors=SimpleNamespace(UnimplementedError=UnimplementedError),
        executing_eagerly=lambda: True,
    )


@contextlib.contextmanager
def tf_standin() -> Iterator[None]:
    """While open, TFDS finds the stand-in where it looks for TensorFlow."""
    from tensorflow_datasets.core.utils import lazy_imports_utils

    proxy = vars(lazy_imports_utils.tensorflow)
    with _one_at_a_time:
        # '_module' is the proxy's cached property: absent until first resolved.
        before = {k: proxy[k] for k in ("_module",) if k in proxy}
        proxy["_module"] = _standin()
        try:
            yield
        finally:
            del proxy["_module"]
            proxy.update(before)
