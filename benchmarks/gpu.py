"""Measures everything that there is to measure on a machine with a GPU, in one command.

  python -m benchmarks.gpu --out runs/gpu --config.stream.data_dir=DIR

Stages, each a benchmark in a process of its own with a time limit: that the GPU
computes what a CPU does; a stream batch of CLIMB beside PyTorch, and over a run of 300
of them the wait for the host and the utilisation; Split CIFAR-100 with one seed; the
memories' operations; several seeds in each of their forms; Split CIFAR-100 with eight
seeds; forms of seeds in bfloat16; the steps of several strategies. DIR holds tfds'
prepared cifar100; the machine needs JAX for its card, and PyTorch.

All of it is to take `--minutes` (15) at most: a stage that does not fit any more is
stopped or left out. Repeat the command to go on: stages that are done are not repeated,
programs compiled before are found again, and a run that was stopped resumes. `--stages`
names those to run. Each stage's table is printed, what it said is in OUT/STAGE.txt and
its results are in OUT/STAGE.json; OUT/gpu.json holds all of them, with how each stage
ended. Exit code 1 if one failed, 0 otherwise. `--small` sees whether all of it runs,
on any machine.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import commandline

GRACE = 45  # seconds that a stage has to save and leave once it was told to
SHORT = ("--config.stream.limit=300", "--config.probe.names=()")


class Stage(NamedTuple):
    """One benchmark."""

    arguments: tuple[str, ...]  # of `python -m`
    limit: int  # seconds
    runs: bool = False  # whether it is a run, with a workdir and fields of a config
    small: tuple[str, ...] = ()  # further arguments with `--small`


FORMS = ("benchmarks.seeds", "--case=resnet18-138", "--seeds=8")
FEW = ("--seeds=2", "--chunk=1", "--repeats=1")  # a CPU is slow at some of them
STAGES = {
    "agreement": Stage(("benchmarks.agreement", "--case=slim_resnet18-20"), 300),
    "host": Stage(("benchmarks.full_run", *SHORT), 240, runs=True),
    "one_seed": Stage(("benchmarks.full_run", "--alone"), 300, runs=True),
    "memory_ops": Stage(("benchmarks.memory_ops",), 120),
    "seeds": Stage((*FORMS, "--forms=loop,vmap"), 240, small=FEW),
    # By itself: what it needs of the card's memory is not known.
    "products": Stage((*FORMS, "--forms=products"), 180, small=FEW),
    "eight_seeds": Stage(
        ("benchmarks.full_run", "--alone", "--seeds=8"), 900, runs=True
    ),
    "bfloat16": Stage(
        (*FORMS, "--forms=loop,products", "--precision=bfloat16"), 300, small=FEW
    ),
    "step": Stage(
        (
            "benchmarks.step",
            "--network=resnet18-138",
            "--case=er,minred,scale,scale_fifo,climb,rals",
            "--whole",
        ),
        400,
    ),
}


def command(name: str, args: Any) -> list[str]:
    """The command line of a stage."""
    stage = STAGES[name]
    given, more = list(stage.arguments), [f"--json={args.out / name}.json"]
    if args.small:  # which has fields of its own
        given = [a for a in given if not a.startswith("--config.")]
        more += ["--small", *stage.small]
    if stage.runs:
        more += [f"--workdir={args.out / 'runs' / name}", *args.fields]
    return [sys.executable, "-m", *given, *more]


def ended(process: subprocess.Popen[bytes], seconds: float) -> str:
    """How a stage ended: 'done', 'failed (its exit code)' or 'stopped'."""
    stopped = False
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        stopped = True
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    finally:
        end_group(process)
    if stopped:
        return "stopped"
    return f"failed ({process.returncode})" if process.returncode else "done"


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a stage: sides of a comparison hold memory of the card."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run(name: str, seconds: float, args: Any) -> dict[str, Any]:
    """Run a stage; what came of it."""
    compiled = str(args.out.absolute() / "compiled")
    environment = {"JAX_COMPILATION_CACHE_DIR": compiled, **os.environ}
    line, text, began = command(name, args), args.out / f"{name}.txt", time.monotonic()
    print(f"\n{name}: {' '.join(line[1:])}", flush=True)
    with text.open("wb") as said:
        process = subprocess.Popen(
            line,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        how = ended(process, seconds)
    print(text.read_text(errors="replace")[-3000:], flush=True)
    spent = round(time.monotonic() - began, 1)
    print(f"{name}: {how} after {spent} s", flush=True)
    return {"ended": how, "seconds": spent, "command": line[1:]}


def results(path: Path) -> dict[str, Any]:
    """What a stage measured, if it got that far."""
    return json.loads(path.read_text()) if path.exists() else {}


def measured(names: tuple[str, ...], args: Any) -> Mapping[str, dict[str, Any]]:
    """What came of the stages, those of earlier calls included; written after each."""
    path = args.out / "gpu.json"
    found: dict[str, dict[str, Any]] = results(path)
    end = time.monotonic() + 60 * args.minutes
    for name in names:
        if found.get(name, {}).get("ended") == "done":
            print(f"{name}: done before")
            continue
        seconds = min(STAGES[name].limit, end - time.monotonic() - GRACE)
        if seconds <= 0:
            print(f"{name}: no time left")
            continue
        (args.out / f"{name}.json").unlink(missing_ok=True)
        found[name] = run(name, seconds, args)
        found[name] |= results(args.out / f"{name}.json")
        path.write_text(json.dumps(found, indent=1) + "\n")
    return found


def main() -> None:
    """Parse the flags, run the stages, say how each ended."""
    parser = commandline.parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder")
    parser.add_argument("--minutes", type=float, default=15, help="for all of it")
    parser.add_argument("--stages", default="", help="those to run, commas")
    args = commandline.parsed(parser, config=True)
    names = commandline.chosen(parser, args.stages, STAGES, flag="--stages")
    args.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not without the stage
    found = measured(names, args)
    ends = {name: found[name]["ended"] if name in found else "-" for name in names}
    print("\n" + "\n".join(f"{name}: {how}" for name, how in ends.items()))
    sys.exit(any(how.startswith("failed") for how in ends.values()))


if __name__ == "__main__":
    main()
