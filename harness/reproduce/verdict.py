"""Whether a rerun gave the same answer: per mode and metric, absolute and scale-free."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from harness.analysis.compare import METRICS, Metric, Row, Unit, compare_sessions
from harness.analysis.identity import Difference
from harness.analysis.readers import read_session
from harness.analysis.session import Session
from harness.analysis.verdicts import Rules, Verdict

# The kernel charges a container's memory in stocks of up to 64 pages on each CPU: a counter is
# ahead of the use by up to this much (mm/memcontrol.c, MEMCG_CHARGE_BATCH).
_STOCK_BYTES = 64 * 4096


class Reproduced(StrEnum):
    """The answer for one mode and metric, or for all."""

    YES = "reproduced"
    NO = "not reproduced"
    UNKNOWN = "not enough data"


@dataclass(frozen=True)
class MetricVerdict:
    """One mode under one metric.

    Attributes:
        mode: the data management mode.
        metric: what was compared.
        verdict: the answer.
        published, again: medians of either side; None where a side has none.
        change: the difference as a fraction of the published median, where that says something.
        runs: how many runs either side has.
    """

    mode: str
    metric: Metric
    verdict: Reproduced
    published: float | None
    again: float | None
    change: float | None
    runs: tuple[int, int]


@dataclass(frozen=True)
class Reproduction:
    """A rerun beside what was published.

    Attributes:
        resolution_bytes: differences of memory up to this are below what the counters resolve.
        rows: mode by mode, metric by metric.
        environment: what else was not the same.
        regressions: modes that went through as published and not now, one line each.
    """

    resolution_bytes: float
    rows: tuple[MetricVerdict, ...]
    environment: tuple[Difference, ...]
    regressions: tuple[str, ...]

    @property
    def verdict(self) -> Reproduced:
        """The answer for all: no if any is no; yes if nothing is, and something is yes."""
        found = Counter(row.verdict for row in self.rows)
        if self.regressions or found[Reproduced.NO]:
            return Reproduced.NO
        return Reproduced.YES if found[Reproduced.YES] else Reproduced.UNKNOWN


def judge(published: Path, again: Path, threshold: float) -> Reproduction:
    """Compare a rerun with the published run directory.

    A value is reproduced if it is neither better nor worse: no difference larger than the threshold
    (or than what the measurement resolves) is there, with enough runs to have seen one.

    Args:
        published: its run directory.
        again: the rerun's.
        threshold: differences up to this fraction of the published median do not matter.

    Raises:
        UsageError: if one cannot be read, or has no run that went through.
    """
    first, second = read_session(published), read_session(again)
    resolution = max(resolution_bytes(first), resolution_bytes(second))
    metrics = [_resolved(metric, resolution, first) for metric in METRICS]
    compared = compare_sessions(first, second, rules=Rules(threshold=threshold), metrics=metrics)
    return Reproduction(
        resolution,
        tuple(_metric_verdict(row) for row in compared.rows),
        compared.differences,
        compared.regressions,
    )


def resolution_bytes(session: Session) -> float:
    """Return up to how much the topology's counters are ahead of its use, in bytes."""
    containers = sum(session.memory.containers.values()) if session.memory else 1
    machine = session.documents.get("manifest", {}).get("machine") or {}
    return float(_STOCK_BYTES * containers * int(machine.get("cpus") or 1))


def _resolved(metric: Metric, resolution: float, session: Session) -> Metric:
    """Give a metric the resolution of the memory it is derived from.

    Without, a workload of a few kilobytes turns the kernel's rounding into large differences.
    """
    facts = session.workload
    payload, ideal_s = (facts.payload_bytes, facts.ideal_s) if facts else (0, 0.0)
    floor = {
        Unit.BYTES: resolution,
        Unit.BYTE_SECONDS: resolution * ideal_s,
        Unit.RATIO: resolution / payload if payload and metric.name == "peak_per_payload" else 0.0,
    }.get(metric.unit, 0.0)
    return replace(metric, floor=max(metric.floor, floor))


def _metric_verdict(row: Row) -> MetricVerdict:
    found = row.comparison
    if found is None:
        return MetricVerdict(row.mode, row.metric, Reproduced.UNKNOWN, None, None, None, (0, 0))
    words = {
        Verdict.INDISTINGUISHABLE: Reproduced.YES,
        Verdict.NOT_ENOUGH_DATA: Reproduced.UNKNOWN,
    }
    return MetricVerdict(
        mode=row.mode,
        metric=row.metric,
        verdict=words.get(found.verdict, Reproduced.NO),
        published=found.a.median,
        again=found.b.median,
        change=found.change,
        runs=(len(found.a.values), len(found.b.values)),
    )
