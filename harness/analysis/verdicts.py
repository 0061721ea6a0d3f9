"""What a comparison means: better, worse, indistinguishable, or not enough data to say.

Two questions, both must be answered with yes for *better* or *worse*: is there a difference at all
(a rank test), and is it large enough to matter (the practical threshold). *Indistinguishable* is
said only where a difference of the threshold would have been seen, or where the confidence interval
of the difference lies within the threshold; else the runs are *not enough data*. For all metrics
here, less is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.analysis import statistics
from harness.analysis.statistics import Spread, Test


class Verdict(StrEnum):
    """What can be said of side B beside side A."""

    BETTER = "better"
    WORSE = "worse"
    INDISTINGUISHABLE = "indistinguishable"
    NOT_ENOUGH_DATA = "not enough data"


@dataclass(frozen=True)
class Rules:
    """When a difference counts.

    Attributes:
        threshold: the practical threshold, as a fraction of A's median.
        alpha: significance level of the test.
    """

    threshold: float = 0.05
    alpha: float = 0.05


@dataclass(frozen=True)
class Comparison:
    """Side B beside side A.

    Attributes:
        a, b: the samples.
        difference: b's median less a's; of pairs, the median of their differences.
        change: the difference as a fraction of A's median; None where that is not above the floor.
        low, high: 95 % confidence interval of the difference; None with fewer than two runs.
        test: None where a side has no runs.
        paired: whether runs that followed each other were compared pair by pair.
        detectable: the smallest difference that so many runs would show in 4 of 5 comparisons.
        matters: differences below this are too small to matter: the threshold, or the floor.
        verdict: what it means.
    """

    a: Spread
    b: Spread
    difference: float
    change: float | None
    low: float | None
    high: float | None
    test: Test
    paired: bool
    detectable: float | None
    matters: float
    verdict: Verdict


def compare(
    a: Sequence[float],
    b: Sequence[float],
    *,
    rules: Rules | None = None,
    floor: float = 0.0,
    interleaved: bool = False,
) -> Comparison:
    """Compare two samples of a metric of which less is better.

    Args:
        a, b: one value for each run, at least one each. Interleaved: those at the same place were
            run one after the other.
        rules: when a difference counts.
        floor: absolute differences up to this never matter: the resolution of the measurement.
        interleaved: whether the runs took turns. Pairs are compared where there are enough of them
            for the paired test to say anything; with fewer, the unpaired test needs fewer runs.

    Raises:
        ValueError: if a side is empty.
    """
    if not a or not b:
        raise ValueError("a side has no runs")
    rules = rules or Rules()
    paired = interleaved and len(a) == len(b) and 2.0 ** (1 - len(a)) <= rules.alpha
    test = statistics.compare_pairs(a, b) if paired else statistics.compare_samples(a, b)
    first, second = statistics.spread(a), statistics.spread(b)
    difference = second.median - first.median
    if paired:
        difference = statistics.median([y - x for x, y in zip(a, b, strict=True)])
    interval = statistics.difference_interval(a, b, paired=paired)
    detectable = statistics.detectable_difference(a, b, paired=paired, alpha=rules.alpha)
    matters = max(rules.threshold * abs(first.median), floor)
    low, high = interval or (None, None)
    return Comparison(
        a=first,
        b=second,
        difference=difference,
        change=difference / first.median if first.median > floor else None,
        low=low,
        high=high,
        test=test,
        paired=paired,
        detectable=detectable,
        matters=matters,
        verdict=_verdict(
            test,
            rules.alpha,
            difference=difference,
            interval=interval,
            seen=detectable,
            matters=matters,
        ),
    )


def _verdict(
    test: Test,
    alpha: float,
    *,
    difference: float,
    interval: tuple[float, float] | None,
    seen: float | None,
    matters: float,
) -> Verdict:
    if test.least_p > alpha:
        return Verdict.NOT_ENOUGH_DATA
    if test.p <= alpha and abs(difference) > matters:
        return Verdict.WORSE if difference > 0 else Verdict.BETTER
    within = interval is not None and max(map(abs, interval)) <= matters
    would_show = seen is not None and seen <= matters
    # A difference that is there, but too small to matter, is an answer too.
    if within or would_show or test.p <= alpha:
        return Verdict.INDISTINGUISHABLE
    return Verdict.NOT_ENOUGH_DATA


def interleaved(a_starts: Sequence[int], b_starts: Sequence[int]) -> bool:
    """Return whether the runs of two sides took turns.

    Each next two in time must be one of either side, whichever first.
    """
    if len(a_starts) != len(b_starts) or len(a_starts) < 2:
        return False
    order = sorted([(t, "a") for t in a_starts] + [(t, "b") for t in b_starts])
    sides = [side for _, side in order]
    return all(sides[i] != sides[i + 1] for i in range(0, len(sides), 2))
