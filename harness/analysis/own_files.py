"""The files of our own run directories."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.analysis.csvfile import INTEGER, REAL, TEXT, WORD, ColumnType, Rows, Table, read_csv
from harness.analysis.psbench_files import Results, read_host_memory
from harness.analysis.series import Memory, Times, build, service_of
from harness.analysis.session import MEASURED, Peak, Run, Session
from harness.results.directory import RunDirectory
from harness.results.events import PredictionRow, StorageRow, TaskRow
from harness.results.marks import AFTER_END, AFTER_START, RUN_END, RUN_START, TRIMMED
from harness.results.memory import LedgerRow, MarkRow, PeakRow
from harness.results.rows import ObjectsRow, OutcomeRow

_TYPES: dict[str, ColumnType] = {"int": INTEGER, "float": REAL, "str": TEXT}
_RUN_ID = re.compile(r"^\d+-(?P<mode>.+)-(?P<repetition>\d+)$")


def read(directory: RunDirectory, results: Results, *, series: bool) -> Session:
    """Return the session of one of our directories."""
    problems = list(results.problems)
    tables: dict[str, Rows] = {}
    optional: dict[str, tuple[Path, type[Any]]] = {
        "marks": (directory.marks, MarkRow),
        "outcomes": (directory.outcomes, OutcomeRow),
        "peaks": (directory.peaks, PeakRow),
        "objects": (directory.objects, ObjectsRow),
        "storage": (directory.storage, StorageRow),
        "tasks": (directory.tasks, TaskRow),
        "predictions": (directory.predictions, PredictionRow),
        "ledger": (directory.ledger, LedgerRow),
    }
    for name, (path, row_type) in optional.items():
        if path.exists() or name in ("marks", "outcomes"):
            table = read_rows(path, row_type)
            tables[name] = table.rows
            # That a file has no rows is no fault: a run without tasks has none to write.
            problems += [line for line in table.problems if not line.endswith("no rows")]
    marks = tables["marks"]
    runs = tuple(_runs(tables["outcomes"], marks, results))
    memory = None
    if series:
        moments = {t for run in runs for t in (run.after_ns, *run.marks.values()) if t is not None}
        memory, found = _memory(directory, marks, sorted(moments))
        problems += found
    return Session(
        path=directory.path,
        source="harness",
        workload=results.workload,
        runs=runs,
        memory=memory,
        peaks=_peaks(tables.get("peaks")),
        tables={name: rows for name, rows in tables.items() if len(rows)},
        problems=tuple(problems),
    )


def read_rows(path: Path, row_type: type[Any]) -> Table:
    """Read a file whose schema is a dataclass; cells that may be empty may also be missing."""
    fields = {field.name: str(field.type) for field in dataclasses.fields(row_type)}
    columns = {name: _TYPES[kind.removesuffix(" | None")] for name, kind in fields.items()}
    certain = {name: kind for name, kind in fields.items() if not kind.endswith(" | None")}
    # Text may be empty: a mark that belongs to no run, a run that has no reason.
    required = [name for name, kind in certain.items() if kind != "str"]
    return read_csv(path, columns, required, list(certain), quoted=True)


def _runs(outcomes: Rows, marks: Rows, results: Results) -> Iterator[Run]:
    times: dict[str, dict[str, int]] = {}
    for row in marks.to_dicts():
        if row["run_id"]:
            times.setdefault(row["run_id"], {}).setdefault(row["mark"], row["t_mono_ns"])
    ended = {row["run_id"]: row for row in outcomes.to_dicts()}
    starts = sorted(found[RUN_START] for found in times.values() if RUN_START in found)
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in results.rows:
        rows.setdefault(row["data_management"], []).append(row)
    # Marks of warm-ups are there too; a warm-up has no result, and an outcome only if it failed.
    numbered = [run_id for run_id in times if _RUN_ID.match(run_id)]
    for run_id in dict.fromkeys([*numbered, *ended]):
        outcome = ended.get(run_id) or _unended(run_id)
        makespan = None
        if outcome["outcome"] in MEASURED and rows.get(outcome["data_management"]):
            makespan = rows[outcome["data_management"]].pop(0)["workflow_makespan_s"]
        yield _run(run_id, outcome, times.get(run_id, {}), starts, makespan)


def _unended(run_id: str) -> dict[str, Any]:
    """Return what stands for the outcome of a run that was killed before it had one."""
    found = _RUN_ID.match(run_id)
    return {
        "data_management": found["mode"] if found else "",
        "repetition": int(found["repetition"]) if found else 0,
        "outcome": "interrupted",
        "reason": "no outcome was written: it was killed",
    }


def _run(
    run_id: str,
    outcome: Mapping[str, Any],
    marks: Mapping[str, int],
    starts: Sequence[int],
    makespan_s: float | None,
) -> Run:
    start = marks.get(RUN_START)
    later = [t for t in starts if start is not None and t > start]
    after = marks.get(AFTER_END) or marks.get(TRIMMED) or marks.get(AFTER_START)
    return Run(
        run_id=run_id,
        mode=outcome["data_management"] or "",
        repetition=outcome["repetition"],
        outcome=outcome["outcome"] or "",
        reason=outcome["reason"] or "",
        makespan_s=makespan_s,
        start_ns=start,
        end_ns=marks.get(RUN_END),
        after_ns=after or (later[0] if later else None),
        marks=dict(marks),
    )


def _peaks(rows: Rows | None) -> dict[tuple[str, str], Peak]:
    if rows is None:
        return {}
    return {
        (row["run_id"], row["name"]): Peak(
            row["peak_bytes"], row["baseline_bytes"], row["peak_kind"], row["interval_ns"]
        )
        for row in rows.to_dicts()
        if row["scope"] in ("service", "topology")
        and row["peak_bytes"] is not None
        and row["baseline_bytes"] is not None
    }


def _memory(
    directory: RunDirectory, marks: Rows, moments: Sequence[int]
) -> tuple[Memory | None, tuple[str, ...]]:
    """Return the best view there is: the host's cgroup files, inside, the host as a whole."""
    problems: tuple[str, ...] = ()
    # Outside of our containers, the cgroup of a worker holds whatever else is in it.
    inside = "rss_sum_bytes" if directory.workers.exists() else "cg_usage_bytes"
    for view, column in (("cgroup", "usage_bytes"), ("inside", inside)):
        path = directory.memory(view)
        if path.exists():
            memory, found = _view(path, view, column, moments)
            problems += found
            if memory is not None:
                return memory, problems
    offset = 0
    if len(marks):
        offset = int(marks["t_mono_ns"].values[0] - marks["t_unix_ns"].values[0])
    memory, found = read_host_memory(directory.host_memory, moments, offset)
    return memory, problems + found


