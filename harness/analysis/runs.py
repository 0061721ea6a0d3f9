"""The runs of a directory, ours or psbench's, from its small files.

Rows are joined by what they say: by the run's id, or by when the run began; never by their place.
Whatever contradicts itself or belongs to another session is left out, and one line names it.
No data frames here: a list of directories is made of this.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.analysis.session import (
    MEASURED,
    Peak,
    Row,
    Run,
    WorkloadFacts,
    parse_numbers,
    parse_sizes,
)
from harness.results.conversation import (
    AFTER_END,
    AFTER_START,
    BASELINE_START,
    RUN_END,
    RUN_START,
    TRIMMED,
)
from harness.results.directory import RunDirectory
from harness.results.joining import join, mode_of, windows
from harness.results.outcomes import Outcome
from harness.results.rows import ObjectsRow, OutcomeRow, ResultRow, Table, read_table
from harness.results.schema import (
    KIND_SAMPLED,
    ON_NODE,
    CompletionRow,
    LedgerRow,
    MarkRow,
    ObjectStoreRow,
    PeakRow,
    PredictionRow,
    StorageRow,
    TaskRow,
)

HARNESS = "harness"
PSBENCH = "psbench"

_RUN_ID = re.compile(r"\d+-(?P<mode>.+)-(?P<repetition>\d{1,9})")
_NO_CONNECTOR = "None"
# Two runs of one process: where one ends, the next may begin.
_TOUCHING_NS = 1_000_000


@dataclass(frozen=True)
class Records:
    """What the small files of one directory say.

    Attributes:
        directory: the names of its files.
        source: ``harness`` or ``psbench``: who wrote it.
        workload: None where results.csv has no usable row.
        runs: in the order they were run.
        peaks: by run and by container, service or ``topology``.
        tables: further files that are there, by name without suffix.
        problems: one line for each thing that could not be used.
        started_unix_s: when the first run of results.csv started; None without rows.
    """

    directory: RunDirectory
    source: str
    workload: WorkloadFacts | None
    runs: tuple[Run, ...]
    peaks: Mapping[tuple[str, str], Peak]
    tables: Mapping[str, Sequence[Row]]
    problems: tuple[str, ...]
    started_unix_s: float | None = None


def read_records(directory: RunDirectory, *, tables: bool = True) -> Records:
    """Read a directory's small files.

    Args:
        directory: the names of its files.
        tables: whether to read what only figures need.
    """
    problems: list[str] = []
    results, workload = _results(directory.results, problems)
    found: dict[str, Sequence[Row]] = {}
    peaks: dict[tuple[str, str], Peak] = {}
    if directory.marks.exists() or directory.outcomes.exists():
        source = HARNESS
        runs = _our_runs(directory, results, found, problems)
        if tables:
            known = {run.run_id for run in runs}
            peaks = _peaks(_table(directory.peaks, PeakRow, known, problems))
            found |= _tables(directory, known, problems)
    else:
        source = PSBENCH
        runs = _psbench_runs(results)
    runs = _without_overlaps(directory.path, runs, problems)
    kept = {name: rows for name, rows in found.items() if rows}
    started = min((row.workflow_start_timestamp for row in results.rows), default=None)
    return Records(directory, source, workload, tuple(runs), peaks, kept, tuple(problems), started)


def _results(path: Path, problems: list[str]) -> tuple[Table[ResultRow], WorkloadFacts | None]:
    """Return the rows of results.csv that make sense, and the workload they agree on."""
    table = read_table(path, ResultRow)
    problems += table.problems
    kept: list[tuple[ResultRow, int]] = []
    odd: dict[str, list[int]] = {}
    found: list[WorkloadFacts] = []
    seen: set[tuple[str, float]] = set()
    for row, number in zip(table.rows, table.numbers, strict=True):
        key = (row.data_management, row.workflow_start_timestamp)
        try:
            facts = _workload(row)
        except ValueError:
            odd.setdefault("stages and sizes do not fit together", []).append(number)
            continue
        if row.workflow_end_timestamp < row.workflow_start_timestamp:
            odd.setdefault("it ends before it starts", []).append(number)
        elif key in seen:
            odd.setdefault("the same run again", []).append(number)
        else:
            seen.add(key)
            found.append(facts)
            kept.append((row, number))
    problems += [_left_out(path, numbers, why) for why, numbers in odd.items()]
    # Programs append as runs end, but files are put together in any order.
    kept.sort(key=lambda pair: pair[0].workflow_start_timestamp)
    rows, numbers = tuple(row for row, _ in kept), tuple(number for _, number in kept)
    return Table(rows, numbers), _agreed(path, found, problems)


def _left_out(path: Path, numbers: Sequence[int], why: str) -> str:
    more = f" (and {len(numbers) - 1} more)" if len(numbers) > 1 else ""
    return f"{path}: row {numbers[0]}{more}: {why}; left out"


def _agreed(
    path: Path, found: Sequence[WorkloadFacts], problems: list[str]
) -> WorkloadFacts | None:
    if not found:
        return None
    others = [facts for facts in found if found[0].differences(facts)]
    if others:
        differing = ", ".join(found[0].differences(others[0]))
        problems.append(
            f"{path}: holds runs of different workloads ({differing});"
            " what is compared with the workload is compared with the first run's"
        )
    # Modes none and futures have no connector; the other modes' is the workload's.
    return next((facts for facts in found if facts.connector), found[0])


def _workload(row: ResultRow) -> WorkloadFacts:
    counts = parse_numbers(row.stage_task_counts)
    sizes, totals = parse_sizes(row.stage_bytes_sizes)
    if len(sizes or totals) != len(counts) + 1:
        raise ValueError("one size more than stages")
    return WorkloadFacts(
        executor=row.executor,
        connector="" if row.connector == _NO_CONNECTOR else row.connector,
        task_counts=counts,
        bytes_sizes=sizes,
        repeat=row.stage_repeat or 1,
        sleep_s=row.task_sleep,
        total_bytes=totals,
    )


def _our_runs(
    directory: RunDirectory,
    results: Table[ResultRow],
    tables: dict[str, Sequence[Row]],
    problems: list[str],
) -> list[Run]:
    marks = read_table(directory.marks, MarkRow)
    outcomes = read_table(directory.outcomes, OutcomeRow)
    problems += (*marks.problems, *outcomes.problems)
    tables["marks"] = _as_dicts(marks.rows)
    tables["outcomes"] = _as_dicts(outcomes.rows)
    times = _times(directory.marks, marks.rows, problems)
    ended = _ended(directory.outcomes, outcomes, problems)
    makespans = _makespans(directory, results, marks.rows, ended, problems)
    starts = sorted(found[RUN_START] for found in times.values() if RUN_START in found)
    # Marks of warm-ups are there too; a warm-up has no result, and an outcome only if it failed.
    numbered = [run_id for run_id in times if _RUN_ID.fullmatch(run_id)]
    return [
        _run(run_id, ended.get(run_id), times.get(run_id, {}), starts, makespans.get(run_id))
        for run_id in dict.fromkeys([*numbered, *ended])
    ]


def _times(path: Path, marks: Iterable[MarkRow], problems: list[str]) -> dict[str, dict[str, int]]:
    """Return each run's marks; of a run that was begun twice, the last time's."""
    times: dict[str, dict[str, int]] = {}
    again: list[str] = []
    backwards: list[str] = []
    for row in marks:
        if not row.run_id:
            continue
        of_run = times.setdefault(row.run_id, {})
        if row.mark in of_run and row.mark in (BASELINE_START, RUN_START):
            of_run.clear()
            again.append(row.run_id)
        of_run.setdefault(row.mark, row.t_mono_ns)
    for run_id, of_run in times.items():
        if RUN_START in of_run and of_run.get(RUN_END, of_run[RUN_START]) < of_run[RUN_START]:
            backwards.append(run_id)
            of_run.clear()
    for run_ids, why in (
        (again, "was begun twice; the last time counts"),
        (backwards, "ends before it starts; its marks are left out"),
    ):
        if run_ids:
            problems.append(f"{path}: {_some(run_ids)}: {why}")
    return times


def _some(names: Sequence[str]) -> str:
    return names[0] + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


def _ended(path: Path, outcomes: Table[OutcomeRow], problems: list[str]) -> dict[str, OutcomeRow]:
    found: dict[str, OutcomeRow] = {}
    odd: dict[str, list[int]] = {}
    for row, number in zip(outcomes.rows, outcomes.numbers, strict=True):
        if row.run_id in found:
            odd.setdefault("the same run again", []).append(number)
            continue
        if row.outcome not in frozenset(Outcome):
            odd.setdefault(f"{row.outcome!r} is no outcome", []).append(number)
        found[row.run_id] = row
    for why, numbers in odd.items():
        line = _left_out(path, numbers, why)
        if why.endswith("outcome"):
            line = line.replace("; left out", "; the run counts as one without figures")
        problems.append(line)
    return found


def _makespans(
    directory: RunDirectory,
    results: Table[ResultRow],
    marks: Sequence[MarkRow],
    ended: Mapping[str, OutcomeRow],
    problems: list[str],
) -> dict[str, float]:
    """Return the makespan of each run that has a row."""
    when = windows(mark for mark in marks if _RUN_ID.fullmatch(mark.run_id))
    if not when:
        return _in_order(results.rows, ended)
    runs = join(results.rows, when)
    strays = [n for place, n in enumerate(results.numbers) if place not in runs]
    if strays:
        problems.append(
            _left_out(directory.results, sorted(strays), "no run of marks.csv began then")
        )
    return {run_id: results.rows[place].workflow_makespan_s for place, run_id in runs.items()}


def _in_order(rows: Sequence[ResultRow], ended: Mapping[str, OutcomeRow]) -> dict[str, float]:
    """Return the makespans where no marks say when runs began.

    The rows of a mode are in the order of time and so are its runs: if none is missing, each is
    known.
    """
    found: dict[str, float] = {}
    for mode in {row.data_management for row in rows}:
        made = [row for row in rows if row.data_management == mode]
        went = [
            (row.repetition, row.run_id)
            for row in ended.values()
            if row.data_management == mode and row.outcome in MEASURED
        ]
        if len(made) == len(went):
            for (_, run_id), row in zip(sorted(went), made, strict=True):
                found[run_id] = row.workflow_makespan_s
    return found


def _run(
    run_id: str,
    outcome: OutcomeRow | None,
    marks: Mapping[str, int],
    starts: Sequence[int],
    makespan_s: float | None,
) -> Run:
    if outcome is None:
        # It was killed before it had one.
        found = _RUN_ID.fullmatch(run_id)
        repetition = int(found["repetition"]) if found else 0
        reason = "no outcome was written: it was killed"
        outcome = OutcomeRow(run_id, mode_of(run_id), repetition, Outcome.INTERRUPTED, reason)
    start, end = marks.get(RUN_START), marks.get(RUN_END)
    later = [t for t in starts if start is not None and t > start and t >= (end or start)]
    after = marks.get(AFTER_END) or marks.get(TRIMMED) or marks.get(AFTER_START)
    return Run(
        run_id=run_id,
        mode=outcome.data_management,
        repetition=outcome.repetition,
        outcome=str(outcome.outcome),
        reason=outcome.reason,
        makespan_s=makespan_s if outcome.outcome in MEASURED else None,
        start_ns=start,
        end_ns=end,
        after_ns=after or (later[0] if later else None),
        marks=dict(marks),
    )


def _psbench_runs(results: Table[ResultRow]) -> list[Run]:
    starts = [to_ns(row.workflow_start_timestamp) for row in results.rows]
    runs = []
    seen: dict[str, int] = {}
    for number, row in enumerate(results.rows):
        mode = row.data_management
        seen[mode] = seen.get(mode, 0) + 1
        end = to_ns(row.workflow_end_timestamp)
        runs.append(
            Run(
                run_id=f"{number + 1:04d}-{mode}-{seen[mode]}",
                mode=mode,
                repetition=seen[mode],
                makespan_s=row.workflow_makespan_s,
                start_ns=starts[number],
                end_ns=end,
                after_ns=min((s for s in starts[number + 1 :] if s >= end), default=None),
            )
        )
    return runs


def _without_overlaps(path: Path, runs: Sequence[Run], problems: list[str]) -> list[Run]:
    """Return the runs; those that overlap another say that memory cannot be told apart."""
    timed = [run for run in runs if run.start_ns is not None and run.end_ns is not None]
    timed.sort(key=lambda run: (run.start_ns, run.end_ns))
    others: dict[str, str] = {}
    longest: Run | None = None
    for run in timed:
        assert run.start_ns is not None
        assert run.end_ns is not None
        if longest is not None and longest.end_ns is not None:
            if run.start_ns < longest.end_ns - _TOUCHING_NS:
                others.setdefault(longest.run_id, run.run_id)
                others[run.run_id] = longest.run_id
            if longest.end_ns >= run.end_ns:
                continue
        longest = run
    if others:
        names = list(others)
        problems.append(
            f"{path}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if names[3:] else ''}"
            " overlap in time: nothing tells their memory apart, so they have no figures of it"
        )
    return [
        dataclasses.replace(run, unusable=f"it overlaps {others[run.run_id]}")
        if run.run_id in others
        else run
        for run in runs
    ]


def _tables(
    directory: RunDirectory, known: set[str], problems: list[str]
) -> Iterator[tuple[str, Sequence[Row]]]:
    kinds: dict[str, tuple[Path, type[Any]]] = {
        "objects": (directory.objects, ObjectsRow),
        "storage": (directory.storage, StorageRow),
        "object stores": (directory.object_stores, ObjectStoreRow),
        "tasks": (directory.tasks, TaskRow),
        "predictions": (directory.predictions, PredictionRow),
        "completions": (directory.completions, CompletionRow),
        "ledger": (directory.ledger, LedgerRow),
    }
    for name, (path, row_type) in kinds.items():
        if path.exists():
            yield name, _as_dicts(_table(path, row_type, known, problems))


def _table(path: Path, row_type: type[Any], known: set[str], problems: list[str]) -> Sequence[Any]:
    """Return a file's rows of the runs that there are; none if there is no such file."""
    if not path.exists():
        return ()
    table = read_table(path, row_type)
    problems += table.problems
    kept: list[Any] = []
    odd: dict[str, list[int]] = {}
    for row, number in zip(table.rows, table.numbers, strict=True):
        run_id = getattr(row, "run_id", "")
        if run_id and run_id.rpartition("-of-")[2] not in known:
            odd.setdefault(f"there is no run {run_id}", []).append(number)
        elif isinstance(row, TaskRow) and _runs_backwards(row):
            odd.setdefault("the task ends before it starts", []).append(number)
        else:
            kept.append(row)
    if odd:
        # One line for a file, whatever is wrong with its rows.
        why, numbers = next(iter(odd.items()))
        rest = sum(len(each) for each in odd.values()) - len(numbers)
        problems.append(_left_out(path, numbers + [0] * rest, why))
    return kept


