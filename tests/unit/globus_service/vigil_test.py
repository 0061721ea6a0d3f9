"""When a silent endpoint is given up."""

from __future__ import annotations

from uuid import uuid4

from harness.globus_service.settings import Vigil

ENDPOINT = uuid4()


def test_one_that_never_spoke_has_the_start_timeout() -> None:
    vigil = Vigil(start_timeout_s=90, lost_after_s=30)
    assert vigil.given_up(ENDPOINT, 1000) == ""
    vigil.expect(ENDPOINT, 0)
    vigil.expect(ENDPOINT, 60)
    assert vigil.given_up(ENDPOINT, 90) == ""
    assert "did not start within 90 s" in vigil.given_up(ENDPOINT, 91)


def test_one_that_spoke_is_lost_when_it_is_silent() -> None:
    vigil = Vigil(start_timeout_s=90, lost_after_s=30)
    vigil.expect(ENDPOINT, 0)
    vigil.heard(ENDPOINT, 10)
    assert vigil.alive(ENDPOINT, 40)
    assert vigil.given_up(ENDPOINT, 40) == ""
    assert not vigil.alive(ENDPOINT, 41)
    assert "no heartbeat for 31 s" in vigil.given_up(ENDPOINT, 41)


def test_one_that_ended_while_it_was_idle_may_start_again() -> None:
    vigil = Vigil(start_timeout_s=90, lost_after_s=30)
    vigil.heard(ENDPOINT, 0)
    vigil.expect(ENDPOINT, 1000)
    assert vigil.given_up(ENDPOINT, 1080) == ""
    assert vigil.given_up(ENDPOINT, 1091)


def test_nobody_is_blamed_for_a_broker_that_was_away() -> None:
    vigil = Vigil(start_timeout_s=90, lost_after_s=30)
    starting, running = uuid4(), uuid4()
    vigil.expect(starting, 0)
    vigil.heard(running, 0)
    vigil.pardon(100)
    assert vigil.given_up(starting, 180) == ""
    assert vigil.given_up(running, 180) == ""
    vigil.forget(running)
    assert vigil.given_up(running, 1000) == ""
