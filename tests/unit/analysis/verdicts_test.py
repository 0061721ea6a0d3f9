from __future__ import annotations

import pytest

from harness.analysis.verdicts import Rules, Verdict, compare, interleaved

STEADY = [100.0, 100.4, 99.8, 100.2, 99.9]


def shifted(values: list[float], by: float) -> list[float]:
    return [value + by for value in values]


def test_less_is_better_and_more_is_worse() -> None:
    assert compare(STEADY, shifted(STEADY, 20)).verdict is Verdict.WORSE
    assert compare(STEADY, shifted(STEADY, -20)).verdict is Verdict.BETTER


def test_the_same_runs_are_indistinguishable() -> None:
    found = compare(STEADY, list(reversed(STEADY)))
    assert found.verdict is Verdict.INDISTINGUISHABLE
    assert found.detectable is not None
    assert found.detectable < 5


def test_a_difference_too_small_to_matter_is_none_however_significant() -> None:
    found = compare(STEADY, shifted(STEADY, 2))
    assert found.test.p < 0.05
    assert found.verdict is Verdict.INDISTINGUISHABLE
    assert compare(STEADY, shifted(STEADY, 2), rules=Rules(threshold=0.01)).verdict is Verdict.WORSE


def test_a_difference_below_the_resolution_never_matters() -> None:
    tiny = [1.0, 1.1, 0.9, 1.05, 0.95]
    assert compare(tiny, shifted(tiny, 3)).verdict is Verdict.WORSE
    assert compare(tiny, shifted(tiny, 3), floor=5).verdict is Verdict.INDISTINGUISHABLE


@pytest.mark.parametrize("runs", [1, 2, 3])
def test_three_runs_are_never_enough_however_far_apart(runs: int) -> None:
    found = compare(STEADY[:runs], shifted(STEADY[:runs], 1000))
    assert found.verdict is Verdict.NOT_ENOUGH_DATA
    assert found.test.least_p > 0.05


def test_runs_too_noisy_to_show_the_threshold_are_not_enough_data() -> None:
    noisy = [60.0, 140.0, 95.0, 120.0, 80.0]
    found = compare(noisy, [70.0, 145.0, 90.0, 110.0, 75.0])
    assert found.verdict is Verdict.NOT_ENOUGH_DATA
    assert found.detectable is not None
    assert found.detectable > found.matters


def test_no_spread_at_all_is_an_answer() -> None:
    assert compare([0.0] * 5, [0.0] * 5).verdict is Verdict.INDISTINGUISHABLE
    assert compare([0.0] * 5, [2.0] * 5, floor=1).verdict is Verdict.WORSE


def test_the_change_is_relative_where_that_has_a_meaning() -> None:
    assert compare(STEADY, shifted(STEADY, 50)).change == pytest.approx(0.5)
    assert compare([0.0] * 4, [1.0] * 4).change is None
    assert compare([-5.0] * 4, [1.0] * 4, floor=1).change is None


def test_runs_that_took_turns_are_compared_in_pairs() -> None:
    drift = [100.0, 120.0, 90.0, 150.0, 80.0, 130.0]
    after = [value + 20 + step for step, value in enumerate(drift)]
    assert compare(drift, after).verdict is Verdict.NOT_ENOUGH_DATA
    found = compare(drift, after, interleaved=True)
    assert (found.paired, found.verdict) == (True, Verdict.WORSE)
    assert found.difference == pytest.approx(22.5)


def test_five_pairs_are_too_few_for_the_paired_test_but_not_for_the_other() -> None:
    found = compare(STEADY, shifted(STEADY, 20), interleaved=True)
    assert (found.paired, found.verdict) == (False, Verdict.WORSE)


def test_an_empty_side_is_an_error() -> None:
    with pytest.raises(ValueError, match="no runs"):
        compare([], [1.0])


@pytest.mark.parametrize(
    ("a", "b", "took_turns"),
    [
        ([1, 3, 5], [2, 4, 6], True),
        ([1, 4, 5], [2, 3, 6], True),
        ([1, 2, 3], [4, 5, 6], False),
        ([1, 3], [2, 4, 6], False),
        ([1], [2], False),
    ],
)
def test_turns_are_seen_in_the_times(a: list[int], b: list[int], took_turns: bool) -> None:
    assert interleaved(a, b) is took_turns