def _runs_backwards(row: TaskRow) -> bool:
    times = (
        row.submitted_mono_ns,
        row.started_mono_ns,
        row.resolved_mono_ns,
        row.finished_mono_ns,
        row.received_mono_ns,
    )
    known = [t for t in times if t is not None]
    return known != sorted(known)


def _as_dicts(rows: Iterable[Any]) -> list[Row]:
    return [{f.name: getattr(row, f.name) for f in dataclasses.fields(row)} for row in rows]


def _peaks(rows: Iterable[PeakRow]) -> dict[tuple[str, str], Peak]:
    found = _told_peaks(rows)
    spread: dict[tuple[str, str], list[Peak]] = {}
    for (run_id, name), peak in found.items():
        scope, _, node = name.partition(ON_NODE)
        if node:
            spread.setdefault((run_id, scope), []).append(peak)
    return found | {key: _together(peaks) for key, peaks in spread.items()}


def _together(peaks: Sequence[Peak]) -> Peak:
    """Return the most that a scope on several nodes can have used at once."""
    kinds = {peak.kind for peak in peaks}
    return Peak(
        peak_bytes=sum(peak.peak_bytes for peak in peaks),
        baseline_bytes=sum(peak.baseline_bytes for peak in peaks),
        kind=KIND_SAMPLED if KIND_SAMPLED in kinds else peaks[0].kind,
        interval_ns=max(peak.interval_ns for peak in peaks),
        nodes=len(peaks),
    )


def _told_peaks(rows: Iterable[PeakRow]) -> dict[tuple[str, str], Peak]:
    return {
        (row.run_id, row.name): Peak(
            row.peak_bytes, row.baseline_bytes, row.peak_kind, row.interval_ns
        )
        for row in rows
        if row.scope in ("container", "service", "topology")
        and row.peak_bytes is not None
        and row.baseline_bytes is not None
    }


def to_ns(unix_s: float) -> int:
    """Return seconds as nanoseconds; the fraction is taken apart to lose none of it."""
    fraction, whole = math.modf(unix_s)
    return int(whole) * 1_000_000_000 + round(fraction * 1e9)
