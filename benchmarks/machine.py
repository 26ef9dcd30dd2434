"""What a measurement was made on, for whoever reads it later."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ocssl_jax.workdir import commit

PACKAGES = ("jax", "jaxlib", "torch", "numpy")
LOAD = os.getloadavg()[0]  # over the minute before the benchmark began


def processor() -> str:
    """The CPU's own name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return named[0] if named else platform.machine()


def installed(package: str) -> str | None:
    """Its version, None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cores() -> int:
    """Those that this process may use."""
    found = getattr(os, "sched_getaffinity", None)
    return len(found(0)) if found else os.cpu_count() or 1


def describe(device: str) -> dict[str, Any]:
    """Machine, versions and how busy it was; `device` is what was computed on."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": processor(),
        "cores": cores(),
        "memory_gib": round(pages * size / 2**30, 1),
        "device": device,
        "python": platform.python_version(),
        "versions": {name: installed(name) for name in PACKAGES},
        "commit": commit(),
        "command": " ".join(["python -m benchmarks." + program(), *sys.argv[1:]]),
        "load_average": round(LOAD, 2),
    }


def program() -> str:
    """The name of the benchmark that runs."""
    return Path(sys.argv[0]).stem


def in_words(machine: dict[str, Any]) -> str:
    """One line for a terminal."""
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB"
        f", on {machine['device']}, "
        f"load before {machine['load_average']}; {versions}"
    )
