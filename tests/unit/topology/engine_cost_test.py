from __future__ import annotations

import pytest

from harness.topology.calibrate import engine_cpu_between


def test_only_processes_that_lived_through_both_readings_count() -> None:
    before = {"1": 10.0, "2": 5.0}
    after = {"1": 10.5, "3": 100.0}
    assert engine_cpu_between(before, after) == pytest.approx(0.5)
    assert engine_cpu_between({}, {}) == 0
