"""Rows that a sampler wrote elsewhere, made rows of the run directory.

A sampler on a worker knows neither the run in progress nor the name the worker has here, and its
clock may be another host's. Its lines get all three when they arrive.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from harness.results.marks import RUN_END, RUN_START
from harness.sampling.clocks import offset_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.results.memory import MarkRow
    from harness.sampling.clocks import Offset


class Runs:
    """Which run was in progress when, by the marks given so far."""

    def __init__(self) -> None:
        self._since: list[int] = []
        self._run_ids: list[str] = []

    def add(self, marks: Iterable[MarkRow]) -> None:
        """Take marks in the order they were set."""
        for mark in marks:
            if mark.mark in {RUN_START, RUN_END}:
                self._since.append(mark.t_mono_ns)
                self._run_ids.append(mark.run_id if mark.mark == RUN_START else "")

    def at(self, t_mono_ns: int) -> str:
        """Return the run in progress at a moment, empty between runs."""
        index = bisect_right(self._since, t_mono_ns)
        return self._run_ids[index - 1] if index else ""


def adopt_rows(
    data: bytes,
    container: str,
    runs: Runs,
    clocks: tuple[Offset, Offset] | None,
    unix_minus_mono_ns: int,
) -> list[str]:
    """Return a sampler's whole lines as lines of ``memory-inside.csv``; its header is dropped.

    Args:
        data: lines of a sampler's file.
        container: the worker's name in the run directory.
        runs: the runs so far.
        clocks: offsets measured before and after these rows, ``None`` where the clock is ours.
        unix_minus_mono_ns: our CLOCK_REALTIME minus our CLOCK_MONOTONIC; used with ``clocks``.
    """
    lines = []
    for line in data.decode("ascii", "replace").splitlines():
        cells = line.split(",", 4)
        if len(cells) < 5 or not cells[2].isdigit():
            continue
        t_mono_ns, t_unix = int(cells[2]), cells[3]
        if clocks is not None:
            t_mono_ns += offset_at(t_mono_ns, *clocks)
            t_unix = str(t_mono_ns + unix_minus_mono_ns)
        lines.append(f"{runs.at(t_mono_ns)},{container},{t_mono_ns},{t_unix},{cells[4]}\n")
    return lines
