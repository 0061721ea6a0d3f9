from __future__ import annotations

import random
import statistics

import pytest

from harness.analysis.calibration import (
    CLAIMS,
    Check,
    Claim,
    Readings,
    agreement_bytes,
    check,
)
from harness.analysis.statistics import detectable, t_quantile
from harness.report.evidence import check_table
from harness.results.memory import TruthRow

MIB = 1 << 20
CLAIM = Claim("cgroup", "usage_bytes", "pulses", "", lambda t: t.size_bytes, "each")


def held(claim: Claim, values: dict[int, int], truth: list[TruthRow]) -> Check:
    found = check(claim, truth, Readings(list(values), list(values.values())), (0, 10))
    assert found is not None
    return found


def pulse(start: int) -> TruthRow:
    return TruthRow("pulses", "p", start, start + 10, 100 * MIB, 0, 1)


def test_a_claim_that_holds() -> None:
    found = held(CLAIM, {5: 7 * MIB, 25: 107 * MIB, 45: 107 * MIB}, [pulse(20), pulse(40)])
    assert (found.within, found.seen, found.off_percent) == (True, (2, 2), 0.0)


def test_a_pulse_that_was_missed_is_outside() -> None:
    found = held(CLAIM, {5: 7 * MIB, 25: 107 * MIB}, [pulse(20), pulse(40)])
    assert (found.within, found.seen, found.shown_bytes) == (False, (1, 2), None)
    assert "OUTSIDE" in check_table([found])
    assert "nothing" in check_table([found])


def test_a_pulse_that_is_too_low_is_outside_and_shown() -> None:
    values = {5: 0, 25: 100 * MIB, 45: 98 * MIB}
    found = held(CLAIM, values, [pulse(20), pulse(40)])
    assert (found.within, found.seen) == (False, (1, 2))
    assert found.off_percent == pytest.approx(-2.0)


def test_a_view_that_sees_what_it_is_said_to_be_blind_for_is_outside() -> None:
    blind = Claim("inside", "rss_sum_bytes", "pulses", "", lambda _: 0, "blind")
    assert held(blind, {5: MIB, 25: MIB}, [pulse(20)]).within
    assert not held(blind, {5: MIB, 25: 101 * MIB}, [pulse(20)]).within


@pytest.mark.parametrize("active", [0, 100 * MIB])
def test_where_the_kernel_decides_a_view_must_show_what_the_kernel_says(active: int) -> None:
    kernels = Readings([5, 25], [3 * MIB, 3 * MIB + active])
    shown = Readings([5, 25], [7 * MIB, 7 * MIB + active])
    other = Readings([5, 25], [7 * MIB, 57 * MIB])
    found = check(CLAIM, [pulse(20)], shown, (0, 10), kernels)
    assert found is not None
    assert (found.within, found.expected_bytes) == (True, active)
    found = check(CLAIM, [pulse(20)], other, (0, 10), kernels)
    assert found is not None
    assert not found.within
    assert check(CLAIM, [pulse(20)], shown, (0, 10), Readings([], [])) is None


def test_a_view_without_readings_has_no_check() -> None:
    assert check(CLAIM, [pulse(20)], Readings([], []), (0, 10)) is None


def test_every_view_has_claims_also_about_what_it_cannot_see() -> None:
    assert {claim.view for claim in CLAIMS} == {"cgroup", "inside", "docker"}
    assert len([claim for claim in CLAIMS if claim.says.startswith("blind")]) == 3


def test_agreement_is_at_least_the_kernels_stocks() -> None:
    quality = {
        "identity": {"p95_bytes": 10**6},
        "inside_against_cgroup": {"p95_bytes": 0},
        "docker_against_cgroup": {"p95_bytes": 5},
    }
    assert agreement_bytes(quality, 2) == {"identity": 2 * 10**6, "inside": 2**19, "docker": 2**19}


def test_quantiles_of_students_t() -> None:
    # Table of the distribution, three decimals.
    for probability, degrees, expected in (
        (0.975, 4, 2.776),
        (0.975, 8, 2.306),
        (0.975, 30, 2.042),
        (0.8, 8, 0.889),
    ):
        assert t_quantile(probability, degrees) == pytest.approx(expected, rel=0.001)


def test_a_detectable_difference_is_found_as_often_as_it_says() -> None:
    chance = random.Random(3)
    known = detectable([chance.gauss(100, 4) for _ in range(500)], [100.0] * 500)
    assert known.deviation == pytest.approx(4 / 2**0.5, rel=0.1)
    n = 8
    factor = t_quantile(0.975, 2 * n - 2)
    wanted = (factor + t_quantile(0.8, 2 * n - 2)) * 4 * (2 / n) ** 0.5
    found = 0
    for _ in range(2000):
        a = [chance.gauss(100, 4) for _ in range(n)]
        b = [chance.gauss(100 + wanted, 4) for _ in range(n)]
        spread = ((statistics.variance(a) + statistics.variance(b)) / 2) ** 0.5
        t = (statistics.fmean(b) - statistics.fmean(a)) / (spread * (2 / n) ** 0.5)
        found += abs(t) > factor
    assert found / 2000 == pytest.approx(0.8, abs=0.04)


def test_too_few_repetitions_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        detectable([1.0, 2.0], [1.0, 2.0])
