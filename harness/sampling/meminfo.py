"""Sizes in procfs, and the host's memory as psutil's ``virtual_memory`` has it.

Reading it here takes a quarter of psutil's time. A container sees the host's ``/proc/meminfo`` too:
these figures are never a container's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Bytes. ``used`` is total - available, as in psutil since 7.1.0."""

    total: int
    available: int
    used: int
    free: int


def parse_meminfo(text: bytes) -> HostMemory | None:
    """Parse ``/proc/meminfo``; ``None`` where psutil would fall back to an estimate.

    That is without ``MemAvailable`` (before Linux 3.14), or with a value that cannot be true.
    """
    total = proc_size(text, b"MemTotal")
    free = proc_size(text, b"MemFree")
    available = proc_size(text, b"MemAvailable")
    if total is None or free is None or not available or available > total:
        return None
    return HostMemory(total, available, total - available, free)


def proc_size(text: bytes, name: bytes) -> int | None:
    """Return the bytes in a line ``name:  12 kB``; ``None`` without one, or where it is torn.

    Such lines are in ``/proc/meminfo``, ``/proc/<pid>/status`` and ``/proc/<pid>/smaps_rollup``.
    """
    key = name + b":"
    start = 0 if text.startswith(key) else text.find(b"\n" + key) + 1
    if not start and not text.startswith(key):
        return None
    try:
        return int(text[start + len(key) : text.index(b" kB", start)]) * 1024
    except ValueError:
        return None


class HostMemoryReader:
    """Reads the host's memory through one kept descriptor, or by psutil where that cannot be."""

    def __init__(self) -> None:
        self._fd = -1
        try:
            self._fd = os.open("/proc/meminfo", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return

    def read(self) -> HostMemory:
        """Return the host's memory now."""
        if self._fd >= 0:
            # The fields wanted are the first three lines.
            found = parse_meminfo(os.pread(self._fd, 512, 0))
            if found is not None:
                return found
        return _by_psutil()

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _by_psutil() -> HostMemory:
    import psutil  # noqa: PLC0415  # 5 MiB that a Linux host never needs

    memory = psutil.virtual_memory()
    return HostMemory(memory.total, memory.available, memory.total - memory.available, memory.free)
