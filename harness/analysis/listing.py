"""What a list of run directories says of each: from its small files, in a few milliseconds.

No data frames here: importing them would take longer than all the rest.
"""

from __future__ import annotations

import csv
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.sizes import format_size
from harness.results.directory import RunDirectory
from harness.results.manifest import read_json

UNKNOWN = "?"


@dataclass(frozen=True)
class Entry:
    """One run directory in a list; what is not recorded is ``?``."""

    name: str
    executor: str
    connector: str
    stages: str
    runs: int
    outcome: str
    headline: str


def entries(parent: Path) -> list[Entry]:
    """Return the run directories in a directory, ours and psbench's, by name.

    What is no run directory is left out; a directory is never refused for what it lacks.
    """
    found = (_entry(path) for path in sorted(parent.iterdir()) if path.is_dir())
    return [entry for entry in found if entry is not None]


def _entry(path: Path) -> Entry | None:
    manifest = read_json(path / "manifest.json") or {}
    plan: dict[str, Any] = manifest.get("plan") or read_json(path / "plan.json") or {}
    names = RunDirectory(path, (plan.get("general") or {}).get("csv_file", "results.csv"))
    results, outcomes = _rows(names.results), _rows(names.outcomes)
    if not (results or outcomes or manifest):
        return None
    ended = Counter(row.get("outcome") or UNKNOWN for row in outcomes or [])
    if not outcomes:
        ended = Counter({"ok": len(results)} if results else {})
    first = results[0] if results else {}
    return Entry(
        name=path.name,
        executor=plan.get("executor_name") or _short(first.get("executor"), "Executor"),
        connector=plan.get("connector_name") or _short(first.get("connector"), "Connector"),
        stages=_stages(plan, first),
        runs=sum(ended.values()),
        outcome=", ".join(f"{number} {word}" for word, number in ended.items()) or "no runs",
        headline=_headline(path, results),
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return a small file's rows; a file that is no CSV has none."""
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            return list(csv.DictReader(file))
    except (OSError, csv.Error):
        return []


def _short(name: str | None, suffix: str) -> str:
    return (name or UNKNOWN).removesuffix(suffix).lower()


def _stages(plan: dict[str, Any], row: dict[str, Any]) -> str:
    workload = plan.get("workload") or {}
    counts = workload.get("stage_task_counts")
    stages = "-".join(map(str, counts)) if counts else row.get("stage_task_counts") or UNKNOWN
    repeat = str(workload.get("stage_repeat") or row.get("stage_repeat") or 1)
    return stages if repeat == "1" else f"{stages} x {repeat}"


def _headline(path: Path, results: list[dict[str, Any]]) -> str:
    """Return makespan and net peak of each mode; without a report, makespans only."""
    summary = read_json(path / "summary.json") or {}
    parts = []
    for mode in summary.get("modes") or []:
        metrics = mode.get("metrics") or {}
        said = []
        if "makespan" in metrics:
            said.append(f"{metrics['makespan']['median']:.3f} s")
        if "net_peak" in metrics:
            said.append(format_size(metrics["net_peak"]["median"]))
        parts.append(f"{mode.get('mode')} {' '.join(said)}")
    return "; ".join(parts) or "; ".join(_makespans(results))


def _makespans(results: list[dict[str, Any]]) -> list[str]:
    found: dict[str, list[float]] = {}
    for row in results:
        try:
            makespan = float(row["workflow_makespan_s"])
        except (KeyError, TypeError, ValueError):
            continue
        found.setdefault(row.get("data_management") or UNKNOWN, []).append(makespan)
    return [f"{mode} {statistics.median(each):.3f} s" for mode, each in found.items()]
