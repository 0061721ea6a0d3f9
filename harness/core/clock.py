"""Which CLOCK_MONOTONIC a process has."""

from __future__ import annotations

import os
from pathlib import Path


def clock_id() -> str:
    """Return what two processes share if and only if they share CLOCK_MONOTONIC."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    try:
        return f"{boot} {os.readlink('/proc/self/ns/time')}"  # noqa: PTH115  # not a path
    except OSError:  # before Linux 5.6 there is one clock
        return boot
