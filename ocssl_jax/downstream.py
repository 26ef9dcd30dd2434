"""Another data set than the stream's to probe on: what its encoder is worth elsewhere.

The images are resized to the stream's size and normalised with the stream's mean and
standard deviation, since those are part of the encoder. All classes are one task.
"""

from ml_collections import ConfigDict

from ocssl_jax import data
from ocssl_jax.errors import UsageError
from ocssl_jax.stream_checks import check_labels
from ocssl_jax.wiring import made


def downstream(
    config: ConfigDict, shape: tuple[int, ...]
) -> tuple[data.Dataset, data.Benchmark]:
    """The data set `config.probe.dataset` and its one task, a part held out to tune on.

    Args:
      config: a resolved config.
      shape: (h, w, c) of the stream's images.

    Raises:
      UsageError: if the data are missing, unlabelled or do not fit the encoder.
    """
    probe, stream = config.probe, config.stream
    if data.DATASETS[probe.dataset].streaming:
        raise UsageError(
            f"config.probe.dataset must not be {probe.dataset!r}: as one task it would "
            f"be tested on images that the probe is fitted to"
        )
    dataset = made(
        data.load,
        "probe",
        probe.dataset,
        data_dir=probe.data_dir or stream.data_dir,
        image_size=shape[0],
    )
    check_labels(dataset, "probe", needed=True)
    channels = dataset.train_image.shape[-1]
    if channels != shape[-1]:
        raise UsageError(
            f"config.probe.dataset must have images of {_channels(shape[-1])} like the "
            f"stream's {stream.dataset!r}, {probe.dataset!r} has {_channels(channels)}"
        )
    if dataset.train_label.min() < 0 or not len(dataset.test_label):
        raise UsageError(
            f"config.probe.dataset must have labelled test images, "
            f"{probe.dataset!r} has none"
        )
    bench = made(
        data.benchmark,
        "probe",
        dataset.train_label,
        dataset.test_label,
        kind="class",
        tasks=1,
        seed=probe.seed,
        val_ratio=probe.val_ratio,
    )
    return dataset, bench


def _channels(number: int) -> str:
    return f"{number} channel{'s' if number > 1 else ''}"