def _view(
    path: Path, view: str, column: str, moments: Sequence[int]
) -> tuple[Memory | None, tuple[str, ...]]:
    table = read_csv(
        path,
        {"container": WORD, "t_mono_ns": INTEGER, column: INTEGER},
        ("container", "t_mono_ns"),
    )
    if column not in table.rows.columns:
        return None, (*table.problems, f"{path}: row 1: no column {column}; nothing of it used")
    return build(view, _containers(table.rows, column), moments), table.problems


def _containers(rows: Rows, column: str) -> Iterator[tuple[str, str, Times, npt.NDArray[np.int64]]]:
    """Yield each container's readings, in the order of their times."""
    rows = rows.where(rows[column].there)
    names, codes = rows["container"].words, rows["container"].values
    # A stable sort of 16-bit numbers is linear and keeps the order of times within a container.
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(names) + 1))
    all_times, all_values = rows["t_mono_ns"].values, rows[column].values
    for code, name in sorted(enumerate(names), key=lambda pair: pair[1]):
        chosen = order[bounds[code] : bounds[code + 1]]
        times, values = all_times[chosen], all_values[chosen]
        if (np.diff(times) < 0).any():
            by_time = np.argsort(times, kind="stable")
            times, values = times[by_time], values[by_time]
        yield name, service_of(name), times, values
