from __future__ import annotations

import random
import re

import pytest

from harness.analysis import verdicts
from harness.analysis.verdicts import (
    Comparison,
    Order,
    Rules,
    Sides,
    Verdict,
    compare_all,
    order_of,
)


def compare(
    a: list[float],
    b: list[float],
    rules: Rules | None = None,
    floor: float = 0.0,
    order: Order = Order.MIXED,
) -> Comparison:
    return verdicts.compare(Sides(a, b, floor, order), rules)


STEADY = [100.0, 100.4, 99.8, 100.2, 99.9]


def shifted(values: list[float], by: float) -> list[float]:
    return [value + by for value in values]


def test_less_is_better_and_more_is_worse() -> None:
    assert compare(STEADY, shifted(STEADY, 20)).verdict is Verdict.WORSE
    assert compare(STEADY, shifted(STEADY, -20)).verdict is Verdict.BETTER


def test_the_same_runs_are_equivalent() -> None:
    found = compare(STEADY, list(reversed(STEADY)))
    assert found.verdict is Verdict.EQUIVALENT
    assert found.detectable is not None
    assert found.detectable < 5


def test_a_difference_within_the_threshold_is_equivalent_however_significant() -> None:
    found = compare(STEADY, shifted(STEADY, 2))
    assert found.test.p < 0.05
    assert found.verdict is Verdict.EQUIVALENT
    assert compare(STEADY, shifted(STEADY, 2), rules=Rules(threshold=0.01)).verdict is Verdict.WORSE


def test_a_difference_that_is_real_but_may_be_within_the_threshold_is_undecided() -> None:
    wide = [98.0, 99.0, 100.0, 101.0, 102.0]
    found = compare(wide, shifted(wide, 4.5))
    assert found.test.p < 0.05
    assert found.verdict is Verdict.UNDECIDED
    assert found.high is not None
    assert found.high > found.matters
    # What it would take is what would do: a threshold that the interval lies within.
    said = re.search(r"a threshold of ([0-9.]+) %$", found.needs)
    assert said is not None
    enough = Rules(threshold=float(said[1]) / 100)
    assert compare(wide, shifted(wide, 4.5), rules=enough).verdict is Verdict.EQUIVALENT


def test_what_lies_below_the_resolution_is_too_small_to_measure() -> None:
    tiny = [1.0, 1.1, 0.9, 1.05, 0.95]
    assert compare(tiny, shifted(tiny, 3)).verdict is Verdict.WORSE
    # The figures themselves, or the difference of two that are large enough.
    assert compare(tiny, shifted(tiny, 3), floor=5).verdict is Verdict.TOO_SMALL
    assert compare(STEADY, shifted(STEADY, 8), floor=10).verdict is Verdict.TOO_SMALL
    assert compare(STEADY, shifted(STEADY, 12), floor=10).verdict is Verdict.WORSE


def test_three_runs_that_lie_apart_are_an_answer_with_its_chance() -> None:
    found = compare(STEADY[:3], shifted(STEADY[:3], 20))
    assert found.verdict is Verdict.WORSE
    assert found.test.p == pytest.approx(1 / 20)
    assert found.low == pytest.approx(19.4)
    assert found.high == pytest.approx(20.6)
    # One run of B below one of A, and the chance is no longer small enough.
    assert compare(STEADY[:3], [100.3, 120, 121]).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize(("runs", "more"), [(1, "2 more runs of each"), (2, "1 more run of each")])
def test_one_or_two_runs_are_never_enough_however_far_apart(runs: int, more: str) -> None:
    found = compare(STEADY[:runs], shifted(STEADY[:runs], 1000))
    assert (found.verdict, found.needs) == (Verdict.UNDECIDED, more)
    assert found.low is None


def test_runs_too_noisy_to_show_the_threshold_are_undecided_and_say_what_it_takes() -> None:
    noisy = [60.0, 140.0, 95.0, 120.0, 80.0]
    found = compare(noisy, [70.0, 145.0, 90.0, 110.0, 75.0])
    assert found.verdict is Verdict.UNDECIDED
    assert found.detectable is not None
    assert found.detectable > found.matters
    assert re.fullmatch(r"\d+ more runs of each or a threshold of \d+ %", found.needs)


def test_no_spread_at_all_is_an_answer() -> None:
    assert compare([0.0] * 5, [0.0] * 5).verdict is Verdict.EQUIVALENT
    assert compare([0.0] * 5, [2.0] * 5, floor=1).verdict is Verdict.WORSE


