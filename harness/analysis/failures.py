"""Runs that did not go through: each container's memory until the end, its limit, its last words.

Logs are text that containers wrote: they are read from their end, in pieces of known size, and
every line is made safe before it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis.figures import CGROUP, Group, RunFigures
from harness.analysis.readers import container_readings
from harness.analysis.series import HOST, Levels, service_of
from harness.analysis.session import Session
from harness.core.text import one_line
from harness.results.directory import RunDirectory
from harness.results.rows import open_regular

_LAST_LINES = 8
_LONGEST_LINE = 300
_TAIL_BYTES = 64_000
_AROUND_NS = 500_000_000
# The engine's clock when it notes a line, beside ours when we note the end of a run.
_LATE_S = 2.0


@dataclass(frozen=True)
class Failure:
    """One run that did not go through.

    Attributes:
        label: of its group.
        figures: the run.
        service: the container, or part, at fault; empty if none was, or the workload itself.
        memory: of each container seconds since the start of the run, and bytes, until the end.
        end_s: when it ended, in these seconds; None if it never started.
        limit_bytes: the memory limit of each worker container; None without one.
        log: the last lines of the log of the service at fault, or of the runner.
        log_of: whose log that is.
    """

    label: str
    figures: RunFigures
    service: str
    memory: Mapping[str, tuple[Levels, Levels]]
    end_s: float | None
    limit_bytes: int | None
    log: tuple[str, ...]
    log_of: str


def failures(groups: Sequence[Group]) -> list[Failure]:
    """Return the runs that did not go through, in the order of their groups."""
    found = []
    for group in groups:
        bad = [figures for figures in group.runs if not figures.run.measured]
        readings = _readings(group.session) if bad else {}
        found += [_failure(group, figures, readings) for figures in bad]
    return found


Readings = Mapping[str, tuple[Any, Any]]


def _readings(session: Session) -> Readings:
    memory = session.memory
    if memory is None or memory.view == HOST:
        return {}
    column = "usage_bytes" if memory.view == CGROUP else "rss_sum_bytes"
    path = RunDirectory(session.path).memory(memory.view)
    return {name: (t, values) for name, _, t, values in container_readings(path, column)}


def _failure(group: Group, figures: RunFigures, readings: Readings) -> Failure:
    session, run = group.session, figures.run
    outcomes = session.tables.get("outcomes") or ()
    row = next((row for row in outcomes if row["run_id"] == run.run_id), {})
    service = str(row.get("service") or "")
    memory, end_s = {}, None
    if run.start_ns is not None and figures.end_ns is not None:
        end_s = (figures.end_ns - run.start_ns) / 1e9
        for name, (times, values) in readings.items():
            first, last = np.searchsorted(times, (run.start_ns - _AROUND_NS, figures.end_ns + 1))
            if first < last:
                seconds = (times[first:last] - run.start_ns) / 1e9
                memory[name] = (seconds, values[first:last].astype(np.float64))
    log_of = service if re.fullmatch(r"[a-z_]+-\d+", service) else "runner-1"
    return Failure(
        label=group.label,
        figures=figures,
        service=service,
        memory=memory,
        end_s=end_s,
        limit_bytes=_limit(session),
        log=_last_lines(_log(session, run.run_id, log_of), _unix_s(session, figures)),
        log_of=log_of,
    )


def _plan(session: Session) -> Mapping[str, Any]:
    plan = (session.documents.get("manifest") or {}).get("plan")
    return plan if isinstance(plan, dict) else {}


def _limit(session: Session) -> int | None:
    topology = _plan(session).get("topology")
    limit = topology.get("worker_memory_limit") if isinstance(topology, dict) else None
    return limit if isinstance(limit, int) and limit > 0 else None


def is_limited(container: str) -> bool:
    """Return whether the limit is this container's."""
    return service_of(container) == "worker"


def _log(session: Session, run_id: str, container: str) -> Path:
    """Return the log of a container of the topology that the run was in."""
    logs = session.path / "logs"
    manifest = session.documents.get("manifest") or {}
    place = int(run_id.partition("-")[0]) if run_id[:1].isdigit() else 0
    for number, topology in enumerate(manifest.get("topologies") or (), 1):
        first, last = (topology.get("runs") or (0, -1))[:2]
        # After a run that did not go through, another topology takes the rest of these runs.
        if first <= place <= last:
            folder = logs if number == 1 else logs / f"topology-{number}"
            return folder / f"{container}.log"
    return logs / f"{container}.log"


def _unix_s(session: Session, figures: RunFigures) -> float | None:
    """Return when a run ended, on the clock that the engine writes logs with."""
    marks = session.tables.get("marks")
    if not marks or figures.end_ns is None:
        return None
    offset = int(marks[0]["t_unix_ns"]) - int(marks[0]["t_mono_ns"])
    return (figures.end_ns + offset) / 1e9


def _last_lines(path: Path, until_unix_s: float | None) -> tuple[str, ...]:
    """Return the last lines of a log up to a moment; nothing where there is none."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            file.seek(max(size - _TAIL_BYTES, 0))
            text = file.read(_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ()
    lines = []
    for line in text.splitlines():
        at = _written_at(line)
        said = line.partition(" ")[2] if at is not None else line
        if said.strip() and (at is None or until_unix_s is None or at <= until_unix_s + _LATE_S):
            lines.append(one_line(said)[:_LONGEST_LINE])
    return tuple(lines[-_LAST_LINES:])


def _written_at(line: str) -> float | None:
    """Return when the engine noted a line: it stands before it, in nanoseconds."""
    stamp = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.?(\d{0,9})Z ", line)
    if stamp is None:
        return None
    try:
        whole = datetime.fromisoformat(f"{stamp[1]}+00:00").timestamp()
    except ValueError:
        return None
    return whole + float(f"0.{stamp[2] or 0}")
