"""What ran when, and what had to be alive then, on the time axis of one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.analysis.session import Run, Session

START_DATA = -1


@dataclass(frozen=True)
class TaskBar:
    """One task; times in seconds since the start of the run, empty ones None."""

    cycle: int
    stage: int
    task: int
    worker: str
    submitted_s: float
    started_s: float | None
    resolved_s: float | None
    finished_s: float | None
    received_s: float | None
    bytes_in: int | None
    bytes_out: int | None


@dataclass(frozen=True)
class Boundary:
    """The end of a stage, in seconds since the start of the run; stage -1: start data made."""

    cycle: int
    stage: int
    t_s: float


@dataclass(frozen=True)
class Step:
    """Payload bytes that must be alive from a moment on, from the flags alone.

    Attributes:
        t_s: seconds since the start of the run.
        before_bytes: what the connector held at most up to this moment.
        held_bytes: what it holds from it on.
        ideal_bytes: the least that any implementation could hold from it on.
    """

    t_s: float
    before_bytes: int
    held_bytes: int
    ideal_bytes: int


def task_bars(session: Session, run: Run) -> list[TaskBar]:
    """Return the tasks of a run in the order they were submitted; none without tasks.csv."""
    rows = session.tables.get("tasks")
    if rows is None or run.start_ns is None:
        return []
    found = []
    for row in rows:
        if row["run_id"] != run.run_id:
            continue
        cells: dict[str, Any] = {}
        for name in ("submitted", "started", "resolved", "finished", "received"):
            # A difference first: a clock's nanoseconds are more than a fraction can hold.
            t_ns = row[f"{name}_mono_ns"]
            cells[f"{name}_s"] = None if t_ns is None else (t_ns - run.start_ns) / 1e9
        for name in ("cycle", "stage", "task", "bytes_in", "bytes_out"):
            cells[name] = row.get(name)
        found.append(TaskBar(worker=row.get("container") or row["worker"] or "", **cells))
    return sorted(found, key=lambda bar: bar.submitted_s)


def boundaries(bars: list[TaskBar]) -> list[Boundary]:
    """Return when each stage of each cycle ended: when the client had its last result."""
    found: dict[tuple[int, int], float] = {}
    for bar in bars:
        if bar.stage == 0:
            key = (bar.cycle, START_DATA)
            found[key] = min(found.get(key, bar.submitted_s), bar.submitted_s)
        ended = bar.received_s if bar.received_s is not None else bar.finished_s
        if ended is not None:
            key = (bar.cycle, bar.stage)
            found[key] = max(found.get(key, ended), ended)
    return [Boundary(*key, t_s=t) for key, t in sorted(found.items())]


def steps(session: Session, run: Run, ends: list[Boundary]) -> list[Step]:
    """Return what had to be alive at the boundaries of a run; none without predictions.csv.

    That a cycle's last results are dropped is placed where its last stage ends.
    """
    rows = session.tables.get("predictions")
    if rows is None:
        return []
    when = {(end.cycle, end.stage): end.t_s for end in ends}
    found = []
    for row in rows:
        if row["data_management"] != run.mode:
            continue
        key = (row["cycle"], row["stage"])
        t_s = when.get(key, when.get((key[0], key[1] - 1)))
        if t_s is not None:
            held, before = row["size_bytes"], row.get("peak_size_bytes")
            found.append(Step(t_s, held if before is None else before, held, row["ideal_bytes"]))
    return found
