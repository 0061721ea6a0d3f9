"""From a directory to a session: our own files or psbench's two.

Nothing that can still be used is refused: each file that is missing, empty, cut short or somebody
else's costs its own figures and one line in the session's problems.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.analysis.csvfile import INTEGER, REAL, WORD, Rows, read_csv
from harness.analysis.figures import CGROUP, uncovered
from harness.analysis.kinds import COLUMNS, KINDS, PartReadings
from harness.analysis.runs import PSBENCH, Records, read_records
from harness.analysis.series import HOST, MIN_COVERAGE, Memory, Times, build, service_of
from harness.analysis.session import Run, Session, distinct_names
from harness.core.errors import UsageError
from harness.core.text import one_line
from harness.results.directory import RunDirectory
from harness.results.documents import find_directory, read_document
from harness.results.repair import take_if_left

# Longest time between two samples between which the earlier one holds, as in `series`.
_BRIDGED_NS = 2_000_000_000
_HOUR_NS = 3600 * 10**9
_QUARTER_NS = _HOUR_NS // 4
# From the westernmost clock to the easternmost: 26 hours.
_FARTHEST_QUARTERS = 26 * 4


def read_session(path: Path, *, series: bool = True, resident: bool = False) -> Session:
    """Read one run directory.

    Args:
        path: a run directory of ours, or a directory of psbench's.
        series: whether to read memory over time too; without, figures that need it are missing.
        resident: whether to read resident memory, seen from inside, whatever else was seen.

    Raises:
        UsageError: if there is no such directory or nothing in it can be used.
    """
    if not path.is_dir():
        raise UsageError(
            f"{path}: not a directory; name a run directory, such as runs/workflow-memory-..."
        )
    left = take_if_left(path)
    directory, problems = find_directory(path)
    problems += left
    if directory is None:
        raise UsageError(
            f"{path}: has no results.csv, marks.csv or outcomes.csv; name a run directory, such as"
            " runs/workflow-memory-..."
        )
    records = read_records(directory)
    problems += list(records.problems)
    if not records.runs:
        raise UsageError("; ".join(problems) or f"{path}: holds no runs; nothing can be reported")
    memory, runs = None, records.runs
    if series:
        memory, runs = _memory(records, problems, resident=resident)
    documents, wrong = _documents(path)
    # The manifest was read to find the files.
    problems += [line for line in wrong if line not in problems]
    session = Session(
        path=path,
        source=records.source,
        workload=records.workload,
        runs=runs,
        memory=memory,
        peaks=records.peaks,
        tables=records.tables,
        documents=documents,
        started_unix_s=records.started_unix_s,
    )
    problems += uncovered(session)
    return dataclasses.replace(session, problems=tuple(one_line(line) for line in problems))


def read_sessions(paths: Sequence[Path], given: Sequence[Path]) -> list[Session]:
    """Read run directories that are shown together, with names that tell them apart.

    Args:
        paths: the directories.
        given: what the user named, in the same order: the same, or the bundle each is from.

    Raises:
        UsageError: as :func:`read_session`.
    """
    # A bundle is unpacked to a place that nobody knows.
    pairs = zip(paths, given, strict=True)
    whole = [path if path == named else named / path.name for path, named in pairs]
    return [
        dataclasses.replace(read_session(path), label=name)
        for path, name in zip(paths, distinct_names(whole), strict=True)
    ]


def _documents(path: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the JSON files that are there; a calibration may lie beside the run directories."""
    here, beside = RunDirectory(path), RunDirectory(path.parent)
    places = {
        "manifest": [here.manifest],
        "sampling": [here.sampling],
        "quality": [here.quality],
        "calibration": [here.calibration, beside.calibration],
    }
    found: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    for name, candidates in places.items():
        for candidate in candidates:
            document, wrong = read_document(candidate, name)
            problems += wrong
            if document and name not in found:
                found[name] = document
    return found, problems


