"""Statistics of few runs, exact for few runs.

Every function takes one value for each run. Nothing here knows what is better. Chances and
intervals are one-sided at :data:`ALPHA`: an interval's lower end is too high in at most 5 of 100
cases, and so is its upper end too low. SciPy is too large to be installed for five functions; the
tests hold these against it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

ALPHA = 0.05
MOST_LOOKS = 7
ALPHA_OF_A_LOOK = ALPHA / MOST_LOOKS
"""Where runs are repeated until they are enough, each look is judged at this (Bonferroni): each
could be the one at which chance speaks, and together they are wrong at most as often as one."""
POWER = 0.8
# Up to this many runs the tests count all ways in which chance could have dealt the ranks.
_MOST_EXACT = 60
_MOST_RUNS = 1000
# Of a step's height: what is above is no stair, however many values are on it.
_WIDEST_STEP = 0.4
# Of sums that are integrals; samples of two runs have deviations of all sizes.
_NODES = 200
_NODES_OF_FEW = 1500
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Spread:
    """A sample and what is known of its median.

    Attributes:
        values: one for each run.
        median: theirs.
        low, high: from five runs on an interval in which the median of all runs lies with a
            probability of at least 90 %; below, the lowest and the highest value.
        confidence: that probability; None where low and high are only lowest and highest.
    """

    values: tuple[float, ...]
    median: float
    low: float
    high: float
    confidence: float | None


@dataclass(frozen=True)
class Test:
    """A test of whether one side lies above the other.

    Attributes:
        name: ``Mann-Whitney``.
        p: probability of values as far apart as these, in the direction they are, if nothing
            differs.
        least_p: the smallest p that any values could have given with so many runs.
    """

    name: str
    p: float
    least_p: float


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return float(np.median(values))


def spread(values: Sequence[float]) -> Spread:
    """Return a sample's median and an interval for it.

    The interval is between order statistics, so that no shape of the values is assumed (binomial
    distribution; Conover, Practical Nonparametric Statistics, 3.2).
    """
    ordered = sorted(values)
    n = len(ordered)
    cut = _at_most(np.cumsum([math.comb(n, k) / 2**n for k in range(n + 1)]), ALPHA)
    if cut == 0:
        return Spread(tuple(values), median(values), ordered[0], ordered[-1], None)
    outside = sum(math.comb(n, k) for k in range(cut)) / 2**n
    return Spread(
        tuple(values), median(values), ordered[cut - 1], ordered[n - cut], 1 - 2 * outside
    )


def compare_samples(a: Sequence[float], b: Sequence[float]) -> Test:
    """Test two independent samples (Mann-Whitney U, exact for few runs, ties included)."""
    n, m = len(a), len(b)
    ranks = _doubled_ranks(np.asarray([*a, *b], float))
    found = int(ranks[:n].sum())
    if n + m <= _MOST_EXACT:
        p = _tail(_rank_sums(tuple(sorted(ranks.tolist())), n), found)
    else:
        ties = _ties(ranks) / ((n + m) * (n + m - 1))
        deviation = math.sqrt(n * m / 12 * (n + m + 1 - ties))
        p = _normal(found / 2 - n * (n + m + 1) / 2, deviation)
    return Test("Mann-Whitney", p, 1 / math.comb(n + m, n))


@dataclass(frozen=True)
class Shift:
    """How far b lies above a.

    Attributes:
        middle: the median of all differences between a run of b and one of a (Hodges and Lehmann
            1963).
        low, high: the differences that the test does not reject: each end is wrong with a
            probability of at most alpha. None with too few runs for any such interval.
    """

    middle: float
    low: float | None
    high: float | None


def shift(a: Sequence[float], b: Sequence[float], *, alpha: float = ALPHA) -> Shift:
    """Return how far b lies above a, and between which differences."""
    first, second = np.asarray(a, float), np.asarray(b, float)
    differences = np.sort((second[:, None] - first).ravel())
    middle = float(np.median(differences))
    edge = _rank_edge(len(first), len(second), alpha)
    if edge == 0:
        return Shift(middle, None, None)
    return Shift(middle, float(differences[edge - 1]), float(differences[-edge]))


@dataclass(frozen=True)
class Drift:
    """What values do from run to run, on both sides.

    Attributes:
        slope: the median change from one run to the next (Theil 1950, Sen 1968).
        p: probability of values as ordered as these, in the direction they are, if none drift
            (Kendall's S of both sides together).
    """

    slope: float
    p: float


def drift(a: Sequence[float], b: Sequence[float]) -> Drift:
    """Return how values drift within two sides, each in the order of its runs.

    With fewer than two runs on a side nothing drifts.
    """
    slopes: list[Values] = []
    score, variance = 0.0, 0.0
    for side in (a, b):
        values, n = np.asarray(side, float), len(side)
        before, after = np.triu_indices(n, 1)
        steps = values[after] - values[before]
        slopes.append(steps / (after - before))
        score += float(np.sign(steps).sum())
        variance += n * (n - 1) * (2 * n + 5) / 18
    if not variance:
        return Drift(0.0, 1.0)
    p = math.erfc(max(abs(score) - 1, 0.0) / math.sqrt(2 * variance)) / 2
    return Drift(float(np.median(np.concatenate(slopes))), p)


def steps(values: Sequence[float], size: float) -> dict[int, int] | None:
    """Return how many values stand on which step of a stair whose steps are ``size`` high.

    Peaks do where it is a race how many copies of a payload are alive at once. What is beside the
    copies is the same in every run, but for a little. None if the values are on no such stair:
    what is left of them beside whole steps lies so close together in at most 5 of 100 samples that
    know nothing of steps. Of two values it would have to be a fortieth of a step.

    Returns:
        Number of the step, from the lowest, to number of values on it; all may be on one.
    """
    parts = np.asarray(values, float) / size
    beside = np.sort(parts % 1.0)
    # They lie on a circle; the arc that holds them all is what the widest gap leaves.
    gaps = np.diff(beside, append=beside[0] + 1.0)
    widest = int(gaps.argmax())
    arc = 1.0 - float(gaps[widest])
    if arc > _WIDEST_STEP or len(beside) * arc ** (len(beside) - 1) > ALPHA:
        return None
    offset = (float(beside[(widest + 1) % len(beside)]) + arc / 2) % 1.0
    # A little less than a whole step is that step, and not one less with much beside it.
    offset -= float(offset > 1 - _WIDEST_STEP / 2)
    on = np.rint(parts - offset).astype(int)
    return dict(sorted(Counter(on.tolist()).items()))


def detectable_difference(
    a: Sequence[float], b: Sequence[float], *, alpha: float = ALPHA
) -> float | None:
    """Return the smallest difference that so many runs would show in 4 of 5 such comparisons.

    The power of the t test at the spread the runs have (non-central t distribution), with the
    number of runs counted at 3/pi: the efficiency of rank tests against it (Lehmann 1975). None
    where there are fewer than two runs on a side.
    """
    if min(len(a), len(b)) < 2:
        return None
    deviation = _deviation(a, b)
    return 0.0 if not deviation else deviation * _detectable(len(a), len(b), alpha)


def runs_needed(
    a: Sequence[float], b: Sequence[float], difference: float, *, alpha: float = ALPHA
) -> int | None:
    """Return how many runs on each side would show a difference in 4 of 5 comparisons.

    At the spread that the runs have. None where there are fewer than two on a side, or where it
    would take more than 1,000.
    """
    if min(len(a), len(b)) < 2 or difference <= 0:
        return None
    deviation = _deviation(a, b)
    # At least as many as if the spread were known: a normal distribution's quantiles are below t's.
    quantiles = _NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(POWER)
    least = 2 * math.pi / 3 * (deviation * quantiles / difference) ** 2
    if least > _MOST_RUNS:
        return None
    runs = max(least_runs(alpha), math.floor(least))
    while deviation * _detectable(runs, runs, alpha) > difference:
        # Steps of a tenth: nobody counts 212 runs.
        runs += max(1, runs // 10)
        if runs > _MOST_RUNS:
            return None
    return runs


def least_runs(alpha: float = ALPHA) -> int:
    """Return how many runs on each side a rank test needs for a p of at most ``alpha``."""
    runs = 1
    while 1 / math.comb(2 * runs, runs) > alpha:
        runs += 1
    return runs


def _deviation(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the standard deviation of a run, pooled."""
    n, m = len(a), len(b)
    squares = (n - 1) * float(np.var(a, ddof=1)) + (m - 1) * float(np.var(b, ddof=1))
    return math.sqrt(squares / (n + m - 2))


@cache
def _detectable(n: int, m: int, alpha: float) -> float:
    """Return the detectable difference in standard deviations."""
    return _shift(n + m - 2, alpha) / math.sqrt(3 / math.pi * n * m / (n + m))


def _at_most(cumulated: Values, alpha: float) -> int:
    """Return how many of the first chances are together at most ``alpha``."""
    # Sums of exact fractions: what is lost in adding them must not decide.
    return int(np.searchsorted(cumulated, alpha * (1 + 1e-9), side="right"))


@cache
def _rank_edge(n: int, m: int, alpha: float) -> int:
    """Return which difference from the outside ends the interval; 0 if there are too few."""
    if n + m > _MOST_EXACT:
        deviation = math.sqrt(n * m * (n + m + 1) / 12)
        return max(0, math.floor(n * m / 2 + _NORMAL.inv_cdf(alpha) * deviation))
    ways = _rank_sums(tuple(range(2, 2 * (n + m) + 1, 2)), n)
    possible = ways[n * (n + 1) :: 2]
    return _at_most(np.cumsum(possible / possible.sum()), alpha)


def _doubled_ranks(values: Values) -> npt.NDArray[np.int64]:
    """Return each value's rank from 1, equal ones their mean; twice that, to be whole numbers."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    doubled: npt.NDArray[np.int64] = (2 * last - counts + 1)[place]
    return doubled


def _ties(ranks: npt.NDArray[np.int64]) -> float:
    """Return the sum of t^3 - t over the groups of t equal values."""
    _, counts = np.unique(ranks, return_counts=True)
    return float((counts.astype(float) ** 3 - counts).sum())


# Ties make others of them; most samples have none.
@lru_cache(maxsize=1024)
def _rank_sums(ranks: tuple[int, ...], n: int) -> Values:
    """Return how many choices of n of the ranks have which sum."""
    ways = np.zeros((n + 1, sum(ranks) + 1))
    ways[0, 0] = 1
    for rank in ranks:
        # The right side is made before the left side changes.
        ways[1:, rank:] += ways[:-1, : ways.shape[1] - rank]
    found: Values = ways[n]
    return found


def _tail(ways: Values, found: int) -> float:
    """Return how much of all that could have been found is as far out, on the found side."""
    below, above = ways[: found + 1].sum(), ways[found:].sum()
    return min(1.0, float(min(below, above) / ways.sum()))


def _normal(distance: float, deviation: float) -> float:
    """Return the normal tail beyond a distance, with the correction for whole numbers."""
    if not deviation:
        return 1.0
    return min(1.0, math.erfc((abs(distance) - 0.5) / deviation / math.sqrt(2)) / 2)


@cache
def _shift(freedom: int, alpha: float) -> float:
    """Return the shift, in standard errors, that a one-sided t test finds with ``POWER``."""
    edge = _falling(lambda t: _t_above(t, freedom, 0.0), alpha)
    return -_falling(lambda s: _t_above(edge, freedom, -s), POWER, low=-1e4, high=0.0)


def _falling(
    function: Callable[[float], float], wanted: float, low: float = 0.0, high: float = 1e6
) -> float:
    """Return where a function that only falls has a value, by halving."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > wanted else (low, middle)
    return (low + high) / 2


def _t_above(edge: float, freedom: int, shift: float) -> float:
    """Return how probable it is that a t statistic, whose mean is shifted, lies above an edge.

    The mean of a normal distribution's tail over all standard deviations that a sample can have.
    """
    return sum(
        weight * _NORMAL.cdf(shift - edge * deviation) for deviation, weight in _deviations(freedom)
    )


@cache
def _deviations(freedom: int) -> list[tuple[float, float]]:
    """Return the standard deviations of samples from a unit normal distribution, and weights.

    Evenly spaced on the logarithm of the deviation: the density is smooth there and falls to
    nothing on both sides, for one degree of freedom too, so that their plain sum is the integral.
    """
    width = 8 / math.sqrt(2 * freedom)
    logs = np.linspace(
        math.log(1e-8) / freedom - width,
        min(width, math.log(9)),
        _NODES if freedom > 2 else _NODES_OF_FEW,
    )
    half = freedom / 2
    density = freedom * logs - half * np.exp(2 * logs) + half * math.log(half) - math.lgamma(half)
    mass = 2 * np.exp(density) * (logs[1] - logs[0])
    return list(zip(np.exp(logs).tolist(), mass.tolist(), strict=True))
