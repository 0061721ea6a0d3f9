from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import InfrastructureError, MeasuredFailure
from harness.results.outcomes import Ending, Outcome, error_for, parse_ending, write_ending


def test_an_ending_is_read_as_it_was_written(tmp_path: Path) -> None:
    ending = Ending(Outcome.FAILED, 'a "reason"\nof two lines', "worker-1")
    write_ending(tmp_path / "e", ending)
    found = parse_ending((tmp_path / "e").read_bytes())
    assert found == Ending(Outcome.FAILED, 'a "reason" of two lines', "worker-1")
    assert parse_ending(None) is None


@pytest.mark.parametrize("outcome", list(Outcome))
def test_the_machines_fault_outweighs_a_runs(outcome: Outcome) -> None:
    error = error_for([Ending(Outcome.FAILED), Ending(outcome)], "x")
    expected = InfrastructureError if outcome == Outcome.INFRASTRUCTURE else MeasuredFailure
    assert type(error) is expected


@given(st.text())
def test_any_text_is_an_ending_or_nothing(text: str) -> None:
    found = parse_ending(text.encode("utf-8", "surrogatepass"))
    assert found is None or found.outcome in Outcome
