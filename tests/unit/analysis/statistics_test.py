from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.statistics import (
    POWER,
    Shift,
    _shift,
    compare_samples,
    detectable_difference,
    drift,
    least_runs,
    runs_needed,
    shift,
    spread,
    steps,
)


def test_an_interval_claims_what_it_covers_and_too_few_runs_claim_nothing() -> None:
    few = spread([5.0, 1.0, 4.0, 2.0])
    assert (few.low, few.median, few.high, few.confidence) == (1, 3, 5, None)
    five = spread([5.0, 1.0, 4.0, 2.0, 3.0])
    assert (five.low, five.high) == (1, 5)
    assert five.confidence == pytest.approx(0.9375)
    eight = spread([8.0, 1.0, 4.0, 2.0, 3.0, 5.0, 6.0, 7.0])
    assert (eight.low, eight.high) == (2, 7)
    assert eight.confidence == pytest.approx(1 - 2 * stats.binom.cdf(1, 8, 0.5))


@pytest.mark.parametrize("runs", [5, 8, 13, 30])
def test_a_medians_interval_covers_it_as_often_as_it_says(runs: int) -> None:
    rng = np.random.default_rng(11)
    drawn = rng.lognormal(0, 1, (2000, runs))
    spreads = [spread(row) for row in drawn.tolist()]
    covered = np.mean([each.low <= 1 <= each.high for each in spreads])
    assert spreads[0].confidence is not None
    assert spreads[0].confidence >= 0.9
    assert covered == pytest.approx(spreads[0].confidence, abs=0.025)


def test_too_few_runs_have_no_interval_of_their_difference() -> None:
    assert shift([1.0, 2.0], [2.0, 3.0]) == Shift(1, None, None)
    # All differences of three against three: chance leaves out one in twenty at either end.
    assert shift([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]) == Shift(3, 1, 5)
    assert shift([1.0] * 3, [3.0] * 3) == Shift(2, 2, 2)


def test_a_drift_is_kendalls_and_theils() -> None:
    rng = np.random.default_rng(4)
    a, b = (np.arange(9) * 0.4 + rng.normal(0, 1, 9) for _ in range(2))
    once = drift(a.tolist(), [])
    exact = stats.kendalltau(np.arange(9), a, alternative="greater", method="exact")
    assert once.slope == pytest.approx(stats.theilslopes(a).slope)
    assert once.p == pytest.approx(exact.pvalue, abs=0.01)
    # Both sides together see more than one.
    assert drift(a.tolist(), b.tolist()).p < min(once.p, drift([], b.tolist()).p)
    assert drift([1.0], [2.0]).p == 1


@pytest.mark.parametrize("runs", [3, 5, 8, 40])
def test_an_interval_of_a_difference_misses_it_in_at_most_5_of_100_at_each_end(runs: int) -> None:
    rng = np.random.default_rng(13)
    missed = np.zeros(2)
    for _ in range(1500):
        a, b = rng.exponential(1, (2, runs))
        found = shift(a.tolist(), (b + 2).tolist())
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.middle <= found.high
        missed += (found.low > 2, found.high < 2)
    assert (missed / 1500 <= 0.065).all()


def test_as_many_runs_are_needed_as_show_the_difference() -> None:
    values = [97.0, 99.0, 100.0, 101.0, 103.0]
    runs = runs_needed(values, values, 3.0)
    assert runs is not None
    assert runs > 5
    spread_of = float(np.std(values, ddof=1))
    rng = np.random.default_rng(2)
    found = stats.mannwhitneyu(
        rng.normal(0, spread_of, (2000, runs)),
        rng.normal(3, spread_of, (2000, runs)),
        axis=1,
        alternative="less",
        method="asymptotic",
    ).pvalue
    assert 0.75 < float((found <= 0.05).mean()) < 0.9
    assert runs_needed(values, values, 0.01) is None
    assert (least_runs(0.05), least_runs(0.01)) == (3, 5)


@pytest.mark.parametrize("runs", [3, 4, 5, 6])
def test_complete_separation_has_the_least_p(runs: int) -> None:
    test = compare_samples(list(range(runs)), list(range(10, 10 + runs)))
    assert test.p == pytest.approx(test.least_p)
    assert test.least_p == pytest.approx(1 / [0, 0, 0, 20, 70, 252, 924][runs])


def test_mann_whitney_is_scipys_exact_one() -> None:
    a, b = [1.0, 4.0, 6.0, 8.0, 9.5], [2.0, 3.0, 7.0, 11.0, 12.0, 13.0]
    exact = stats.mannwhitneyu(a, b, alternative="less", method="exact").pvalue
    assert compare_samples(a, b).p == pytest.approx(exact)


def test_equal_values_differ_in_nothing() -> None:
    assert compare_samples([1.0] * 5, [1.0] * 5).p == 1


