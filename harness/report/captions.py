"""Captions to paste: what a figure shows, of how many runs, what bands are, on which machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from harness import __version__
from harness.analysis.figures import Group, RunFigures
from harness.analysis.identity import leading_packages, version_of
from harness.analysis.series import HOST
from harness.analysis.session import Session
from harness.core.sizes import format_size
from harness.core.text import listed, one_line
from harness.report.story import short_names
from harness.report.tables import between

_SPREAD = "from the lowest to the highest run"


def of_memory(groups: Sequence[Group], *, net: bool = True, service: str = "") -> str:
    """Return the caption of memory over time."""
    host = all(g.session.memory and g.session.memory.view == HOST for g in groups)
    whose = f"Memory of {service or ('the whole host' if host else 'all services together')}"
    base = "above the baseline of each run" if net else "with the baseline"
    line = f"line: the run whose net peak is the median; band: {_SPREAD}"
    return _caption(f"{whose} over time, {base}", line, groups)


def of_ranking(groups: Sequence[Group]) -> str:
    """Return the caption of the page's first two charts, which stand beside each other."""
    bar = f"bar: median, made of services and kinds of memory; whisker: {_SPREAD}"
    right = "right: makespan of each run; dotted line: the sleep of the tasks alone"
    title = "Left: memory at the peak of each mode, above the baseline"
    return _caption(title, f"{bar}; {right}", groups)


def of_peaks(groups: Sequence[Group]) -> str:
    """Return the caption of the peaks of each service."""
    return _caption(
        "Net peak of each service and of all together", f"bar: median; whisker: {_SPREAD}", groups
    )


def of_makespans(groups: Sequence[Group]) -> str:
    """Return the caption of the makespans."""
    return _caption("Makespan of each run", "dotted line: the sleep of the tasks alone", groups)


def of_services(group: Group, run: RunFigures) -> str:
    """Return the caption of one run, stacked by service."""
    typical = len(group.figures) > 1
    which = f"Run {run.run.run_id}"
    if typical:
        which += f", one of {len(group.figures)} of {group.label}"
    what = "solid vertical lines end a cycle, dotted ones a stage; predicted and ideal: what must"
    what += " be in the connector, and the least that can be, on top of the baseline"
    return _caption(f"Memory by service over time. {which}", what, [group], counted=False)


def of_points(metric: str, over: str, sessions: Sequence[Session]) -> str:
    """Return the caption of a curve: of a sweep, or of versions.

    Args:
        metric: what is drawn, in words.
        over: what is along the other axis.
        sessions: one for each point.
    """
    counts = [len(session.measured(mode)) for session in sessions for mode in session.modes]
    modes = dict.fromkeys(mode for session in sessions for mode in session.modes)
    title = f"{metric[:1].upper()}{metric[1:]} over {over}"
    line = "point: median of the runs; whisker: an interval for the median"
    return _whole(title, line, sessions, _runs(counts, list(modes)))


def _caption(title: str, explained: str, groups: Sequence[Group], *, counted: bool = True) -> str:
    sessions = list({group.session.path: group.session for group in groups}.values())
    modes = list(dict.fromkeys(group.mode for group in groups))
    runs = _runs([len(group.figures) for group in groups], modes) if counted else ""
    return _whole(title, explained, sessions, runs)


def _whole(title: str, explained: str, sessions: Sequence[Session], runs: str) -> str:
    settings = dict.fromkeys(filter(None, map(_setting, sessions)))
    # What differs between sessions is along the axis, or in the legend.
    parts = [
        f"{title}; {explained}.",
        runs,
        *(settings if len(settings) == 1 else ()),
        *dict.fromkeys(filter(None, map(_machine, sessions))),
        f"workflow-memory-harness {__version__}.",
    ]
    return one_line(" ".join(filter(None, parts)))


def _runs(counts: Sequence[int], modes: Sequence[str]) -> str:
    """Return how many runs there are of each mode: those that went through."""
    if not counts:
        return ""
    low, high = min(counts), max(counts)
    many = str(low) if low == high else f"{low} to {high}"
    return f"n = {many} run{'' if high == 1 else 's'} of {listed(list(modes))}."


def _setting(session: Session) -> str:
    facts = session.workload
    if facts is None:
        return ""
    executor, connector = short_names(facts)
    version = next(
        (found for name in leading_packages(session) if (found := version_of(session, name))), ""
    )
    with_what = f" with {connector}" if connector else ""
    stages = listed(list(map(str, facts.task_counts)))
    software = f"{executor}{f' {version}' if version else ''}{with_what}"
    payload = f"{format_size(facts.payload_bytes)} a run."
    if not any(facts.task_counts):
        return f"{software}; a function of its user's."
    if not facts.bytes_sizes:
        return f"{software}; a graph with levels of {stages} tasks, {payload}"
    sizes = between(format_size(min(facts.bytes_sizes)), format_size(max(facts.bytes_sizes)))
    if min(facts.bytes_sizes) == max(facts.bytes_sizes):
        sizes = format_size(facts.bytes_sizes[0])
    return f"{software}; stages of {stages} tasks, results of {sizes}, {payload}"


def _machine(session: Session) -> str:
    manifest: Mapping[str, Any] = session.documents.get("manifest") or {}
    machine: Mapping[str, Any] = manifest.get("machine") or {}
    parts = []
    if machine.get("cpu_model"):
        parts.append(str(machine["cpu_model"]))
    if machine.get("cpus"):
        parts.append(f"{machine['cpus']} CPUs")
    if machine.get("memory_bytes"):
        parts.append(f"{format_size(machine['memory_bytes'])} of memory")
    if machine.get("kernel"):
        parts.append(f"Linux {machine['kernel']}")
    at = session.started_unix_s
    when = "" if at is None else f" {datetime.fromtimestamp(at, UTC):%Y-%m-%d}"
    if not parts:
        return f"Measured{when}." if when else ""
    return f"Measured{when} on {', '.join(parts)}."
