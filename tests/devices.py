"""Processes with several devices on one CPU."""

import os


def xla_flags(devices: int) -> str:
    """What XLA_FLAGS must be for `devices` of them, and what it is already."""
    present = os.environ.get("XLA_FLAGS", "")
    return f"{present} --xla_force_host_platform_device_count={devices}".strip()
