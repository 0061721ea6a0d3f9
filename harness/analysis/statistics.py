"""Statistics of few runs, with what they mean for so few.

Every function takes one value for each run. Nothing here knows what is better. The tests hold the
figures against SciPy's, which is too large to be installed for four functions.

The smallest difference that a number of repetitions can tell from chance.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

CONFIDENCE = 0.95
POWER = 0.8
_RESAMPLES = 4999
_SEED = 20240328
# Up to this many runs the tests count all ways in which chance could have dealt the ranks.
_MOST_EXACT = 60
_NODES = 1500
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Spread:
    """A sample and what is known of its median.

    Attributes:
        values: one for each run.
        median: theirs.
        low, high: 95 % confidence interval of the median by bootstrap (percentile method); with
            fewer than two values there is none.
    """

    values: tuple[float, ...]
    median: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Test:
    """A test of whether two sides differ.

    Attributes:
        name: ``Mann-Whitney``, or ``Wilcoxon`` for pairs.
        p: probability of a difference like this or larger if there is none; two-sided.
        least_p: the smallest that any values could have given with so many runs.
    """

    name: str
    p: float
    least_p: float


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return float(np.median(values))


def spread(values: Sequence[float]) -> Spread:
    """Return a sample's median with its bootstrap confidence interval."""
    middle = median(values)
    if len(values) < 2:
        return Spread(tuple(values), middle, None, None)
    if min(values) == max(values):
        return Spread(tuple(values), middle, middle, middle)
    sample = np.asarray(values, float)
    low, high = _interval(np.median(_resampled(sample, _rng()), axis=-1))
    return Spread(tuple(values), middle, low, high)


def difference_interval(
    a: Sequence[float], b: Sequence[float], *, paired: bool
) -> tuple[float, float] | None:
    """Return a 95 % bootstrap confidence interval of how far b's median lies above a's.

    For pairs, of the median of their differences. None with fewer than two values on a side.
    """
    if min(len(a), len(b)) < 2:
        return None
    first, second = np.asarray(a, float), np.asarray(b, float)
    rng = _rng()
    if paired:
        return _interval(np.median(_resampled(second - first, rng), axis=-1))
    left, right = (np.median(_resampled(side, rng), axis=-1) for side in (first, second))
    return _interval(right - left)


def _rng() -> np.random.Generator:
    return np.random.default_rng(_SEED)


def _resampled(values: Values, rng: np.random.Generator) -> Values:
    """Return the values as they might have come out, a row for each time."""
    return values[rng.integers(0, len(values), (_RESAMPLES, len(values)))]


def _interval(medians: Values) -> tuple[float, float]:
    """Return between which values the middle ``CONFIDENCE`` of them lies."""
    out = (1 - CONFIDENCE) / 2
    low, high = np.quantile(medians, [out, 1 - out])
    return float(low), float(high)


def compare_samples(a: Sequence[float], b: Sequence[float]) -> Test:
    """Test two independent samples (Mann-Whitney U, exact for few runs, ties included)."""
    ways = math.comb(len(a) + len(b), len(a))
    ranks = _doubled_ranks(np.asarray([*a, *b], float))
    found, n, m = int(ranks[: len(a)].sum()), len(a), len(b)
    if n + m <= _MOST_EXACT:
        p = _two_sided(_sums(ranks, n)[n], found)
    else:
        ties = _ties(ranks) / ((n + m) * (n + m - 1))
        deviation = math.sqrt(n * m / 12 * (n + m + 1 - ties))
        p = _normal(found / 2 - n * (n + m + 1) / 2, deviation, correction=0.5)
    return Test("Mann-Whitney", p, min(1.0, 2 / ways))


def compare_pairs(a: Sequence[float], b: Sequence[float]) -> Test:
    """Test pairs of runs (Wilcoxon signed ranks, exact for few pairs)."""
    differences = np.asarray(b, float) - np.asarray(a, float)
    least = min(1.0, 2.0 ** (1 - len(differences)))
    if not differences.any():
        return Test("Wilcoxon", 1.0, least)
    # Pairs without a difference say nothing about its sign.
    signed = differences[differences != 0]
    ranks = _doubled_ranks(np.abs(signed))
    found, n = int(ranks[signed > 0].sum()), len(signed)
    if n <= _MOST_EXACT:
        p = _two_sided(_sums(ranks, n).sum(axis=0), found)
    else:
        deviation = math.sqrt(n * (n + 1) * (2 * n + 1) / 24 - _ties(ranks) / 48)
        p = _normal(found / 2 - n * (n + 1) / 4, deviation)
    return Test("Wilcoxon", p, least)


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


