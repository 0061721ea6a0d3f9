"""Runs that do not end well, told to whoever has the last word, and given up when time is up."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import HarnessError, MeasuredFailure
from harness.plan import Plan
from harness.results.directory import RunDirectory
from harness.results.marks import MarkWriter
from harness.results.outcomes import Outcome, parse_ending
from harness.results.rows import OutcomeRow, read_rows
from harness.workflow.runner import PlanRunner
from tests.unit.workflow.runner_test import make_plan


def in_a_topology(plan: Plan, tmp_path: Path) -> RunDirectory:
    """Execute a plan as a runner in a topology does; it ends with an error."""
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    with MarkWriter(directory.marks) as marks, pytest.raises(HarnessError):
        PlanRunner(plan, directory, marks, ending=directory.ending).execute()
    return directory


def test_a_failure_is_told_to_the_host_which_writes_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.workflow.workflow.payload", lambda *_: "text")
    directory = in_a_topology(make_plan(tmp_path, {"name": "thread"}), tmp_path)
    ending = parse_ending(directory.ending.read_bytes())
    assert ending is not None
    assert ending.outcome == Outcome.FAILED
    assert "expects bytes" in ending.reason
    assert read_rows(directory.outcomes, OutcomeRow) == []


def test_a_leak_has_its_row_and_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.workflow.modes.ManualProxy.consumed", lambda *_: None)
    plan = make_plan(tmp_path, {"name": "thread"}, modes=["manual-proxy"], stage_repeat=1)
    directory = in_a_topology(plan, tmp_path)
    ending = parse_ending(directory.ending.read_bytes())
    assert ending is not None
    assert ending.outcome == Outcome.LEAK
    assert [row.outcome for row in read_rows(directory.outcomes, OutcomeRow)] == ["leak"]


def test_a_run_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.workflow.patience._end_at_last", lambda: None)
    plan = make_plan(tmp_path, {"name": "thread"}, modes=["none"], task_sleep=3.0)
    plan = plan.model_copy(update={"general": plan.general.model_copy(update={"run_timeout": 0.5})})
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    with (
        MarkWriter(directory.marks) as marks,
        pytest.raises(MeasuredFailure, match=r"ran out of time.*--run-timeout"),
    ):
        PlanRunner(plan, directory, marks).execute()
    (row,) = read_rows(directory.outcomes, OutcomeRow)
    assert (row.outcome, row.service) == ("timeout", "runner")
    assert "run_workflow" in (directory.stacks / "0001-none-1.txt").read_text()
