"""What a list of run directories says of each: from its small files, in a few milliseconds.

No data frames here: importing them would take longer than all the rest.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.analysis.runs import Records, read_records
from harness.analysis.session import Run
from harness.core.text import format_size, one_line
from harness.results.directory import RunDirectory
from harness.results.documents import find_directory, read_document
from harness.results.repair import take_if_left

UNKNOWN = "?"


@dataclass(frozen=True)
class Entry:
    """One run directory in a list; what is not recorded is ``?``.

    Attributes are as people read them; ``problems`` has one line for each thing that could not be
    used.
    """

    name: str
    executor: str
    connector: str
    stages: str
    runs: int
    outcome: str
    headline: str
    problems: tuple[str, ...] = ()


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
    )


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
            said.append(f"{metrics['makespan']['median']:.3f} s")
        if "net_peak" in metrics:
            said.append(format_size(metrics["net_peak"]["median"]))
        parts.append(f"{mode.get('mode')} {' '.join(said)}")
    return "; ".join(parts) or "; ".join(_makespans(runs))


def _makespans(runs: Sequence[Run]) -> list[str]:
    found: dict[str, list[float]] = {}
    for run in runs:
        if run.measured and run.makespan_s is not None:
            found.setdefault(run.mode, []).append(run.makespan_s)
    return [f"{mode} {statistics.median(each):.3f} s" for mode, each in found.items()]
