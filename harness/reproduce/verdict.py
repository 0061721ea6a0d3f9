"""Whether a rerun gave the same answer: per mode and metric, absolute and scale-free."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from harness.analysis.compare import METRICS, Metric, Row, compare_sessions
from harness.analysis.identity import Difference
from harness.analysis.readers import read_session
from harness.analysis.session import Session
from harness.analysis.verdicts import Rules, Verdict

_COUNTERPARTS = {"peak_per_payload": "net_peak", "makespan_per_ideal": "makespan"}


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
        rows: mode by mode, metric by metric.
        environment: what else was not the same.
        regressions: modes that went through as published and not now, one line each.
    """

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
    metrics = [_resolved(metric, first) for metric in METRICS]
    compared = compare_sessions(first, second, rules=Rules(threshold=threshold), metrics=metrics)
    return Reproduction(
        tuple(_metric_verdict(row) for row in compared.rows),
        compared.differences,
        compared.regressions,
    )


def _resolved(metric: Metric, session: Session) -> Metric:
    """Give a scale-free metric the resolution of what it is derived from.

    A payload of a few kilobytes would else turn the kernel's rounding into a large ratio.
    """
    counterpart = next((m for m in METRICS if m.name == _COUNTERPARTS.get(metric.name)), None)
    facts = session.workload
    if counterpart is None or facts is None:
        return metric
    scale = facts.payload_bytes if counterpart.name == "net_peak" else facts.ideal_s
    return replace(metric, floor=max(metric.floor, counterpart.floor / scale)) if scale else metric


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
