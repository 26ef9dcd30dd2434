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
sparsity (TF32 for float32, which both sides are allowed).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from benchmarks import against_torch, commandline
from benchmarks.tables import Row
from benchmarks.workers import Failed
from ocssl_jax import settings, workdir
from ocssl_jax.commandline import configured, ending
from ocssl_jax.config_files import ROOT

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
    config: ConfigDict, summary: Mapping[str, Any], peak: float | None
) -> dict[str, Any]:
    """What the run achieved, as columns."""
    seconds = summary["time"]["train_s"]
    images = summary["throughput"]["train_images_per_s"]
    tflops = images * FLOP / 1e12 if config.backbone.name == "resnet18" else None
    share = tflops / peak if tflops and peak else None
    return {
        "updates": summary["updates"] * len(config.seeds),
        "stream_images_per_s": summary["throughput"]["stream_images_per_s"],
        "train_images": round(images * seconds),
        "TFLOP/s": tflops,
        "utilisation": share,
    }


def rows(config: ConfigDict, summary: Mapping[str, Any], batch: Row, more: Any) -> Any:
    """The parts of the run; `batch` is a stream batch of one seed on both sides."""
    time, seeds = summary["time"], len(config.seeds)
    times = summary["steps"] * seeds
    extrapolated = [seconds * times for seconds in batch.torch]
    yield batch
    yield Row(f"train, {seeds} seeds", [time["train_s"]], extrapolated, more)
    for part in ("probe", "compile", "total"):
        yield Row(part, [time[f"{part}_s"]])


def main() -> None:
    """Parse the flags, measure PyTorch, run, print."""
    parser = commandline.parser(__doc__, repeats=20)
    commandline.add_sides(parser)
    parser.add_argument("--seeds", type=commandline.positive, default=1, help="number")
    parser.add_argument("--workdir", type=Path, default=Path("runs/full_run"))
    parser.add_argument("--peak-tflops", type=float, help="of the card")
    args = commandline.parsed(parser, config=True)
    if not commandline.has_torch():
        commandline.fail(commandline.NO_TORCH)
    with ending("benchmarks.full_run", args.workdir):
        config, overrides = resolved(args)
        try:
            fields = settings.as_json(config)
            batch, device = against_torch.compared("a stream batch", fields, args)
        except Failed as error:
            commandline.fail(str(error))
        from ocssl_jax import experiment  # with JAX, which the sides had to go first

        print(experiment.run(config, args.workdir, overrides))
    summary = workdir.read_json(args.workdir / "summary.json", needs="time")
    peak = args.peak_tflops or peak_of(device, config.precision)
    more = rates(config, summary, peak)
    commandline.finish(args, device, list(rows(config, summary, batch, more)))


if __name__ == "__main__":
    main()
