"""Which run a row of ``results.csv`` is of: psbench's columns have no run in them.

A row is of the run within whose marks it began. Its place in the file says nothing: rows may be
missing, doubled, or of another session.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.results.conversation import RUN_END, RUN_START
from harness.results.memory import MarkRow
from harness.results.rows import ResultRow

# The mark is set right before the clock starts, and right after it stopped, by the same process.
_SLACK_S = 0.05
# How long the runner waits at most for the host to confirm the mark before it starts its clock.
_CONFIRMED_S = 11.0


@dataclass(frozen=True)
class Window:
    """When a run was, in UNIX time in seconds; the end is None if it was not recorded."""

    start_s: float
    end_s: float | None = None

    def holds(self, t_s: float) -> bool:
        """Return whether a workflow that began then is this run."""
        end_s = self.start_s + _CONFIRMED_S if self.end_s is None else self.end_s
        return self.start_s - _SLACK_S <= t_s <= end_s + _SLACK_S


def windows(marks: Iterable[MarkRow]) -> dict[str, Window]:
    """Return when each run was; of one that was begun twice, the last time."""
    found: dict[str, Window] = {}
    for mark in marks:
        if mark.run_id and mark.mark == RUN_START:
            found[mark.run_id] = Window(mark.t_unix_ns / 1e9)
        elif mark.mark == RUN_END and mark.run_id in found:
            found[mark.run_id] = Window(found[mark.run_id].start_s, mark.t_unix_ns / 1e9)
    return found


def join(results: Sequence[ResultRow], runs: Mapping[str, Window]) -> dict[int, str]:
    """Return the run of each row, by the row's place in ``results``; rows of none are missing.

    A run has one row: of several, the one that began nearest to its mark.
    """
    ordered: dict[str, list[tuple[float, str]]] = {}
    for run_id, window in sorted(runs.items(), key=lambda item: item[1].start_s):
        ordered.setdefault(mode_of(run_id), []).append((window.start_s, run_id))
    best: dict[str, tuple[float, int]] = {}
    for place, row in enumerate(results):
        began = row.workflow_start_timestamp
        of_mode = ordered.get(row.data_management, [])
        after = bisect_right(of_mode, (began + _SLACK_S, "\U0010ffff"))
        near = [
            (abs(began - start_s), run_id)
            for start_s, run_id in of_mode[max(0, after - 2) : after]
            if runs[run_id].holds(began)
        ]
        if near:
            distance, run_id = min(near)
            best[run_id] = min(best.get(run_id, (distance, place)), (distance, place))
    return {place: run_id for run_id, (_, place) in best.items()}


def mode_of(run_id: str) -> str:
    """Return the mode of a run from its id: ``0002-owned-proxy-1``, ``warm-up-1-of-0002-...``."""
    return run_id.rpartition("-of-")[2].partition("-")[2].rpartition("-")[0]
