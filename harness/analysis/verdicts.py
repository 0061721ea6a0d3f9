"""What a comparison means: one vocabulary for compare, report, reproduce and calibrate.

For all metrics here, less is better. ``docs/verdicts.md`` has the rules in words and the error
rates that were measured for them (``benchmarks/verdicts.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.analysis import statistics
from harness.analysis.statistics import ALPHA, Spread, Test

# A drift that chance makes as often as this is suspected.
_SUSPECTED = 0.2
# Nobody sets a threshold above this.
_MOST_THRESHOLD = 1.0


class Verdict(StrEnum):
    """What can be said of side B beside side A."""

    WORSE = "worse"
    """B needs more: not by chance, and by more than the threshold."""
    BETTER = "better"
    """B needs less: not by chance, and by more than the threshold."""
    EQUIVALENT = "equivalent"
    """The whole interval of the difference lies within the threshold."""
    TOO_SMALL = "too small to measure here"
    """The figures, or their difference, are below what the measurement resolves."""
    UNDECIDED = "undecided"
    """The runs do not say; the row says what it would take."""
    NOT_COMPARABLE = "not comparable"
    """A side has no figure, or the sides did not measure the same."""


ANSWERS = frozenset({Verdict.WORSE, Verdict.BETTER, Verdict.EQUIVALENT, Verdict.TOO_SMALL})
"""What settles a question."""


@dataclass(frozen=True)
class Rules:
    """When a difference counts.

    Attributes:
        threshold: the practical threshold, as a fraction of A's median.
        alpha: how often *worse* may be said, at most, where nothing differs.
    """

    threshold: float = 0.05
    alpha: float = ALPHA


class Order(StrEnum):
    """In which order the runs of two sides were done."""

    A_FIRST = "all of A, then B"
    B_FIRST = "all of B, then A"
    MIXED = "taking turns, or not known"


@dataclass(frozen=True)
class Sides:
    """Two samples to be compared.

    Attributes:
        a, b: one value for each run, in the order of the runs.
        floor: what the measurement resolves: differences up to this never matter.
        order: in which order the runs were done.
    """

    a: Sequence[float]
    b: Sequence[float]
    floor: float = 0.0
    order: Order = Order.MIXED


@dataclass(frozen=True)
class Comparison:
    """Side B beside side A.

    Attributes:
        a, b: the samples.
        difference: how far B's median lies above A's; or, where that would contradict interval or
            verdict, the median difference between a run of B and one of A: where values fall into
            groups, medians jump from group to group.
        grouped: whether it is the latter.
        change: the difference as a fraction of A's median; None where that is not above the floor.
        low, high: interval of the difference, either end wrong in at most 5 of 100 cases; None with
            too few runs for one.
        test: of whether the sides differ at all.
        p: its p among all the rows that were looked at with it (Holm 1979).
        separated: whether every run of one side lies above every run of the other.
        apart: whether the verdict is from that, as among so many rows no rank test could say it.
        detectable: the smallest difference that so many runs would show in 4 of 5 comparisons.
        matters: differences below this are too small to matter: the threshold, or the floor.
        floor: what the measurement resolves.
        verdict: what it means.
        needs: where it is undecided, what it would take.
    """

    a: Spread
    b: Spread
    difference: float
    grouped: bool
    change: float | None
    low: float | None
    high: float | None
    test: Test
    p: float
    separated: bool
    apart: bool
    detectable: float | None
    matters: float
    floor: float
    verdict: Verdict
    needs: str = ""


def compare(sides: Sides, rules: Rules | None = None) -> Comparison:
    """Compare two samples of a metric of which less is better.

    Raises:
        ValueError: if a side is empty.
    """
    return compare_all([sides], rules)[0]


def compare_all(family: Sequence[Sides], rules: Rules | None = None) -> list[Comparison]:
    """Compare several pairs of samples that are looked at together.

    The more comparisons, the more often chance alone makes one of them stand out. So a difference
    counts if the family's p says so (Holm), or if the sides lie apart as far as chance makes none
    of so many comparisons (:func:`_far`).

    Raises:
        ValueError: if a side is empty.
    """
    rules = rules or Rules()
    found = [_figures(sides, rules) for sides in family]
    adjusted = _holm([each.test.p for each in found])
    return [
        _with_change(_judged(replace(each, p=p), sides, rules, len(found)))
        for each, p, sides in zip(found, adjusted, family, strict=True)
    ]


def _holm(chances: Sequence[float]) -> list[float]:
    """Return what each p is among all of them (Holm 1979)."""
    order = sorted(range(len(chances)), key=chances.__getitem__)
    found, highest = [1.0] * len(chances), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, chances[index] * (len(chances) - place)))
        found[index] = highest
    return found


def _with_change(found: Comparison) -> Comparison:
    """Return a comparison with the difference that stands beside its verdict."""
    medians = found.b.median - found.a.median
    inside = found.low is None or found.high is None or found.low <= medians <= found.high
    if found.verdict in (Verdict.WORSE, Verdict.BETTER):
        inside = inside and abs(medians) > found.matters
    return with_difference(found, medians if inside else found.difference, grouped=not inside)


def with_difference(found: Comparison, difference: float, *, grouped: bool) -> Comparison:
    """Return a comparison with another difference beside its verdict."""
    change = difference / found.a.median if found.a.median > found.floor else None
    return replace(found, difference=difference, grouped=grouped, change=change)


def _figures(sides: Sides, rules: Rules) -> Comparison:
    a, b, floor = sides.a, sides.b, sides.floor
    if not len(a) or not len(b):
        raise ValueError("a side has no runs")
    first, second = statistics.spread(a), statistics.spread(b)
    shift = statistics.shift(a, b, alpha=rules.alpha)
    return Comparison(
        a=first,
        b=second,
        difference=shift.middle,
        grouped=False,
        change=None,
        low=shift.low,
        high=shift.high,
        test=statistics.compare_samples(a, b),
        p=1.0,
        separated=max(a) < min(b) or max(b) < min(a),
        apart=False,
        detectable=statistics.detectable_difference(a, b, alpha=rules.alpha),
        matters=max(rules.threshold * abs(first.median), floor),
        floor=floor,
        verdict=Verdict.UNDECIDED,
    )


def _judged(found: Comparison, sides: Sides, rules: Rules, family: int) -> Comparison:
    within = _furthest(found)
    threshold = rules.threshold * abs(found.a.median)
    if within is not None and within <= threshold and _holds_for_each(sides, rules):
        return replace(found, verdict=Verdict.EQUIVALENT)
    below = max(abs(found.a.median), abs(found.b.median)) <= found.floor
    if below or (within is not None and within <= found.floor):
        return replace(found, verdict=Verdict.TOO_SMALL)
    by_rank = _reaches(found.p, rules.alpha)
    # An interval that holds zero would stand beside the verdict and contradict it.
    real = not (found.low is None or found.high is None or found.low <= 0 <= found.high)
    if abs(found.difference) > found.matters and real and (by_rank or _far(found, rules, family)):
        if _is_drift(found, sides):
            return replace(found, needs="sides that take turns: the figures drift from run to run")
        verdict = Verdict.WORSE if found.difference > 0 else Verdict.BETTER
        return replace(found, verdict=verdict, apart=not by_rank)
    return replace(found, needs=_needs(found, sides, rules, family))


def _furthest(found: Comparison) -> float | None:
    """Return the end of the interval that is further from no difference."""
    if found.low is None or found.high is None:
        return None
    return max(abs(found.low), abs(found.high))


def _holds_for_each(sides: Sides, rules: Rules) -> bool:
    """Return whether B lies within the threshold of A also if that is taken of each run of A.

    The threshold of A's median is only as exact as the median. A side with runs around zero has no
    other.
    """
    if min(sides.a) <= 0:
        return True
    a, t = [float(value) for value in sides.a], rules.threshold
    above = statistics.shift([x * (1 + t) for x in a], sides.b, alpha=rules.alpha)
    below = statistics.shift([x * (1 - t) for x in a], sides.b, alpha=rules.alpha)
    return above.high is not None and below.low is not None and above.high <= 0 <= below.low


def _far(found: Comparison, rules: Rules, family: int) -> bool:
    """Return whether sides lie apart as far as chance makes none of so many comparisons.

    All runs of one side lie above all of the other, and two shapes of chance are ruled out at the
    level divided by the number of comparisons: one hump, by the difference that a t test would
    find; and two narrow humps of which one side happens to be all in the lower, the other all in
    the higher: p^n (1 - p)^m, at its largest.
    """
    n, m = len(found.a.values), len(found.b.values)
    if not found.separated or not _reaches(found.test.least_p, rules.alpha):
        return False
    humps = (n / (n + m)) ** n * (m / (n + m)) ** m
    seen = statistics.detectable_difference(
        found.a.values, found.b.values, alpha=rules.alpha / family
    )
    far = seen is not None and abs(found.difference) >= seen
    return far and _reaches(humps * family, rules.alpha)


def _is_drift(found: Comparison, sides: Sides) -> bool:
    """Return whether what drifts within the sides may be all that lies between them.

    One side was run after the other, so that what changes with time stands between them. Asked
    before it is said that a side is worse or better, at a lenient level: a drift that is only
    suspected is reason enough to let the sides take turns.
    """
    if sides.order not in (Order.A_FIRST, Order.B_FIRST):
        return False
    drift = statistics.drift(sides.a, sides.b)
    between = (len(sides.a) + len(sides.b)) / 2
    moved = drift.slope * (between if sides.order is Order.A_FIRST else -between)
    rest = found.difference - moved
    explains = moved * found.difference > 0 and rest * found.difference <= abs(
        found.matters * found.difference
    )
    return drift.p <= _SUSPECTED and explains


def _reaches(p: float, alpha: float) -> bool:
    # The least p of three against three is 1/20, which no sum of floats must miss.
    return p <= alpha * (1 + 1e-9)


def _needs(found: Comparison, sides: Sides, rules: Rules, family: int) -> str:
    """Return what it would take to decide."""
    a, b = found.a.values, found.b.values
    have, least = min(len(a), len(b)), statistics.least_runs(rules.alpha)
    if have < least:
        return f"{_runs(least - have)} of each"
    ways = []
    size = abs(found.difference)
    # A difference beyond the threshold must be told from none, one within it from the threshold.
    margin = size if size > found.matters else max(found.matters - size, found.matters / 4)
    runs = statistics.runs_needed(a, b, margin, alpha=rules.alpha / family)
    if runs is not None:
        ways.append(f"{_runs(max(runs - have, 1))} of each")
    enough = _enough(found, sides, rules)
    if enough is not None:
        ways.append(f"a threshold of {enough:.4g} %")
    return " or ".join(ways) or "figures that scatter less"


def _runs(number: int) -> str:
    return f"{number} more run{'' if number == 1 else 's'}"


def _enough(found: Comparison, sides: Sides, rules: Rules) -> float | None:
    """Return the threshold, in percent with two digits, at which the sides are equivalent."""
    within = _furthest(found)
    if within is None or found.a.median <= found.floor:
        return None
    percent = within / abs(found.a.median) * 100
    while percent <= _MOST_THRESHOLD * 100:
        step = 10.0 ** (math.floor(math.log10(percent)) - 1) if percent > 0 else 0.1
        percent = math.ceil(percent / step - 1e-9) * step
        if _holds_for_each(sides, replace(rules, threshold=percent / 100)):
            return percent
        percent += step
    return None


def order_of(a_starts: Sequence[int], b_starts: Sequence[int]) -> Order:
    """Return in which order the runs of two sides were done, from when they started."""
    if a_starts and b_starts and len(a_starts) + len(b_starts) > 2:
        if max(a_starts) < min(b_starts):
            return Order.A_FIRST
        if max(b_starts) < min(a_starts):
            return Order.B_FIRST
    return Order.MIXED
