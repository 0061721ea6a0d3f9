"""Statistics of few runs: what SciPy computes, with what it means for so few.

Every function takes one value for each run. Nothing here knows what is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

Values = npt.NDArray[np.float64]

CONFIDENCE = 0.95
POWER = 0.8
_RESAMPLES = 4999
_SEED = 20240328
# Up to this many ways to deal the values to two sides, the test counts them all.
_MOST_EXACT = 200_000


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
    found = stats.bootstrap(
        (np.asarray(values),),
        np.median,
        n_resamples=_RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return Spread(tuple(values), middle, float(found.low), float(found.high))


def difference_interval(
    a: Sequence[float], b: Sequence[float], *, paired: bool
) -> tuple[float, float] | None:
    """Return a 95 % bootstrap confidence interval of how far b's median lies above a's.

    For pairs, of the median of their differences. None with fewer than two values on a side.
    """
    if min(len(a), len(b)) < 2:
        return None

    def change(x: Values, y: Values, axis: int = -1) -> Values:
        if paired:
            return np.asarray(np.median(y - x, axis=axis))
        return np.asarray(np.median(y, axis=axis) - np.median(x, axis=axis))

    first, second = np.asarray(a, float), np.asarray(b, float)
    if _constant(second - first) if paired else _constant(first) and _constant(second):
        same = float(change(first, second))
        return same, same
    found = stats.bootstrap(
        (first, second),
        change,
        paired=paired,
        n_resamples=_RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def compare_samples(a: Sequence[float], b: Sequence[float]) -> Test:
    """Test two independent samples (Mann-Whitney U, exact for few runs, ties included)."""
    ways = math.comb(len(a) + len(b), len(a))
    method = stats.PermutationMethod(n_resamples=_MOST_EXACT) if ways <= _MOST_EXACT else "auto"
    if min(len(a), len(b)) < 2:
        method = "exact"  # SciPy permutes samples of at least two
    p = float(stats.mannwhitneyu(a, b, alternative="two-sided", method=method).pvalue)
    return Test("Mann-Whitney", p, min(1.0, 2 / ways))


def compare_pairs(a: Sequence[float], b: Sequence[float]) -> Test:
    """Test pairs of runs (Wilcoxon signed ranks, exact for few pairs)."""
    differences = np.asarray(b, float) - np.asarray(a, float)
    least = min(1.0, 2.0 ** (1 - len(differences)))
    if not differences.any():
        return Test("Wilcoxon", 1.0, least)
    few = len(differences) <= 13
    method = stats.PermutationMethod(n_resamples=2**13) if few else "auto"
    p = float(stats.wilcoxon(differences, alternative="two-sided", method=method).pvalue)
    return Test("Wilcoxon", p, least)


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


def _shift(freedom: int, alpha: float) -> float:
    """Return the shift, in standard errors, that a two-sided t test finds with ``POWER``."""
    edge = stats.t.ppf(1 - alpha / 2, freedom)
    return float(optimize.brentq(lambda s: stats.nct.sf(edge, freedom, s) - POWER, 0.0, 200.0))


def _constant(values: Values) -> bool:
    return bool((values == values[0]).all())
