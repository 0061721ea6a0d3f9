"""How much of a run its samples cover: what a figure of memory must say of itself."""

from __future__ import annotations

from harness.analysis.series import Counts

MIN_COVERAGE = 0.9
"""Share of a run that samples must cover, or there is no figure of its memory."""


def coverage(counts: Counts, expected: int, ticks: int) -> float:
    """Return the share of some ticks at which all of the containers were read, 0 to 1.

    Args:
        counts: containers that were read, at each tick that was recorded.
        expected: how many there are.
        ticks: how many ticks there are, recorded or not.
    """
    if not expected or ticks <= 0:
        return 0.0
    return min(float((counts >= expected).sum()) / ticks, 1.0)
