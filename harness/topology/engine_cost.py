"""What the engine itself spends, so that a view through it can be charged with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

ENGINE_PROCESSES = ("dockerd", "containerd", "containerd-shim")


def engine_cpu_s() -> dict[str, float]:
    """Return the CPU seconds of each of the engine's processes by its number.

    Empty where they cannot be seen: the engine runs on another machine.
    """
    return {pid: _seconds(fields[11:13]) for pid, fields in _stats()}


def engine_cpu_between(before: dict[str, float], after: dict[str, float]) -> float:
    """Return the CPU seconds spent between two readings by the processes that lived through both.

    What containers of others cost the engine meanwhile is among them.
    """
    return sum(after[pid] - before[pid] for pid in before.keys() & after.keys())


def _seconds(fields: list[str]) -> float:
    return sum(int(field) for field in fields) / os.sysconf("SC_CLK_TCK")


def engine_rss_bytes() -> int:
    """Return the resident memory of the engine's processes, shims included."""
    return sum(int(fields[21]) for _, fields in _stats()) * os.sysconf("SC_PAGE_SIZE")


def _stats() -> Iterator[tuple[str, list[str]]]:
    """Yield each process's number and its fields of ``/proc/<pid>/stat`` from the third on."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text(encoding="utf-8").rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if head.partition("(")[2].startswith(ENGINE_PROCESSES):
            yield stat.parent.name, rest.split()
