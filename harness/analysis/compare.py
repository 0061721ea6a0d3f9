"""Two sessions side by side: per mode and metric, with a verdict, and what makes them differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from harness.analysis.figures import Group, RunFigures, group_runs
from harness.analysis.identity import Difference, differences
from harness.analysis.session import OK, Session, WorkloadFacts
from harness.analysis.verdicts import Comparison, Rules, Verdict, compare, interleaved
from harness.core.errors import UsageError

MIB = 2**20


class Unit(StrEnum):
    """Unit of a metric's values."""

    BYTES = "B"
    BYTE_SECONDS = "B s"
    SECONDS = "s"
    RATIO = "ratio"


@dataclass(frozen=True)
class Metric:
    """Something of which every run has one value, and less is better.

    Attributes:
        name: as flags and JSON spell it.
        label: as people read it.
        unit: of its values.
        floor: differences up to this never matter, whatever the threshold.
        value: the value of a run, None where it has none.
        scale_free: whether it compares across workloads and machines of other sizes.
    """

    name: str
    label: str
    unit: Unit
    floor: float
    value: Callable[[RunFigures, WorkloadFacts | None], float | None] = field(repr=False)
    scale_free: bool = False


def _net_peak(figures: RunFigures, _: WorkloadFacts | None) -> float | None:
    return figures.topology.net_peak_bytes if figures.topology else None


def _net_mean(figures: RunFigures, _: WorkloadFacts | None) -> float | None:
    return figures.topology.net_mean_bytes if figures.topology else None


def _area(figures: RunFigures, _: WorkloadFacts | None) -> float | None:
    if figures.topology is None or figures.run.makespan_s is None:
        return None
    return figures.topology.net_mean_bytes * figures.run.makespan_s


def _makespan(figures: RunFigures, _: WorkloadFacts | None) -> float | None:
    return figures.run.makespan_s


def _leftover(figures: RunFigures, _: WorkloadFacts | None) -> float | None:
    return figures.topology.leftover_bytes if figures.topology else None


def _peak_per_payload(figures: RunFigures, workload: WorkloadFacts | None) -> float | None:
    peak = _net_peak(figures, workload)
    if peak is None or workload is None or not workload.payload_bytes:
        return None
    return peak / workload.payload_bytes


def _makespan_per_ideal(figures: RunFigures, workload: WorkloadFacts | None) -> float | None:
    if figures.run.makespan_s is None or workload is None or not workload.ideal_s:
        return None
    return figures.run.makespan_s / workload.ideal_s


# The kernel charges memory in stocks of up to 256 KiB for each CPU and container, and clocks of a
# busy machine are late by some milliseconds: what is smaller is noise of the measurement.
METRICS = (
    Metric("net_peak", "net peak", Unit.BYTES, MIB, _net_peak),
    Metric("net_mean", "net mean", Unit.BYTES, MIB, _net_mean),
    Metric("area", "net area", Unit.BYTE_SECONDS, MIB, _area),
    Metric("makespan", "makespan", Unit.SECONDS, 0.05, _makespan),
    Metric("leftover", "leftover", Unit.BYTES, MIB, _leftover),
    Metric("peak_per_payload", "net peak / payload", Unit.RATIO, 0.01, _peak_per_payload, True),
    Metric("makespan_per_ideal", "makespan / ideal", Unit.RATIO, 0.01, _makespan_per_ideal, True),
)


@dataclass(frozen=True)
class Row:
    """One mode (or two, one of each side) under one metric.

    Attributes:
        mode_a, mode_b: the modes compared; the same but where modes are compared with each other.
        metric: what is compared.
        comparison: None where a side has no value of it.
    """

    mode_a: str
    mode_b: str
    metric: Metric
    comparison: Comparison | None

    @property
    def mode(self) -> str:
        """The mode, or both."""
        return self.mode_a if self.mode_a == self.mode_b else f"{self.mode_a} > {self.mode_b}"


@dataclass(frozen=True)
class SessionComparison:
    """Session B beside session A.

    Attributes:
        a, b: the sessions.
        rules: when a difference counted.
        rows: mode by mode, metric by metric.
        differences: what is not the same on both sides, beside the figures.
        regressions: runs that failed where A's did not, one line each.
    """

    a: Session
    b: Session
    rules: Rules
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    regressions: tuple[str, ...]

    @property
    def worse(self) -> bool:
        """Whether anything became worse."""
        return bool(self.regressions) or any(
            row.comparison and row.comparison.verdict is Verdict.WORSE for row in self.rows
        )

    @property
    def undecided(self) -> bool:
        """Whether some row has not enough data."""
        return any(
            row.comparison is None or row.comparison.verdict is Verdict.NOT_ENOUGH_DATA
            for row in self.rows
        )


