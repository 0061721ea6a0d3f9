"""Offsets between two clocks, from round trips with known truths."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from harness.core.clock import clock_id
from harness.sampling.clocks import Exchange, Offset, estimate, offset_at


def trip(sent: int, out: int, back: int, offset: int) -> Exchange:
    """A round trip to a clock that is ``offset`` behind ours."""
    return Exchange(sent, sent + out - offset, sent + out + back)


def test_equal_ways_give_the_offset_itself() -> None:
    assert estimate([trip(1000, 50, 50, 7_000)]).offset_ns == 7_000


def test_the_fastest_trip_decides() -> None:
    slow, fast = trip(0, 900_000, 10_000, -5), trip(2_000_000, 300, 100, -5)
    found = estimate([slow, fast, slow])
    assert found == Offset(there_ns=fast.there_ns, offset_ns=-105, error_ns=200)


def test_the_error_bounds_any_asymmetry() -> None:
    chance = random.Random(1)
    for _ in range(200):
        offset = chance.randrange(-(10**18), 10**18)
        trips = [
            trip(chance.randrange(10**15), chance.randrange(10**6), chance.randrange(10**6), offset)
            for _ in range(5)
        ]
        found = estimate(trips)
        assert abs(found.offset_ns - offset) <= found.error_ns


def test_no_trip_is_no_offset() -> None:
    with pytest.raises(ValueError, match="empty"):
        estimate([])


def test_drift_is_linear_between_two_measurements_and_ends_there() -> None:
    before, after = Offset(1_000, 100, 1), Offset(2_000, 300, 1)
    assert [offset_at(t, before, after) for t in (0, 1_000, 1_500, 2_000, 9_000)] == [
        *(100, 100, 200, 300, 300)
    ]
    assert offset_at(5, before, before) == 100


def test_processes_of_one_host_share_a_clock() -> None:
    code = "from harness.core.clock import clock_id; print(clock_id())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == clock_id()
    assert os.uname().nodename not in clock_id()