def _sums(ranks: npt.NDArray[np.int64], most: int) -> Values:
    """Return how many choices of n of the ranks have which sum, at [n, sum], n up to ``most``."""
    ways = np.zeros((most + 1, int(ranks.sum()) + 1))
    ways[0, 0] = 1
    for rank in ranks.tolist():
        # The right side is made before the left side changes.
        ways[1:, rank:] += ways[:-1, : ways.shape[1] - rank]
    return ways


def _two_sided(ways: Values, found: int) -> float:
    """Return how much of all that could have been found is as far out, on either side."""
    below, above = ways[: found + 1].sum(), ways[found:].sum()
    return min(1.0, float(2 * min(below, above) / ways.sum()))


def _normal(distance: float, deviation: float, correction: float = 0.0) -> float:
    if not deviation:
        return 1.0
    return min(1.0, math.erfc((abs(distance) - correction) / deviation / math.sqrt(2)))


def detectable_difference(
    a: Sequence[float], b: Sequence[float], *, paired: bool, alpha: float
) -> float | None:
    """Return the smallest difference that so many runs would show in 4 of 5 such comparisons.

    The power of the t test at the spread the runs have (non-central t distribution), with the
    number of runs counted at 3/pi: the efficiency of rank tests against it (Lehmann 1975). None
    where there are fewer than two runs on a side.
    """
    if min(len(a), len(b)) < 2:
        return None
    first, second = np.asarray(a, float), np.asarray(b, float)
    efficiency = 3 / math.pi
    if paired:
        n = len(first)
        freedom, deviation, scale = n - 1, float(np.std(second - first, ddof=1)), float(n)
    else:
        n, m = len(first), len(second)
        freedom, scale = n + m - 2, n * m / (n + m)
        variance = ((n - 1) * np.var(first, ddof=1) + (m - 1) * np.var(second, ddof=1)) / freedom
        deviation = math.sqrt(float(variance))
    if not deviation:
        return 0.0
    return deviation / math.sqrt(efficiency * scale) * _shift(freedom, alpha)


@cache
def _shift(freedom: int, alpha: float) -> float:
    """Return the shift, in standard errors, that a two-sided t test finds with ``POWER``."""
    edge = _falling(lambda t: _t_above(t, freedom, 0.0), alpha / 2)
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
    logs = np.linspace(math.log(1e-8) / freedom - width, min(width, math.log(9)), _NODES)
    half = freedom / 2
    density = freedom * logs - half * np.exp(2 * logs) + half * math.log(half) - math.lgamma(half)
    mass = 2 * np.exp(density) * (logs[1] - logs[0])
    return list(zip(np.exp(logs).tolist(), mass.tolist(), strict=True))


SIGNIFICANCE = 0.05
_POWER = 0.8


def t_quantile(probability: float, degrees: int) -> float:
    """Return a quantile of Student's t distribution.

    Asymptotic expansion in the normal quantile, Abramowitz & Stegun 26.7.5; off by less than
    0.5 % from 4 degrees of freedom on.
    """
    z = statistics.NormalDist().inv_cdf(probability)
    n = degrees
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )


@dataclass(frozen=True)
class Detectable:
    """What an A/A plan says about comparing two means.

    Attributes:
        repeats: runs on each side.
        mean_a, mean_b: the two means, in the figure's own unit; nothing differs but the time.
        difference_percent: of the second from the first, in percent of the first.
        deviation: pooled standard deviation of one run.
        smallest: difference of means found in 8 of 10 cases at 5 % false alarms.
        smallest_percent: the same in percent of the first mean.
    """

    repeats: int
    mean_a: float
    mean_b: float
    difference_percent: float
    deviation: float
    smallest: float
    smallest_percent: float

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for a JSON file."""
        return asdict(self) | {"significance": SIGNIFICANCE, "power": _POWER}


def detectable(a: Sequence[float], b: Sequence[float]) -> Detectable:
    """Return the smallest difference that as many repetitions can detect.

    Two-sample t test with equal variances: (t(1 - alpha/2) + t(power)) s sqrt(2 / n), for 2 n - 2
    degrees of freedom.

    Raises:
        ValueError: for fewer than three on a side, or unequal numbers.
    """
    n = len(a)
    if n < 3 or len(b) != n:
        raise ValueError(f"an A/A plan needs as many on both sides, at least 3: {n} and {len(b)}")
    deviation = math.sqrt((statistics.variance(a) + statistics.variance(b)) / 2)
    degrees = 2 * n - 2
    factor = t_quantile(1 - SIGNIFICANCE / 2, degrees) + t_quantile(_POWER, degrees)
    smallest = factor * deviation * math.sqrt(2 / n)
    mean_a, mean_b = statistics.fmean(a), statistics.fmean(b)
    scale = 100 / mean_a if mean_a else math.nan
    return Detectable(
        repeats=n,
        mean_a=mean_a,
        mean_b=mean_b,
        difference_percent=(mean_b - mean_a) * scale,
        deviation=deviation,
        smallest=smallest,
        smallest_percent=smallest * scale,
    )
