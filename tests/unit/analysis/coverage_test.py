from __future__ import annotations

import numpy as np
import pytest

from harness.analysis.series import coverage


@pytest.mark.parametrize(
    ("counts", "expected", "ticks", "share"),
    [([2, 2, 2, 2], 2, 4, 1), ([2, 1, 2, 0], 2, 4, 0.5), ([1, 1], 1, 8, 0.25), ([], 0, 3, 0)],
)
def test_the_covered_share(counts: list[int], expected: int, ticks: int, share: float) -> None:
    assert coverage(np.asarray(counts, np.uint16), expected, ticks) == share
