"""Runs CLIMB on Split CIFAR-100 from end to end, timed, on this machine's accelerator.

  python -m benchmarks.full_run --seeds 1 --workdir runs/full_1 \
      --config.stream.data_dir=DIR

The paper's protocol (configs/climb_cifar100.py:20): 4,500 stream batches, 13,500
updates of a ResNet-18, a linear probe after each of 20 tasks; as launch.py runs it,
with all its files, so that it resumes too. `--config.FIELD=VALUE` changes a field.

`train` is beside the same loop in plain PyTorch (benchmarks.against_torch) on the same
card: the median of `--repeats` stream batches of one seed, times batches and seeds.
These are batches with replay and without consolidation, so PyTorch's time is a little
too small. `TFLOP/s` counts three forward passes of 0.555 GMAC for every augmented image
trained on; the work of teacher, heads and memory comes on top, uncounted. `utilisation`
is its share of `--peak-tflops`, by default what NVIDIA states for the card without
sparsity (TF32 for float32, which both sides are allowed). `--alone` leaves PyTorch out.

`host` is how long, a stream batch, the devices waited for the host between two chunks
(benchmarks/watch.py), `device` the rest, `share` the host's part of both; checkpoints
and logs are in it, and probes too: `--config.probe.names=()` leaves these out. They are
told, with rates so far, of a run as well that was stopped (SIGTERM) and will go on when
the command is repeated.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from benchmarks import against_torch, commandline
from benchmarks.tables import Row
from benchmarks.workers import Failed
from ocssl_jax import settings, workdir
from ocssl_jax.commandline import configured, ending
from ocssl_jax.config_files import ROOT
from ocssl_jax.errors import Interrupted

CONFIG = f"--config={ROOT / 'configs' / 'climb_cifar100.py'}:20"
SMALL = (
    "stream.dataset=digits",
    "stream.tasks=5",
    "stream.limit=3",
    "backbone.name=convnet",
    "backbone.width=4",
    "probe.names=()",
)
FLOP = 0.555e9 * 2 * 3  # an augmented image's of 32 x 32 pixels: forward and backward
PEAK = {  # TFLOP/s, dense: float32 as TF32, bfloat16
    "H100 80GB HBM3": {"float32": 494.7, "bfloat16": 989.4},
    "H200": {"float32": 494.7, "bfloat16": 989.4},
    "A100": {"float32": 156.0, "bfloat16": 312.0},
}


def resolved(args: Any) -> tuple[ConfigDict, dict[str, Any]]:
    """The run's config, and the fields set on the command line."""
    fields = [f"--config.{field}" for field in (SMALL if args.small else ())]
    seeds = ",".join(map(str, range(args.seeds)))
    fields += [f"--config.seeds={seeds}", *args.fields]
    config, overrides = configured([CONFIG, *fields])
    return settings.resolve(config, overrides), overrides


def peak_of(device: str, precision: str) -> float | None:
    """TFLOP/s that the card's maker states, if we know the card."""
    known = [peaks[precision] for name, peaks in PEAK.items() if name in device]
    return known[0] if known else None


def rates(
    config: ConfigDict, images: float, seconds: float, peak: float | None
) -> dict[str, Any]:
    """What was achieved with so many augmented images in that time, as columns."""
    known = config.backbone.name == "resnet18" and seconds > 0
    tflops = images / seconds * FLOP / 1e12 if known else None
    share = tflops / peak if tflops and peak else None
    return {"TFLOP/s": tflops, "utilisation": share}


def watched(config: ConfigDict, watch: Any, peak: float | None) -> Iterator[Row]:
    """Device and host, a stream batch of all seeds; nothing if no chunk was seen."""
    if not watch.batches:
        return
    busy, idle = watch.busy / watch.batches, watch.idle / watch.batches
    rows = config.stream.batch_size + config.strategy.replay_size
    images = 2 * config.passes * rows * len(config.seeds)  # once the memory is full
    yield Row("device", [busy], more=rates(config, images, busy + idle, peak))
    yield Row("host", [idle], more={"share": idle / (busy + idle)})


def finished(
    config: ConfigDict, summary: Mapping[str, Any], batch: Row | None, peak: Any
) -> Iterator[Row]:
    """The parts of the run; `batch` is a stream batch of one seed on both sides."""
    time, seeds = summary["time"], len(config.seeds)
    times, speed = summary["steps"] * seeds, summary["throughput"]
    extrapolated = [seconds * times for seconds in batch.torch] if batch else []
    images = speed["train_images_per_s"] * time["train_s"]
    more = {
        "updates": summary["updates"] * seeds,
        "stream_images_per_s": speed["stream_images_per_s"],
        "train_images": round(images),
        **rates(config, images, time["train_s"], peak),
    }
    yield Row(f"train, {seeds} seeds", [time["train_s"]], extrapolated, more)
    for part in ("probe", "compile", "total"):
        yield Row(part, [time[f"{part}_s"]])


def beside(config: ConfigDict, args: Any) -> Row | None:
    """A stream batch of one seed on both sides; None without PyTorch."""
    if args.alone:
        return None
    try:
        fields = settings.as_json(config)
        return against_torch.compared("a stream batch", fields, args)[0]
    except Failed as error:
        commandline.fail(str(error))


def main() -> None:
    """Parse the flags, measure PyTorch, run, print."""
    parser = commandline.parser(__doc__, repeats=20)
    commandline.add_sides(parser)
    parser.add_argument("--seeds", type=commandline.positive, default=1, help="number")
    parser.add_argument("--workdir", type=Path, default=Path("runs/full_run"))
    parser.add_argument("--peak-tflops", type=float, help="of the card")
    parser.add_argument("--alone", action="store_true", help="without PyTorch")
    args = commandline.parsed(parser, config=True)
    if not args.alone and not commandline.has_torch():
        commandline.fail(f"{commandline.NO_TORCH}; --alone does without")
    with ending("benchmarks.full_run", args.workdir):
        config, overrides = resolved(args)
        batch = beside(config, args)
        import jax  # here: the sides had to go first

        from benchmarks.watch import watching
        from ocssl_jax import experiment

        with watching() as watch:
            try:
                print(experiment.run(config, args.workdir, overrides))
            except Interrupted as error:
                print(f"{error}; repeat the command to go on")
        device = jax.devices()[0].device_kind
        peak = args.peak_tflops or peak_of(device, config.precision)
        rows = [batch] if batch else []
        rows += watched(config, watch, peak)
        path = args.workdir / "summary.json"
        if path.exists():
            summary = workdir.read_json(path, needs="time")
            rows += finished(config, summary, batch, peak)
        if not rows:
            raise Interrupted("stopped before there was anything to tell")
        commandline.finish(args, device, rows)


if __name__ == "__main__":
    main()
