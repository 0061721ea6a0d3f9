from __future__ import annotations

import pytest

from harness.analysis.calibration import (
    CLAIMS,
    Check,
    Claim,
    Readings,
    agreement_bytes,
    check,
)
from harness.report.evidence import check_table
from harness.results.schema import TruthRow

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
