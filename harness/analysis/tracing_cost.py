"""What tracing itself changed: traced runs beside the untraced ones of the same bench."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.csvfile import INTEGER, WORD, read_csv
from harness.analysis.figures import Group, group_runs
from harness.analysis.identity import other_plan
from harness.analysis.readers import read_session
from harness.analysis.session import Run, Session
from harness.core.errors import UsageError
from harness.results.directory import RunDirectory

MOST_CHANGE = 0.05
"""A net peak that lies further than this beyond all untraced ones is named."""

LEAST_BYTES = 10_000_000
"""Net peaks below this change by more than that by themselves."""

_PART_OF_A_COPY = 0.2
_GAP_NS = 1_500_000_000


@dataclass(frozen=True)
class Cost:
    """What tracing changed: a traced run's figure beside the median of the untraced runs.

    Attributes:
        mode: the mode.
        what: ``makespan``, ``CPU`` or the scope of a net peak.
        unit: ``s`` or ``bytes``.
        untraced, traced: the figures.
        runs: number of untraced runs.
        low, high: the least and the most of the untraced runs.
    """

    mode: str
    what: str
    unit: str
    untraced: float
    traced: float
    runs: int
    low: float
    high: float

    @property
    def change(self) -> float:
        """Relative change."""
        return (self.traced - self.untraced) / self.untraced if self.untraced else 0.0


def costs(traced: Session) -> list[Cost]:
    """Return what tracing changed; nothing where no untraced runs of the plan are beside it.

    Args:
        traced: the runs within a bench's run directory.
    """
    try:
        untraced = read_session(traced.path.parent)
    except UsageError:
        return []
    plan = (traced.documents.get("manifest") or {}).get("plan") or {}
    general = plan.get("general") or {}
    as_untraced = plan | {"general": general | {"traced": False, "native": False}}
    work = [d for d in other_plan(as_untraced, untraced) if d.what not in _OF_TRACING]
    if work:
        return []
    found: list[Cost] = []
    groups = {group.mode: group for group in group_runs([untraced])}
    for group in group_runs([traced]):
        beside = groups.get(group.mode)
        if beside is not None and beside.figures and group.figures:
            found += _of_mode(beside, group)
    return found


# What the plan of traced runs says otherwise, whatever was benched.
_OF_TRACING = frozenset({"--order", "--isolate", "--why"})


def _of_mode(untraced: Group, traced: Group) -> Iterator[Cost]:
    mode, runs = traced.mode, len(untraced.figures)
    if untraced.makespan and traced.makespan:
        a = untraced.makespan
        its_s = traced.makespan.median
        yield Cost(mode, "makespan", "s", a.median, its_s, runs, a.low, a.high)
    cpu = [_cpu_s(untraced.session, f.run) for f in untraced.figures]
    known = [each for each in cpu if each is not None]
    its = _cpu_s(traced.session, traced.figures[0].run)
    if known and its is not None:
        usual = float(np.median(known))
        yield Cost(mode, "CPU", "s", usual, its, runs, min(known), max(known))
    peaks = {scope.scope: scope.net_peak for scope in untraced.scopes}
    for scope in traced.scopes:
        if scope.scope in peaks:
            a, net = peaks[scope.scope], scope.net_peak.median
            yield Cost(mode, scope.scope, "bytes", a.median, net, runs, a.low, a.high)


def _cpu_s(session: Session, run: Run) -> float | None:
    """Return the CPU seconds of all containers in a run; the engine tells them about each second.

    Between two of its messages they are taken to have been used evenly.
    """
    path = RunDirectory(session.path).memory("docker")
    if not path.exists() or run.start_ns is None or run.end_ns is None:
        return None
    columns = {"container": WORD, "t_mono_recv_ns": INTEGER, "cpu_total_ns": INTEGER}
    rows = read_csv(path, columns, ("container", "t_mono_recv_ns")).rows
    if not len(rows) or "cpu_total_ns" not in rows.columns:
        return None
    total, names = 0.0, rows["container"]
    for code in range(len(names.words)):
        of_one = rows.where((names.values == code) & rows["cpu_total_ns"].there)
        times, used = of_one["t_mono_recv_ns"].values, of_one["cpu_total_ns"].values
        # A name is that of the same place in each topology, and each counts from zero.
        near = (times >= run.start_ns - _GAP_NS) & (times <= run.end_ns + _GAP_NS)
        times, used = times[near], used[near]
        if len(times) < 2 or (np.diff(used) < 0).any():
            return None
        at = np.interp([run.start_ns, run.end_ns], times, used)
        total += float(at[1] - at[0]) / 1e9
    return total


def copies_changed(cost: Cost, sizes: Iterable[int]) -> tuple[int, int] | None:
    """Return how many copies of payloads a traced run had more or less than any untraced one.

    Args:
        cost: a net peak.
        sizes: of payloads.

    Returns:
        Size and number, below zero if they are fewer; None where a peak is not another by
        whole copies of a size.
    """
    if cost.unit != "bytes":
        return None
    beyond = max(cost.traced - cost.high, 0) or min(cost.traced - cost.low, 0)
    for size in sorted(set(sizes), reverse=True):
        number = round(beyond / size) if size >= LEAST_BYTES / 2 else 0
        if number and abs(beyond - number * size) <= _PART_OF_A_COPY * size:
            return size, number
    return None


def notable(found: Sequence[Cost]) -> list[Cost]:
    """Return the net peaks that tracing changed by more than it may."""
    return [
        cost
        for cost in found
        if cost.unit == "bytes"
        and max(cost.untraced, cost.traced) >= LEAST_BYTES
        and not cost.low * (1 - MOST_CHANGE) <= cost.traced <= cost.high * (1 + MOST_CHANGE)
    ]