def compare_sessions(
    a: Session,
    b: Session,
    *,
    rules: Rules | None = None,
    metrics: Sequence[Metric] | None = None,
    modes: Sequence[tuple[str, str]] | None = None,
) -> SessionComparison:
    """Compare two sessions mode by mode.

    Args:
        a: the baseline.
        b: what is judged.
        rules: when a difference counts.
        metrics: what to compare; those that are not scale-free by default.
        modes: pairs of a mode of A and one of B; each common mode with itself by default.

    Raises:
        UsageError: if there is no mode to compare.
    """
    rules = rules or Rules()
    metrics = metrics or [metric for metric in METRICS if not metric.scale_free]
    pairs = list(modes or [(mode, mode) for mode in a.modes if mode in b.modes])
    if not pairs:
        raise UsageError(
            f"no mode in common: {a.path} has {', '.join(a.modes)}; {b.path} has"
            f" {', '.join(b.modes)}; --modes A B compares two modes with each other"
        )
    for session, side in ((a, 0), (b, 1)):
        for pair in pairs:
            if not session.measured(pair[side]):
                has = ", ".join(mode for mode in session.modes if session.measured(mode))
                raise UsageError(
                    f"{session.path}: no run of {pair[side]} went through (it has"
                    f" {has or 'none that did'})"
                )
    groups = {(g.session.path, g.mode): g for g in group_runs([a, b] if a.path != b.path else [a])}
    rows: list[Row] = []
    for mode_a, mode_b in pairs:
        rows += compare_groups(groups[a.path, mode_a], groups[b.path, mode_b], rules, metrics)
    return SessionComparison(
        a, b, rules, tuple(rows), tuple(differences(a, b)), tuple(_regressions(a, b, pairs))
    )


def compare_groups(
    a: Group, b: Group, rules: Rules | None = None, metrics: Sequence[Metric] | None = None
) -> list[Row]:
    """Compare the runs of two modes, or of one mode in two sessions, metric by metric."""
    rules = rules or Rules()
    metrics = metrics or [metric for metric in METRICS if not metric.scale_free]
    turns = _took_turns(a, b)
    return [
        Row(a.mode, b.mode, metric, _compare(metric, a, b, rules, turns=turns))
        for metric in metrics
    ]


def _compare(metric: Metric, a: Group, b: Group, rules: Rules, *, turns: bool) -> Comparison | None:
    sides = [
        [metric.value(figures, group.session.workload) for figures in group.figures]
        for group in (a, b)
    ]
    x, y = ([value for value in side if value is not None] for side in sides)
    if not x or not y:
        return None
    whole = len(x) == len(sides[0]) and len(y) == len(sides[1])
    return compare(x, y, rules=rules, floor=metric.floor, interleaved=turns and whole)


def _took_turns(a: Group, b: Group) -> bool:
    """Return whether the runs took turns; only runs on one clock can be known to."""
    if a.session.path != b.session.path and not _one_clock(a.session, b.session):
        return False
    starts = [[f.run.start_ns for f in group.figures] for group in (a, b)]
    known = [[t for t in side if t is not None] for side in starts]
    return starts == known and interleaved(*known)


def _one_clock(a: Session, b: Session) -> bool:
    """Return whether times of both sessions can be compared: UNIX times, or of one boot."""
    boots = [(s.documents.get("manifest", {}).get("machine") or {}).get("boot_id") for s in (a, b)]
    by_boot = boots[0] is not None and boots[0] == boots[1]
    return a.source == b.source and (a.source == "psbench" or by_boot)


def _regressions(a: Session, b: Session, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return a line for each mode of which runs of B did not end well, but all of A's did."""
    found = []
    for mode_a, mode_b in pairs:
        bad = [run for run in b.runs if run.mode == mode_b and run.outcome != OK]
        if bad and all(run.outcome == OK for run in a.runs if run.mode == mode_a):
            found.append(
                f"{mode_b}: {bad[0].run_id} ended as {bad[0].outcome}"
                + (f" ({bad[0].reason})" if bad[0].reason else "")
                + (f", and {len(bad) - 1} more" if len(bad) > 1 else "")
            )
    return found