def test_the_detectable_difference_is_seen_in_four_of_five_comparisons() -> None:
    rng = np.random.default_rng(7)
    runs, alpha = 8, 0.05
    model = rng.normal(100, 3, (2, 4000))
    deviation = float(np.std(model, ddof=1))
    # The same spread in the sample as in what is drawn below.
    sample = (stats.zscore(rng.normal(size=runs), ddof=1) * deviation + 100).tolist()
    seen = detectable_difference(sample, sample, alpha=alpha)
    assert seen is not None
    found = stats.mannwhitneyu(
        rng.normal(100, deviation, (1000, runs)),
        rng.normal(100 + seen, deviation, (1000, runs)),
        axis=1,
        alternative="less",
        method="asymptotic",
    ).pvalue
    assert 0.7 < float((found <= alpha).mean()) < 0.9


def test_the_detectable_difference_shrinks_with_runs_and_grows_with_spread() -> None:
    few, many = [1.0, 2.0, 3.0], [1.0, 2.0, 3.0] * 4
    assert _seen(few) > _seen(many) > 0
    assert _seen([10 * v for v in few]) == pytest.approx(10 * _seen(few))
    assert _seen([5.0, 5.0, 5.0]) == 0
    assert detectable_difference([1.0], [1.0], alpha=0.05) is None


def _seen(values: list[float]) -> float:
    found = detectable_difference(values, values, alpha=0.05)
    assert found is not None
    return found


TIED = st.lists(st.integers(0, 9).map(float), min_size=2, max_size=7)


@given(TIED, TIED)
@settings(deadline=None, max_examples=30)
def test_mann_whitney_counts_what_scipy_counts_ties_included(
    a: list[float], b: list[float]
) -> None:
    exact = stats.PermutationMethod(n_resamples=10**6)
    both = (
        stats.mannwhitneyu(a, b, alternative=side, method=exact).pvalue
        for side in ("less", "greater")
    )
    assert compare_samples(a, b).p == pytest.approx(min(both))


def test_many_runs_are_tested_as_scipy_does() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 50, (2, 80)).astype(float)
    assert compare_samples(a.tolist(), b.tolist()).p == pytest.approx(
        stats.mannwhitneyu(a, b, method="asymptotic").pvalue / 2
    )


@pytest.mark.parametrize("freedom", [1, 2, 3, 8, 58, 400])
@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_a_shift_is_found_with_the_stated_power(freedom: int, alpha: float) -> None:
    edge = stats.t.ppf(1 - alpha, freedom)
    assert stats.nct.sf(edge, freedom, _shift(freedom, alpha)) == pytest.approx(POWER, rel=1e-3)


@pytest.mark.parametrize(
    ("values", "size", "found"),
    [
        ([805, 1207, 1209, 1159], 50, {16: 1, 23: 1, 24: 2}),
        ([906, 1206, 1107, 1107], 50, {18: 1, 22: 2, 24: 1}),
        ([805, 1207, 1209, 1159], 100, None),
        ([906, 906, 1106, 1107, 906, 1106, 1106, 1106], 100, {9: 3, 11: 5}),
        # A little less than whole copies is no copy less.
        ([195, 295, 195, 295], 100, {2: 2, 3: 2}),
        ([602.0, 602.1, 602.1, 602.0], 100, {6: 4}),
        # Too few to tell, however they lie; three must lie within an eighth of a step.
        ([500.0], 100, None),
        ([500, 603], 100, None),
        ([500, 602], 100, {5: 1, 6: 1}),
        ([500, 612, 700], 100, {5: 1, 6: 1, 7: 1}),
        ([500, 613, 700], 100, None),
    ],
)
def test_values_on_the_steps_of_a_stair_are_counted(
    values: list[float], size: float, found: dict[int, int] | None
) -> None:
    assert steps(values, size) == found


@given(
    copies=st.lists(st.integers(0, 40), min_size=3, max_size=20),
    beside=st.floats(-0.15, 0.7),
    noise=st.floats(0, 0.03),
    size=st.sampled_from([1.5, 50e6, 100e6]),
)
def test_copies_are_counted_whatever_is_beside_them(
    copies: list[int], beside: float, noise: float, size: float
) -> None:
    values = [(n + beside + noise * (-1) ** place) * size for place, n in enumerate(copies)]
    assert steps(values, size) == dict(sorted(Counter(copies).items()))
    assert steps(values[::-1], size) == steps(values, size)


@pytest.mark.parametrize("runs", [2, 3, 4, 5, 8, 20])
def test_values_that_know_nothing_of_steps_are_rarely_on_them(runs: int) -> None:
    rng = np.random.default_rng(20261130)
    found = [steps(rng.normal(1000, 100, runs).tolist(), 50) for _ in range(2000)]
    assert sum(each is not None for each in found) <= 0.06 * 2000
