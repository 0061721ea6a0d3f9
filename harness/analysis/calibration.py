"""Each view held against a known truth: what it must show, what it shows, what it cannot see.

Every claim that is made about a view elsewhere (README, docs/measurement.md) is a ``Claim`` here:
also that it is blind for something, which is then checked like any other.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.analysis.quality import STOCK_BYTES, sample_rows
from harness.results.conversation import AFTER_START, BASELINE_END, RUN_START
from harness.results.directory import RunDirectory
from harness.results.rows import OutcomeRow, ResultRow, read_rows
from harness.results.schema import SCOPE_TOPOLOGY, LedgerRow, MarkRow, PeakRow, TruthRow

BOUND_PERCENT = 1.0
_SERVICE = "runner-1"

Expected = Callable[[TruthRow], int]


def _all(truth: TruthRow) -> int:
    return truth.size_bytes


def _with_tables(truth: TruthRow) -> int:
    return truth.size_bytes + truth.page_table_bytes


def _none(_truth: TruthRow) -> int:
    return 0


def _once_each(truth: TruthRow) -> int:
    return truth.size_bytes * truth.processes


@dataclass(frozen=True)
class Claim:
    """What one column of one view must show of one step of a probe.

    Attributes:
        view: ``cgroup``, ``inside`` or ``docker``.
        column: of its samples file.
        probe, step: of ``truth.csv``; an empty step: each of the probe's steps.
        expected: bytes it must show beyond its baseline.
        says: the claim in words.
        bound_percent: its stated error.
        as_cgroup: a column of the cgroup view that it must agree with instead, where the truth is
            the kernel's choice.
    """

    view: str
    column: str
    probe: str
    step: str
    expected: Expected
    says: str
    bound_percent: float = BOUND_PERCENT
    as_cgroup: str = ""


# The page cache's own tree is kernel memory, 3 % of the file, and some pages are active at once.
_TREE_PERCENT = 10.0
# With the pages come the interpreter's, of which each fork has some or all, too.
_INTERPRETER_PERCENT = 5.0

CLAIMS = (
    Claim("cgroup", "usage_bytes", "pulses", "", _with_tables, "every pulse, page tables included"),
    Claim("inside", "rss_sum_bytes", "pulses", "", _all, "every pulse, without page tables"),
    Claim("cgroup", "usage_bytes", "shm", "written", _all, "shared memory is charged"),
    Claim("cgroup", "shmem_bytes", "shm", "written", _all, "shared memory is shmem"),
    Claim("inside", "rss_sum_bytes", "shm", "written", _none, "blind: nobody maps it"),
    Claim("docker", "usage_bytes", "shm", "written", _all, "shared memory is charged"),
    Claim("cgroup", "file_bytes", "file", "written", _all, "a written file is page cache"),
    Claim("cgroup", "anon_bytes", "file", "written", _none, "and not anonymous memory"),
    Claim("inside", "rss_sum_bytes", "file", "written", _none, "blind: page cache is no process's"),
    Claim(
        "docker",
        "mem_usage_cli_bytes",
        "file",
        "written",
        _none,
        "blind: inactive cache is taken off",
        _TREE_PERCENT,
    ),
    Claim("cgroup", "file_bytes", "file", "re-read", _all, "the same once it is re-read"),
    Claim(
        "docker",
        "mem_usage_cli_bytes",
        "file",
        "re-read",
        _all,
        "jumps by what the kernel calls active",
        _TREE_PERCENT,
        # Of a file that is read twice that is all on Linux 6.18, and nothing on 6.12.
        as_cgroup="active_file_bytes",
    ),
    Claim("cgroup", "file_bytes", "file", "unlinked", _none, "an unlinked file is gone"),
    Claim("cgroup", "anon_bytes", "forks", "shared", _all, "pages shared by forks count once"),
    Claim(
        "inside",
        "rss_sum_bytes",
        "forks",
        "shared",
        _once_each,
        "counts them in each process",
        _INTERPRETER_PERCENT,
    ),
)


@dataclass(frozen=True)
class Check:
    """One claim's outcome.

    Attributes:
        view, column, probe, step, says: the claim.
        truth_bytes: what the probe held.
        expected_bytes: what the view must show.
        shown_bytes: what it showed beyond its baseline; None: it had no reading then. Of several
            steps the one that was furthest off.
        off_percent: shown less expected, in percent of the larger of what it must show and what
            the probe held at most.
        seen: steps for which it had a reading within the bound, and steps in all.
        bound_percent: the stated error.
        within: whether all of them were.
    """

    view: str
    column: str
    probe: str
    step: str
    says: str
    truth_bytes: int
    expected_bytes: int
    shown_bytes: int | None
    off_percent: float | None
    seen: tuple[int, int]
    bound_percent: float
    within: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the check for a JSON file."""
        return asdict(self)


