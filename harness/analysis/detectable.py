"""The smallest difference that a number of repetitions can tell from chance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

SIGNIFICANCE = 0.05
POWER = 0.8


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
        return asdict(self) | {"significance": SIGNIFICANCE, "power": POWER}


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
    factor = t_quantile(1 - SIGNIFICANCE / 2, degrees) + t_quantile(POWER, degrees)
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