def test_a_family_of_many_comparisons_asks_more_of_each() -> None:
    # Ranks of five against five say 1 in 126 at this order of values, which among 20 is no rarity.
    a, b = [100.0, 101, 102, 103, 104], [103.5, 105.5, 109, 110, 112]
    alone = compare(a, b)
    assert alone.verdict is Verdict.WORSE
    equal = Sides(STEADY, STEADY)
    among = compare_all([Sides(a, b), *[equal] * 19])[0]
    assert among.test.p == alone.test.p
    assert among.p == pytest.approx(20 * alone.p)
    assert among.verdict is Verdict.UNDECIDED


def test_sides_far_apart_are_an_answer_in_a_large_family() -> None:
    equal = Sides(STEADY, STEADY)
    far = Sides(STEADY, shifted(STEADY, 200))
    assert compare_all([far, *[equal] * 49])[0].verdict is Verdict.WORSE
    # Of more rows, one may be all in one hump here and all in another there.
    assert compare_all([far, *[equal] * 99])[0].verdict is Verdict.UNDECIDED
    # As far apart as chance alone makes one of fifty: no answer.
    near = Sides(STEADY, shifted(STEADY, 0.7))
    assert compare_all([near, *[equal] * 49], Rules(threshold=0))[0].verdict is Verdict.UNDECIDED


def test_no_verdict_stands_beside_figures_that_contradict_it() -> None:
    chance = random.Random(5)
    for _ in range(300):
        runs = chance.randint(2, 9)
        a = [chance.choice([100.0, 140.0]) + chance.gauss(0, 3) for _ in range(runs)]
        b = [chance.choice([100.0, 140.0]) + chance.gauss(4, 3) for _ in range(runs)]
        found = compare(a, b)
        if found.low is None or found.high is None:
            assert found.verdict is Verdict.UNDECIDED
            continue
        assert found.low <= found.difference <= found.high
        if found.verdict is Verdict.EQUIVALENT:
            assert max(abs(found.low), abs(found.high)) <= found.matters
        if found.verdict is Verdict.WORSE:
            assert found.low > 0
            assert found.difference > found.matters


def test_the_change_is_relative_where_that_has_a_meaning() -> None:
    assert compare(STEADY, shifted(STEADY, 50)).change == pytest.approx(0.5)
    assert compare([0.0] * 4, [1.0] * 4).change is None
    assert compare([-5.0] * 4, [1.0] * 4, floor=1).change is None


def test_an_empty_side_is_an_error() -> None:
    with pytest.raises(ValueError, match="no runs"):
        compare([], [1.0])


def test_what_drifts_is_no_difference_of_sides_that_were_run_one_after_the_other() -> None:
    rising = [100.0, 101.2, 101.8, 103.1, 104.0]
    later = [value + 5 for value in rising]
    assert compare(rising, later, Rules(0.04)).verdict is Verdict.WORSE
    found = compare(rising, later, Rules(0.04), order=Order.A_FIRST)
    assert found.verdict is Verdict.UNDECIDED
    assert found.needs == "sides that take turns: the figures drift from run to run"
    # The other way round it stands against the drift, and far more than the drift stands.
    assert compare(rising, later, Rules(0.04), order=Order.B_FIRST).verdict is Verdict.WORSE
    more = [value + 30 for value in rising]
    assert compare(rising, more, Rules(0.04), order=Order.A_FIRST).verdict is Verdict.WORSE


def test_humps_are_compared_run_with_run_and_not_median_with_median() -> None:
    # A's median lies in the upper hump, B's in the lower, and yet B needs a tenth more.
    a = [100.0] * 9 + [150.0] * 11
    b = [110.0] * 11 + [165.0] * 9
    found = compare([v + n / 10 for n, v in enumerate(a)], [v + n / 10 for n, v in enumerate(b)])
    assert found.b.median < found.a.median
    assert found.grouped
    assert found.change is not None
    assert 8 < found.difference < 17
    assert not compare(STEADY, shifted(STEADY, 20)).grouped


@pytest.mark.parametrize(
    ("a", "b", "order"),
    [
        ([1, 3, 5], [2, 4, 6], Order.MIXED),
        ([1, 4, 5], [2, 3, 6], Order.MIXED),
        ([1, 2, 3], [4, 5, 6], Order.A_FIRST),
        ([4, 5, 6], [1, 2, 3], Order.B_FIRST),
        ([1, 3], [2, 4, 6], Order.MIXED),
        ([1, 2, 5], [3, 4, 6], Order.MIXED),
        ([1], [2], Order.MIXED),
        ([], [2], Order.MIXED),
    ],
)
def test_the_order_is_seen_in_the_times(a: list[int], b: list[int], order: Order) -> None:
    assert order_of(a, b) is order
