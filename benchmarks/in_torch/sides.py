"""PyTorch's side of a comparison, made in a process of its own."""

import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.in_torch.learner import Climb
from benchmarks.in_torch.memory import embedder, memory_of
from benchmarks.workers import Side


def device_of() -> torch.device:
    """The accelerator if there is one, with settings that match XLA's."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # XLA lets an accelerator round the factors of float32 products to TF32 too.
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True  # shapes stay the same: search once
    return torch.device("cuda")


def side(device: torch.device, calls: Mapping[str, Callable[[], Any]]) -> Side:
    """The calls as ones that wait for the device."""
    on_gpu = device.type == "cuda"

    def waiting(call: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> None:
            call()
            torch.cuda.synchronize()

        return run if on_gpu else call

    kept = {name: waiting(call) for name, call in calls.items()}
    name = torch.cuda.get_device_name() if on_gpu else "cpu"
    peak = torch.cuda.max_memory_allocated if on_gpu else lambda: 0
    return Side(name, "gpu" if on_gpu else "cpu", kept, peak)


def loaded(path: Path) -> dict[str, np.ndarray]:
    """What `benchmarks.start` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def stream_batch(fields: Mapping[str, Any], path: Path) -> Side:
    """`step`: a stream batch from the start in `path` on."""
    device = device_of()
    learner = Climb(fields, loaded(path), device)
    shape = (8, fields["stream"]["batch_size"], 3, 32, 32)
    batches = itertools.cycle(torch.randint(0, 256, shape, dtype=torch.uint8))
    return side(device, {"step": lambda: learner.observe(next(batches))})


def climb_memory(fields: Mapping[str, Any], path: Path) -> Side:
    """The list-based memory's operations; `prepare` brings back the one in `path`."""
    device, arrays = device_of(), loaded(path)
    full, drawn = memory_of(arrays, fields, device), fields["strategy"]["replay_size"]
    images = torch.tensor(arrays["stream/image"], device=device).permute(0, 1, 4, 2, 3)
    z = torch.tensor(arrays["stream/z"], device=device)
    batches = itertools.cycle(zip(images.contiguous(), z, strict=True))
    embed = embedder(z.shape[2])
    now: dict[str, Any] = {}

    def prepare() -> None:
        memory = full.copy()
        _, rows = memory.sample(drawn)
        feature = torch.stack([c.embedding for c in rows])
        now.update(memory=memory, batch=next(batches), rows=rows, feature=feature)

    def batch() -> None:
        memory = now["memory"]
        memory.process(*now["batch"], embed)
        for _ in range(fields["passes"]):
            _, rows = memory.sample(drawn)
            memory.refresh(rows, now["feature"])

    calls = {
        "prepare": prepare,
        "batch": batch,
        "process": lambda: now["memory"].process(*now["batch"], embed),
        "sample": lambda: now["memory"].sample(drawn),
        "refresh": lambda: now["memory"].refresh(now["rows"], now["feature"]),
        "consolidate": lambda: now["memory"].consolidate(embed),
    }
    return side(device, calls)