@dataclass(frozen=True)
class Readings:
    """One column of one view: times on CLOCK_MONOTONIC and values."""

    times: list[int]
    values: list[int]

    def between(self, start_ns: int, end_ns: int) -> list[int]:
        """Return the values read within a time."""
        pairs = zip(self.times, self.values, strict=True)
        return [value for time, value in pairs if start_ns <= time <= end_ns]


def read_column(directory: RunDirectory, view: str, column: str, unix_ahead_ns: int) -> Readings:
    """Return a column's readings of the probe's container.

    Args:
        directory: of the probes.
        view: which file.
        column: which column.
        unix_ahead_ns: CLOCK_REALTIME less CLOCK_MONOTONIC: the engine tells only the former.
    """
    time, less = ("t_read_unix_ns", unix_ahead_ns) if view == "docker" else ("t_mono_ns", 0)
    times, values = [], []
    for _, container, (moment, value) in sample_rows(directory.memory(view), time, column):
        if container == _SERVICE and moment is not None and value is not None:
            times.append(moment - less)
            values.append(value)
    return Readings(times, values)


def check(
    claim: Claim,
    truth: Sequence[TruthRow],
    readings: Readings,
    baseline: tuple[int, int],
    kernels: Readings | None = None,
) -> Check | None:
    """Hold one claim against the readings; None if there are none at all.

    Args:
        claim: the claim.
        truth: the steps it is about.
        readings: of its column.
        baseline: between which times nothing but the baseline was there.
        kernels: of the column that takes the truth's place, if one does.
    """
    if not truth or not readings.between(*baseline):
        return None
    worst: tuple[float, int, int | None] | None = None
    seen = 0
    largest = max(row.size_bytes for row in truth) or 256 * 2**20
    for row in truth:
        must = claim.expected(row) if kernels is None else _beyond(kernels, row, baseline)
        if must is None:
            return None
        shown = _beyond(readings, row, baseline)
        off = float("inf") if shown is None else 100 * (shown - must) / max(must, largest)
        seen += abs(off) <= claim.bound_percent
        if worst is None or abs(off) > abs(worst[0]):
            worst = off, must, shown
    assert worst is not None
    off, must, shown = worst
    return Check(
        view=claim.view,
        column=claim.column,
        probe=claim.probe,
        step=claim.step or f"{len(truth)} steps",
        says=claim.says,
        truth_bytes=largest,
        expected_bytes=must,
        shown_bytes=shown,
        off_percent=None if shown is None else off,
        seen=(seen, len(truth)),
        bound_percent=claim.bound_percent,
        within=seen == len(truth),
    )


def _beyond(readings: Readings, row: TruthRow, baseline: tuple[int, int]) -> int | None:
    """Return the last reading within a step less the baseline: cached sums have caught up then."""
    before = readings.between(*baseline)
    values = readings.between(row.start_mono_ns, row.end_mono_ns)
    return round(values[-1] - statistics.median(before)) if before and values else None


def check_all(directory: RunDirectory) -> list[Check]:
    """Hold every claim against what the probes' samples say.

    A view that left no samples has no checks; ``quality.missing_views`` says why.
    """
    truth = read_rows(directory.truth, TruthRow)
    marks = read_rows(directory.marks, MarkRow)
    at = {(mark.run_id, mark.mark): mark for mark in marks}
    ahead = statistics.median(mark.t_unix_ns - mark.t_mono_ns for mark in marks)
    found: list[Check | None] = list(_exact_checks(directory, truth))
    for claim in CLAIMS:
        steps = [r for r in truth if r.probe == claim.probe and claim.step in ("", r.step)]
        ends = (at[claim.probe, BASELINE_END].t_mono_ns, at[claim.probe, RUN_START].t_mono_ns)
        readings = read_column(directory, claim.view, claim.column, round(ahead))
        kernels = None
        if claim.as_cgroup:
            kernels = read_column(directory, "cgroup", claim.as_cgroup, round(ahead))
        found.append(check(claim, steps, readings, ends, kernels))
    return [each for each in found if each is not None]


