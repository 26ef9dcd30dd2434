"""Sides of a comparison that need no library, for the processes of the benchmarks."""

import time

from benchmarks.workers import Side


def napping(seconds):
    calls = {"nap": lambda: time.sleep(seconds), "break": lambda: 1 // 0}
    return Side("cpu", "cpu", calls, lambda: 0)


def missing():
    raise ModuleNotFoundError("no such library")