def _memory(
    records: Records, problems: list[str], *, resident: bool = False
) -> tuple[Memory | None, tuple[Run, ...]]:
    """Return the best view there is: the host's cgroup files, inside, the host as a whole."""
    directory, runs = records.directory, records.runs
    if records.source != PSBENCH:
        # Outside of our containers, the cgroup of a worker holds whatever else is in it.
        inside = "rss_sum_bytes" if directory.workers.exists() else "cg_usage_bytes"
        # An engine that manages no cgroups gives containers none of their own.
        best = [] if resident else [("cgroup", "usage_bytes"), ("inside", inside)]
        for view, column in (*best, ("inside", "rss_sum_bytes")):
            path = directory.memory(view)
            if path.exists():
                memory = _view(path, view, column, _moments(runs), problems)
                if memory is not None:
                    return memory, runs
    return _host_memory(records, problems)


def _moments(runs: Sequence[Run]) -> list[int]:
    moments = {
        t
        for run in runs
        for t in (run.start_ns, run.after_ns, *run.marks.values())
        if t is not None
    }
    return sorted(moments)


def _view(
    path: Path, view: str, column: str, moments: Sequence[int], problems: list[str]
) -> Memory | None:
    columns = {"container": WORD, "t_mono_ns": INTEGER, column: INTEGER}
    if view == CGROUP:
        columns |= dict.fromkeys(COLUMNS, INTEGER)
    table = read_csv(path, columns, ("container", "t_mono_ns"))
    problems += table.problems
    if column not in table.rows.columns:
        problems.append(f"{path}: row 1: no column {column}; nothing of it used")
        return None
    memory = build(view, _containers(table.rows, column), moments)
    if memory is None or view != CGROUP:
        return memory
    return dataclasses.replace(memory, parts=_parts(table.rows))


def _parts(rows: Rows) -> dict[str, list[PartReadings]]:
    """Return the readings that told more than the use, by service."""
    told = [name for name in COLUMNS if name in rows.columns]
    if not told:
        return {}
    rows = rows.where(np.logical_or.reduce([rows[name].there for name in told]))
    times, containers = rows["t_mono_ns"].values, rows["container"]
    parts = np.zeros((len(times), len(KINDS)), np.int64)
    for place, names in enumerate(KINDS.values()):
        for name in names:
            if name in told:
                parts[:, place] += np.where(rows[name].there, rows[name].values, 0)
    found: dict[str, list[PartReadings]] = {}
    for code, name in enumerate(containers.words):
        of_it = np.flatnonzero(containers.values == code)
        of_it = of_it[np.argsort(times[of_it], kind="stable")]
        if len(of_it):
            found.setdefault(service_of(name), []).append(PartReadings(times[of_it], parts[of_it]))
    return found


def container_readings(
    path: Path, column: str
) -> Iterator[tuple[str, str, Times, npt.NDArray[np.int64]]]:
    """Yield (container, service, times, bytes) of a view's file; nothing where it has none.

    Args:
        path: ``memory-cgroup.csv`` or ``memory-inside.csv``.
        column: which of its columns.
    """
    columns = {"container": WORD, "t_mono_ns": INTEGER, column: INTEGER}
    rows = read_csv(path, columns, ("container", "t_mono_ns")).rows
    if column in rows.columns:
        yield from _containers(rows, column)


def _containers(rows: Rows, column: str) -> Iterator[tuple[str, str, Times, npt.NDArray[np.int64]]]:
    """Yield each container's readings, in the order of their times."""
    there = rows[column].there
    whole = bool(there.all())
    # Of the other columns nothing is copied.
    codes, all_times, all_values = (
        values if whole else values[there]
        for values in (rows[name].values for name in ("container", "t_mono_ns", column))
    )
    names = rows["container"].words
    # A stable sort of 16-bit numbers is linear and keeps the order of times within a container.
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(names) + 1))
    for code, name in sorted(enumerate(names), key=lambda pair: pair[1]):
        chosen = order[bounds[code] : bounds[code + 1]]
        times, values = all_times[chosen], all_values[chosen]
        if (np.diff(times) < 0).any():
            by_time = np.argsort(times, kind="stable")
            times, values = times[by_time], values[by_time]
        yield name, service_of(name), times, values