def _exact_checks(directory: RunDirectory, truth: Sequence[TruthRow]) -> Iterator[Check]:
    """Yield what is not a matter of when it was sampled: peaks and set sizes."""
    pulses = [row for row in truth if row.probe == "pulses"]
    (shared,) = (row for row in truth if row.probe == "forks")
    peaks = read_rows(directory.peaks, PeakRow) if directory.peaks.exists() else []
    for peak in peaks:
        if (peak.run_id, peak.scope) == ("pulses", "container") and peak.peak_bytes is not None:
            says = f"{peak.label}: highest use of the run"
            claim = Claim("peak", "peak_bytes", "pulses", "all", _with_tables, says)
            highest = max(pulses, key=_with_tables)
            yield _exact(claim, highest, peak.peak_bytes - (peak.baseline_bytes or 0))
    ledger = {
        (row.run_id, row.mark): row
        for row in (read_rows(directory.ledger, LedgerRow) if directory.ledger.exists() else [])
        if row.scope == "container"
    }
    before, then = ledger.get(("forks", BASELINE_END)), ledger.get(("forks", AFTER_START))
    if before and then and before.pss_bytes is not None and then.pss_bytes is not None:
        says = "shares them out: counts them once"
        claim = Claim("ledger", "pss_bytes", "forks", "shared", _all, says, _INTERPRETER_PERCENT)
        yield _exact(claim, shared, then.pss_bytes - before.pss_bytes)


def _exact(claim: Claim, truth: TruthRow, shown: int) -> Check:
    must = claim.expected(truth)
    off = 100 * (shown - must) / must
    within = abs(off) <= claim.bound_percent
    return Check(
        view=claim.view,
        column=claim.column,
        probe=claim.probe,
        step=claim.step,
        says=claim.says,
        truth_bytes=truth.size_bytes,
        expected_bytes=must,
        shown_bytes=shown,
        off_percent=off,
        seen=(int(within), 1),
        bound_percent=claim.bound_percent,
        within=within,
    )


def pulses_seen(directory: RunDirectory, view: str, column: str) -> tuple[int, int]:
    """Return of how many pulses a view had a reading at all, and how many there were."""
    marks = read_rows(directory.marks, MarkRow)
    ahead = round(statistics.median(mark.t_unix_ns - mark.t_mono_ns for mark in marks))
    pulses = [row for row in read_rows(directory.truth, TruthRow) if row.probe == "pulses"]
    readings = read_column(directory, view, column, ahead)
    seen = sum(bool(readings.between(p.start_mono_ns, p.end_mono_ns)) for p in pulses)
    return seen, len(pulses)


def agreement_bytes(quality: dict[str, Any], cpus: int) -> dict[str, int]:
    """Return how far the views may disagree on this machine, by what they did here.

    Twice the 95th percentile, and at least the kernel's charge stocks of all CPUs.
    """
    stocks = cpus * STOCK_BYTES
    return {
        name: max(2 * int(quality[key]["p95_bytes"]), stocks)
        for name, key in (
            ("identity", "identity"),
            ("inside", "inside_against_cgroup"),
            ("docker", "docker_against_cgroup"),
        )
    }


def run_figures(directory: RunDirectory) -> dict[str, list[float]]:
    """Return what an A/A plan compares, run by run: peak net of the topology, and makespan."""
    peaks = read_rows(directory.peaks, PeakRow) if directory.peaks.exists() else []
    finished = [row.run_id for row in read_rows(directory.outcomes, OutcomeRow)]
    return {
        "peak_net_bytes": [
            float(row.peak_bytes - row.baseline_bytes)
            for row in peaks
            if row.scope == SCOPE_TOPOLOGY
            and row.run_id in finished
            and row.peak_bytes is not None
            and row.baseline_bytes is not None
        ],
        "makespan_s": [r.workflow_makespan_s for r in read_rows(directory.results, ResultRow)],
    }
