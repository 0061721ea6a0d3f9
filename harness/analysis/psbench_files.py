"""psbench's two files, old and new header: results.csv and results-memory.csv."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis.csvfile import INTEGER, REAL, TEXT, ColumnType, read_csv
from harness.analysis.series import HOST, Memory, build
from harness.analysis.session import Run, Session
from harness.analysis.workload import WorkloadFacts, parse_numbers
from harness.results.directory import RunDirectory

_RESULTS: dict[str, ColumnType] = {
    "executor": TEXT,
    "connector": TEXT,
    "data_management": TEXT,
    "stage_task_counts": TEXT,
    "stage_bytes_sizes": TEXT,
    "stage_repeat": INTEGER,
    "task_sleep": REAL,
    "workflow_start_timestamp": REAL,
    "workflow_end_timestamp": REAL,
    "workflow_makespan_s": REAL,
}
# Files published before psbench had --stage-repeat lack its column.
_LATER = ("stage_repeat",)
_NONE = "None"


@dataclass(frozen=True)
class Results:
    """The rows of results.csv, the workload they agree on, and what is wrong with the file."""

    rows: tuple[dict[str, Any], ...]
    workload: WorkloadFacts | None
    problems: tuple[str, ...]


def read_results(path: Path) -> Results:
    """Read results.csv, ours or psbench's."""
    table = read_csv(path, _RESULTS, [name for name in _RESULTS if name not in _LATER])
    problems = list(table.problems)
    rows: list[dict[str, Any]] = []
    found: list[WorkloadFacts] = []
    for number, row in enumerate(table.rows.to_dicts(), 1):
        try:
            found.append(_workload(row))
        except ValueError:
            problems.append(
                f"{path}: run {number}: stages and sizes do not fit together; its row is not used"
            )
        else:
            rows.append(row)
    others = [w for w in found if found[0].differences(w)]
    if others:
        differing = ", ".join(found[0].differences(others[0]))
        problems.append(
            f"{path}: holds runs of different workloads ({differing});"
            " what is compared with the workload is compared with the first run's"
        )
    connectors = [w.connector for w in found if w.connector]
    workload = found[0] if found else None
    if workload and connectors and not workload.connector:
        workload = next(w for w in found if w.connector)
    return Results(tuple(rows), workload, tuple(problems))


def _workload(row: dict[str, Any]) -> WorkloadFacts:
    counts = parse_numbers(row["stage_task_counts"])
    sizes = parse_numbers(row["stage_bytes_sizes"])
    if len(sizes) != len(counts) + 1:
        raise ValueError("one size more than stages")
    return WorkloadFacts(
        executor=row["executor"],
        connector="" if row["connector"] == _NONE else row["connector"],
        task_counts=counts,
        bytes_sizes=sizes,
        repeat=row.get("stage_repeat") or 1,
        sleep_s=row["task_sleep"],
    )


def read(directory: RunDirectory, results: Results, *, series: bool) -> Session:
    """Return the session of a directory that has psbench's files only."""
    problems = list(results.problems)
    memory = None
    starts = [_ns(row["workflow_start_timestamp"]) for row in results.rows]
    if series:
        memory, found = read_host_memory(directory.host_memory, starts)
        problems += found
    runs = []
    seen: dict[str, int] = {}
    for number, row in enumerate(results.rows):
        mode = row["data_management"]
        seen[mode] = seen.get(mode, 0) + 1
        runs.append(
            Run(
                run_id=f"{number + 1:04d}-{mode}-{seen[mode]}",
                mode=mode,
                repetition=seen[mode],
                makespan_s=row["workflow_makespan_s"],
                start_ns=starts[number],
                end_ns=_ns(row["workflow_end_timestamp"]),
                after_ns=min((s for s in starts if s > starts[number]), default=None),
            )
        )
    return Session(
        path=directory.path,
        source="psbench",
        workload=results.workload,
        runs=tuple(runs),
        memory=memory,
        problems=tuple(problems),
    )


def read_host_memory(
    path: Path, moments: Iterable[int], offset_ns: int = 0
) -> tuple[Memory | None, tuple[str, ...]]:
    """Return the host's memory in use and the file's problems.

    In use is total less available, as in the paper; psutil's own ``used`` counts otherwise.

    Args:
        path: results-memory.csv.
        moments: times of which the last readings before them are wanted.
        offset_ns: what to add to UNIX time to get to the session's clock.
    """
    names = ("unix_timestamp", "total_bytes", "available_bytes")
    table = read_csv(path, dict(zip(names, (REAL, INTEGER, INTEGER), strict=True)), names)
    rows = table.rows.where(np.argsort(table.rows["unix_timestamp"].values, kind="stable"))
    times = np.rint(rows["unix_timestamp"].values * 1e9).astype(np.int64) + offset_ns
    used = rows["total_bytes"].values - rows["available_bytes"].values
    return build("host", [(HOST, HOST, times, used)], moments), table.problems


def _ns(unix_s: float) -> int:
    """Return seconds as nanoseconds; the fraction is taken apart to lose none of it."""
    fraction, whole = math.modf(unix_s)
    return int(whole) * 1_000_000_000 + round(fraction * 1e9)