def _host_memory(records: Records, problems: list[str]) -> tuple[Memory | None, tuple[Run, ...]]:
    """Return the host's memory in use, and the runs with how long it was recorded after them.

    In use is total less available, as in the paper; psutil's own ``used`` counts otherwise.
    """
    directory, runs = records.directory, records.runs
    path = directory.host_memory
    names = ("unix_timestamp", "total_bytes", "available_bytes")
    table = read_csv(path, dict(zip(names, (REAL, INTEGER, INTEGER), strict=True)), names)
    problems += table.problems
    rows = table.rows
    total, available = rows["total_bytes"].values, rows["available_bytes"].values
    odd = available > total
    if odd.any():
        problems.append(
            f"{path}: {int(odd.sum())} rows have more memory available than there is; left out"
        )
        rows = rows.where(~odd)
    rows = rows.where(np.argsort(rows["unix_timestamp"].values, kind="stable"))
    times = np.rint(rows["unix_timestamp"].values * 1e9).astype(np.int64) + _clock_offset(records)
    shift = _shift(times, runs)
    if shift:
        sign = "ahead of" if shift < 0 else "behind"
        problems.append(
            f"{path}: its clock is {abs(shift) / _HOUR_NS:g} h {sign} that of the runs, as of"
            " another timezone; its times are shifted by that"
        )
        times = times + shift
    used = rows["total_bytes"].values - rows["available_bytes"].values
    if records.source == PSBENCH:
        runs = tuple(_until_a_gap(run, times) for run in runs)
    return build("host", [(HOST, HOST, times, used)], _moments(runs)), runs


def _clock_offset(records: Records) -> int:
    """Return what to add to UNIX time to get to the clock of the runs, in nanoseconds."""
    marks = records.tables.get("marks")
    return int(marks[0]["t_mono_ns"] - marks[0]["t_unix_ns"]) if marks else 0


def _shift(times: Times, runs: Iterable[Run]) -> int:
    """Return what to add to samples that are of another timezone's clock, in nanoseconds.

    Nothing if any run has samples as it is, or if more than one shift would give runs theirs.
    """
    spans = [
        (r.start_ns, r.end_ns) for r in runs if r.start_ns is not None and r.end_ns is not None
    ]
    spans = [(start, end) for start, end in spans if end > start]
    if not len(times) or not spans or any(_covered(times, span) for span in spans):
        return 0
    quarters = [n for n in range(-_FARTHEST_QUARTERS, _FARTHEST_QUARTERS + 1) if n]
    # Nearly all clocks differ by whole hours: another shift counts only where none of these does.
    for candidates in ([n for n in quarters if n % 4 == 0], quarters):
        found = {n: _well_covered(times + n * _QUARTER_NS, spans) for n in candidates}
        most = max(found.values())
        best = [n for n, covered in found.items() if covered == most]
        if most:
            return best[0] * _QUARTER_NS if len(best) == 1 else 0
    return 0


def _well_covered(times: Times, spans: Iterable[tuple[int, int]]) -> int:
    """Return for how many of some spans there are samples enough for a figure."""
    return sum(_covered(times, (s, e)) >= MIN_COVERAGE * (e - s) for s, e in spans)


def _covered(times: Times, span: tuple[int, int]) -> int:
    """Return for how many nanoseconds of a span there are samples."""
    first, last = np.searchsorted(times, span)
    if first == last:
        return 0
    within = np.diff(np.concatenate((span[:1], times[first:last], span[1:])))
    return int(within[within <= _BRIDGED_NS].sum())


def _until_a_gap(run: Run, times: Times) -> Run:
    """Return a run with the end of the recording that it is in, if the next run is in another."""
    if run.end_ns is None or not len(times):
        return run
    last = int(np.searchsorted(times, run.end_ns))
    gaps = np.flatnonzero(np.diff(times[max(last - 1, 0) :]) > _BRIDGED_NS)
    until = int(times[max(last - 1, 0) + int(gaps[0])] if len(gaps) else times[-1]) + 1
    if run.after_ns is not None and run.after_ns <= until + _BRIDGED_NS:
        return run
    return dataclasses.replace(run, after_ns=max(until, run.end_ns))
