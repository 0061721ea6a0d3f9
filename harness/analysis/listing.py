"""What a list of run directories says of each: from its small files, in a few milliseconds.

No data frames here: importing them would take longer than all the rest.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.analysis.digits import seconds
from harness.analysis.runs import Records, read_records
from harness.analysis.session import Run
from harness.core.sizes import format_size
from harness.core.text import one_line
from harness.results.directory import RunDirectory
from harness.results.documents import find_directory, read_document
from harness.results.repair import take_if_left

UNKNOWN = "?"


@dataclass(frozen=True)
class Entry:
    """One run directory in a list; what is not recorded is ``?``.

    Attributes are as people read them; ``problems`` has one line for each thing that could not be
    used. ``planned`` is how many runs there were to be, None where no plan says it. ``makespans``
    has each mode's median in seconds, ``net_peaks`` in bytes, as far as they are known.
    """

    name: str
    executor: str
    connector: str
    stages: str
    runs: int
    outcome: str
    headline: str
    problems: tuple[str, ...] = ()
    planned: int | None = None
    makespans: Mapping[str, float] = field(default_factory=dict)
    net_peaks: Mapping[str, float] = field(default_factory=dict)


def entries(parent: Path) -> list[Entry]:
    """Return the run directories in a directory, ours and psbench's, by name.

    What is no run directory is left out; a directory is never refused for what it lacks. Raises
    OSError if the directory itself cannot be read.
    """
    found = (_entry(path) for path in sorted(parent.iterdir()) if path.is_dir())
    return [entry for entry in found if entry is not None]


def _entry(path: Path) -> Entry | None:
    try:
        left = take_if_left(path)
        directory, problems = find_directory(path)
        problems += left
        manifest, _ = read_document(RunDirectory(path).manifest)
    except OSError as error:
        line = one_line(f"{path}: cannot be read ({error.strerror})")
        return Entry(one_line(path.name), UNKNOWN, UNKNOWN, UNKNOWN, 0, UNKNOWN, "", (line,))
    if directory is None:
        if not manifest:
            return None
        records = None
    else:
        records = read_records(directory, tables=False)
        problems += records.problems
    plan: Mapping[str, Any] = manifest.get("plan") or read_document(RunDirectory(path).plan)[0]
    summary, wrong = read_document(RunDirectory(path).summary)
    runs: Sequence[Run] = records.runs if records else ()
    ended = Counter(run.outcome for run in runs)
    return Entry(
        name=one_line(path.name),
        executor=plan.get("executor_name") or _named(records, "executor"),
        connector=plan.get("connector_name") or _named(records, "connector"),
        stages=_stages(plan, records),
        runs=len(runs),
        outcome=", ".join(f"{number} {word}" for word, number in ended.items()) or "no runs",
        headline=_headline(summary, runs),
        problems=tuple(one_line(line) for line in (*problems, *wrong)),
        planned=_planned(plan),
        makespans=_medians(summary, "makespan") or _makespans(runs),
        net_peaks=_medians(summary, "net_peak"),
    )


def _planned(plan: Mapping[str, Any]) -> int | None:
    """Return how many runs a plan has."""
    modes = (plan.get("workload") or {}).get("modes")
    repeat = (plan.get("general") or {}).get("repeat")
    return len(modes) * repeat if isinstance(modes, list) and isinstance(repeat, int) else None


def _medians(summary: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Return a metric's median of each mode, from a report's figures."""
    found = {}
    for mode in summary.get("modes") or []:
        figure = (mode.get("metrics") or {}).get(metric)
        if figure is not None:
            found[str(mode.get("mode"))] = float(figure["median"])
    return found


def _named(records: Records | None, part: str) -> str:
    """Return the short name of executor or connector, of its class: ``dask`` of DaskExecutor."""
    if records is None or records.workload is None:
        return UNKNOWN
    name: str = getattr(records.workload, part)
    return name.removesuffix(part.capitalize()).lower() or "none"


def _stages(plan: Mapping[str, Any], records: Records | None) -> str:
    planned = plan.get("workload") or {}
    counts, repeat = planned.get("stage_task_counts"), planned.get("stage_repeat") or 1
    if not counts and records is not None and records.workload is not None:
        counts, repeat = records.workload.task_counts, records.workload.repeat
    if not counts:
        return UNKNOWN
    stages = "-".join(map(str, counts))
    return stages if repeat == 1 else f"{stages} x {repeat}"


def _headline(summary: Mapping[str, Any], runs: Sequence[Run]) -> str:
    """Return makespan and net peak of each mode; without a report, makespans only."""
    parts = []
    for mode in summary.get("modes") or []:
        metrics = mode.get("metrics") or {}
        said = []
        if "makespan" in metrics:
            said.append(seconds(metrics["makespan"]["median"]))
        if "net_peak" in metrics:
            said.append(format_size(metrics["net_peak"]["median"]))
        parts.append(f"{mode.get('mode')} {' '.join(said)}")
    return "; ".join(parts) or "; ".join(f"{m} {seconds(s)}" for m, s in _makespans(runs).items())


def _makespans(runs: Sequence[Run]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for run in runs:
        if run.measured and run.makespan_s is not None:
            found.setdefault(run.mode, []).append(run.makespan_s)
    return {mode: statistics.median(each) for mode, each in found.items()}
