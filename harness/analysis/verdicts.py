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

# With fewer pairs the paired test cannot say what five runs on each side say unpaired: 1 in 252.
_LEAST_PAIRS = 8
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


@dataclass(frozen=True)
class Comparison:
    """Side B beside side A.

    Attributes:
        a, b: the samples.
        difference: b's median less a's; of pairs, the median of their differences.
        change: the difference as a fraction of A's median; None where that is not above the floor.
        low, high: interval of the difference, either end wrong in at most 5 of 100 cases; None with
            too few runs for one.
        test: of whether the sides differ at all.
        p: its p among all the rows that were looked at with it (Holm 1979).
        separated: whether every run of one side lies above every run of the other.
        apart: whether the verdict is from that, as among so many rows no rank test could say it.
        paired: whether runs that followed each other were compared pair by pair.
        detectable: the smallest difference that so many runs would show in 4 of 5 comparisons.
        matters: differences below this are too small to matter: the threshold, or the floor.
        floor: what the measurement resolves.
        verdict: what it means.
        needs: where it is undecided, what it would take; where it is not comparable, why.
    """

    a: Spread
    b: Spread
    difference: float
    change: float | None
    low: float | None
    high: float | None
    test: Test
    p: float
    separated: bool
    apart: bool
    paired: bool
    detectable: float | None
    matters: float
    floor: float
    verdict: Verdict
    needs: str = ""


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
        floor: what the measurement resolves: differences up to this never matter.
        interleaved: whether the runs took turns. Pairs are compared from eight on; with fewer, the
            unpaired test says more.

    Raises:
        ValueError: if a side is empty.
    """
    return compare_all([(a, b, floor, interleaved)], rules)[0]


Sides = tuple[Sequence[float], Sequence[float], float, bool]
"""Values of either side, floor, and whether the runs took turns: as :func:`compare` takes them."""


def compare_all(pairs: Sequence[Sides], rules: Rules | None = None) -> list[Comparison]:
    """Compare several pairs of samples that are looked at together.

    The more comparisons, the more often chance alone makes one of them stand out. So a difference
    counts if the family's p says so (Holm), or, with too few runs for any rank test to say so among
    so many, if all runs of one side lie above all of the other and the difference is as large as
    the t test would find at a level divided by the number of comparisons.

    Raises:
        ValueError: if a side is empty.
    """
    rules = rules or Rules()
    found = [_figures(*pair, rules) for pair in pairs]
    adjusted = _holm([each.test.p for each in found])
    return [
        _judged(replace(each, p=p), rules, len(found))
        for each, p in zip(found, adjusted, strict=True)
    ]


def _holm(chances: Sequence[float]) -> list[float]:
    """Return what each p is among all of them (Holm 1979)."""
    order = sorted(range(len(chances)), key=chances.__getitem__)
    found, highest = [1.0] * len(chances), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, chances[index] * (len(chances) - place)))
        found[index] = highest
    return found


def _figures(
    a: Sequence[float], b: Sequence[float], floor: float, interleaved: bool, rules: Rules
) -> Comparison:
    if not len(a) or not len(b):
        raise ValueError("a side has no runs")
    paired = interleaved and len(a) == len(b) >= _LEAST_PAIRS
    first, second = statistics.spread(a), statistics.spread(b)
    difference = second.median - first.median
    if paired:
        difference = statistics.median([y - x for x, y in zip(a, b, strict=True)])
    low, high = statistics.difference_interval(a, b, paired=paired) or (None, None)
    return Comparison(
        a=first,
        b=second,
        difference=difference,
        change=difference / first.median if first.median > floor else None,
        low=low,
        high=high,
        test=statistics.compare_pairs(a, b) if paired else statistics.compare_samples(a, b),
        p=1.0,
        separated=max(a) < min(b) or max(b) < min(a),
        apart=False,
        paired=paired,
        detectable=statistics.detectable_difference(a, b, paired=paired, alpha=rules.alpha),
        matters=max(rules.threshold * abs(first.median), floor),
        floor=floor,
        verdict=Verdict.UNDECIDED,
    )


def _judged(found: Comparison, rules: Rules, family: int) -> Comparison:
    within = _furthest(found)
    threshold = rules.threshold * abs(found.a.median)
    if within is not None and within <= threshold:
        return replace(found, verdict=Verdict.EQUIVALENT)
    below = max(abs(found.a.median), abs(found.b.median)) <= found.floor
    if below or (within is not None and within <= found.floor):
        return replace(found, verdict=Verdict.TOO_SMALL)
    by_rank = _reaches(found.p, rules.alpha)
    # An interval that holds zero would stand beside the verdict and contradict it.
    real = not (found.low is None or found.high is None or found.low <= 0 <= found.high)
    if abs(found.difference) > found.matters and real and (by_rank or _far(found, rules, family)):
        verdict = Verdict.WORSE if found.difference > 0 else Verdict.BETTER
        return replace(found, verdict=verdict, apart=not by_rank)
    return replace(found, needs=_needs(found, rules, family))


def _furthest(found: Comparison) -> float | None:
    """Return the end of the interval that is further from no difference."""
    if found.low is None or found.high is None:
        return None
    return max(abs(found.low), abs(found.high))


def _far(found: Comparison, rules: Rules, family: int) -> bool:
    """Return whether sides lie apart as far as chance makes none of so many comparisons."""
    if not found.separated or not _reaches(found.test.least_p, rules.alpha):
        return False
    seen = statistics.detectable_difference(
        found.a.values, found.b.values, paired=found.paired, alpha=rules.alpha / family
    )
    return seen is not None and abs(found.difference) >= seen


def _reaches(p: float, alpha: float) -> bool:
    # The least p of three against three is 1/20, which no sum of floats must miss.
    return p <= alpha * (1 + 1e-9)


def _needs(found: Comparison, rules: Rules, family: int) -> str:
    """Return what it would take to decide."""
    a, b = found.a.values, found.b.values
    have = min(len(a), len(b))
    least = statistics.least_runs(rules.alpha)
    if have < least:
        return f"{_runs(least - have)} of each"
    ways = []
    size = abs(found.difference)
    # A difference beyond the threshold must be told from none, one within it from the threshold.
    margin = size if size > found.matters else max(found.matters - size, found.matters / 4)
    runs = statistics.runs_needed(a, b, margin, paired=found.paired, alpha=rules.alpha / family)
    if runs is not None:
        ways.append(f"{_runs(max(runs - have, 1))} of each")
    within = _furthest(found)
    share = within / abs(found.a.median) if within is not None and found.a.median else math.inf
    if found.change is not None and share <= _MOST_THRESHOLD:
        ways.append(f"a threshold of {_rounded_up(share * 100)} %")
    return " or ".join(ways) or "figures that scatter less"


def _runs(number: int) -> str:
    return f"{number} more run{'' if number == 1 else 's'}"


def _rounded_up(percent: float) -> str:
    """Return a number with two digits, never less than it is."""
    step = 10.0 ** (math.floor(math.log10(percent)) - 1) if percent > 0 else 1.0
    return f"{math.ceil(percent / step - 1e-9) * step:.4g}"


def interleaved(a_starts: Sequence[int], b_starts: Sequence[int]) -> bool:
    """Return whether the runs of two sides took turns.

    Each next two in time must be one of either side, whichever first.
    """
    if len(a_starts) != len(b_starts) or len(a_starts) < 2:
        return False
    order = sorted([(t, "a") for t in a_starts] + [(t, "b") for t in b_starts])
    sides = [side for _, side in order]
    return all(sides[i] != sides[i + 1] for i in range(0, len(sides), 2))
