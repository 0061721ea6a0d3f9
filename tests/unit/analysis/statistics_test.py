from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.statistics import (
    POWER,
    _shift,
    compare_pairs,
    compare_samples,
    detectable_difference,
    difference_interval,
    spread,
)


def test_a_medians_interval_holds_it_and_is_always_the_same() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 6.0]
    first, again = spread(values), spread(values)
    assert first == again
    assert first.median == 4
    assert first.low is not None
    assert first.high is not None
    assert 1 <= first.low <= 4 <= first.high <= 9


def test_one_run_has_no_interval_and_equal_runs_have_an_empty_one() -> None:
    assert (spread([3.0]).low, spread([3.0]).high) == (None, None)
    assert (spread([3.0, 3.0]).low, spread([3.0, 3.0]).high) == (3, 3)
    assert difference_interval([1.0], [2.0, 3.0], paired=False) is None
    assert difference_interval([1.0, 1.0], [3.0, 3.0], paired=False) == (2, 2)


@pytest.mark.parametrize("runs", [3, 4, 5, 6])
def test_complete_separation_has_the_least_p(runs: int) -> None:
    test = compare_samples(list(range(runs)), list(range(10, 10 + runs)))
    assert test.p == pytest.approx(test.least_p)
    assert test.least_p == pytest.approx(2 / [0, 0, 0, 20, 70, 252, 924][runs])


def test_mann_whitney_is_scipys_exact_one() -> None:
    a, b = [1.0, 4.0, 6.0, 8.0, 9.5], [2.0, 3.0, 7.0, 11.0, 12.0, 13.0]
    exact = stats.mannwhitneyu(a, b, method="exact").pvalue
    assert compare_samples(a, b).p == pytest.approx(exact)


def test_equal_values_differ_in_nothing() -> None:
    assert compare_samples([1.0] * 5, [1.0] * 5).p == 1
    assert compare_pairs([1.0] * 8, [1.0] * 8).p == 1


def test_pairs_see_what_a_drift_hides() -> None:
    drift = np.arange(8) * 100.0
    a, b = drift.tolist(), (drift + 10 + np.arange(8)).tolist()
    assert compare_samples(a, b).p > 0.5
    assert compare_pairs(a, b).p == pytest.approx(2 / 2**8)
    low, high = difference_interval(a, b, paired=True) or (0, 0)
    assert 10 <= low <= high <= 17


def test_the_detectable_difference_is_seen_in_four_of_five_comparisons() -> None:
    rng = np.random.default_rng(7)
    runs, alpha = 8, 0.05
    model = rng.normal(100, 3, (2, 4000))
    deviation = float(np.std(model, ddof=1))
    # The same spread in the sample as in what is drawn below.
    sample = (stats.zscore(rng.normal(size=runs), ddof=1) * deviation + 100).tolist()
    shift = detectable_difference(sample, sample, paired=False, alpha=alpha)
    assert shift is not None
    found = stats.mannwhitneyu(
        rng.normal(100, deviation, (1000, runs)),
        rng.normal(100 + shift, deviation, (1000, runs)),
        axis=1,
        method="asymptotic",
    ).pvalue
    assert 0.7 < float((found <= alpha).mean()) < 0.9


def test_the_detectable_difference_shrinks_with_runs_and_grows_with_spread() -> None:
    few, many = [1.0, 2.0, 3.0], [1.0, 2.0, 3.0] * 4
    assert _seen(few) > _seen(many) > 0
    assert _seen([10 * v for v in few]) == pytest.approx(10 * _seen(few))
    assert _seen([5.0, 5.0, 5.0]) == 0
    assert detectable_difference([1.0], [1.0], paired=False, alpha=0.05) is None


def _seen(values: list[float]) -> float:
    found = detectable_difference(values, values, paired=False, alpha=0.05)
    assert found is not None
    return found


TIED = st.lists(st.integers(0, 9).map(float), min_size=2, max_size=7)


@given(TIED, TIED)
@settings(deadline=None, max_examples=30)
def test_mann_whitney_counts_what_scipy_counts_ties_included(
    a: list[float], b: list[float]
) -> None:
    exact = stats.PermutationMethod(n_resamples=10**6)
    assert compare_samples(a, b).p == pytest.approx(stats.mannwhitneyu(a, b, method=exact).pvalue)


@given(st.lists(st.integers(-9, 9).map(float), min_size=2, max_size=10))
@settings(deadline=None, max_examples=30)
def test_wilcoxon_counts_ties_as_scipy_does(differences: list[float]) -> None:
    if any(differences):
        exact = stats.wilcoxon(differences, method=stats.PermutationMethod(n_resamples=10**6))
        found = compare_pairs([0.0] * len(differences), differences)
        assert found.p == pytest.approx(exact.pvalue)


def test_many_runs_are_tested_as_scipy_does() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 50, (2, 80)).astype(float)
    assert compare_samples(a.tolist(), b.tolist()).p == pytest.approx(
        stats.mannwhitneyu(a, b, method="asymptotic").pvalue
    )
    assert compare_pairs(a.tolist(), b.tolist()).p == pytest.approx(
        stats.wilcoxon(b - a, method="asymptotic").pvalue
    )


def test_intervals_are_scipys_percentile_bootstrap() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 6.0]
    found = stats.bootstrap(
        (np.asarray(values),),
        np.median,
        n_resamples=4999,
        method="percentile",
        rng=np.random.default_rng(20240328),
    ).confidence_interval
    assert (spread(values).low, spread(values).high) == pytest.approx((found.low, found.high))


@pytest.mark.parametrize("freedom", [1, 2, 3, 8, 58, 400])
@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_a_shift_is_found_with_the_stated_power(freedom: int, alpha: float) -> None:
    edge = stats.t.ppf(1 - alpha / 2, freedom)
    assert stats.nct.sf(edge, freedom, _shift(freedom, alpha)) == pytest.approx(POWER, rel=1e-3)
