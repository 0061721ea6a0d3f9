from __future__ import annotations

import numpy as np
import pytest

from harness.analysis.thin import thin, thin_together


@pytest.mark.parametrize("seed", range(8))
def test_the_highest_and_lowest_value_are_kept_however_short(seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = rng.normal(100, 1, 100_000)
    peak, trough = rng.choice(len(levels), 2, replace=False)
    levels[peak], levels[trough] = 1000, -1000
    kept = thin(levels, 500)
    assert len(kept) <= 510
    assert {int(peak), int(trough)} <= set(kept.tolist())


def test_every_stretch_keeps_its_own_peak() -> None:
    levels = np.zeros(100_000)
    peaks = np.arange(500, 100_000, 1000)
    levels[peaks] = np.arange(1, len(peaks) + 1)
    assert set(peaks.tolist()) <= set(thin(levels, 400).tolist())


def test_the_ends_are_kept_and_the_order() -> None:
    kept = thin(np.sin(np.arange(50_000) / 100), 200)
    assert (kept[0], kept[-1]) == (0, 49_999)
    assert (np.diff(kept) > 0).all()


def test_few_values_stay_as_they_are() -> None:
    assert thin(np.asarray([3.0, 1.0, 2.0]), 100).tolist() == [0, 1, 2]
    assert len(thin(np.asarray([np.nan, np.nan]), 100)) == 0


def test_a_gap_stays_a_gap() -> None:
    levels = np.ones(10_000)
    levels[4000:6000] = np.nan
    drawn = levels[thin(levels, 100)]
    assert np.isnan(drawn).sum() == 1
    assert not np.isnan(drawn[[0, -1]]).any()


def test_a_stack_keeps_the_peaks_of_each_of_its_series() -> None:
    first, second = np.zeros(50_000), np.zeros(50_000)
    first[12_345], second[34_567] = 9, 9
    kept = set(thin_together([first, second], 400).tolist())
    assert {12_345, 34_567} <= kept
