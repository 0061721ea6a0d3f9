"""Runs that do not end well, told to whoever has the last word, and given up when time is up."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.core.errors import HarnessError, MeasuredFailure
from harness.executors.thread import ThreadPoolConfig
from harness.plan import Plan
from harness.results.conversation import MarkWriter
from harness.results.directory import RunDirectory
from harness.results.outcomes import Ending, Outcome, parse_ending
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


def test_a_run_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
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


def killed_at_work(victim: str, executor: str, tmp_path: Path) -> tuple[int, str, list[OutcomeRow]]:
    """Start a run, kill the process of it whose command line begins so, and wait for the end."""
    flags = (
        "--ps-connector file --ps-file-dir objects --data-management none --run-dir runs"
        " --stage-task-counts 1 --stage-bytes-sizes 10 10 --task-sleep 2 --repeat 2"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", *executor.split(), *flags.split()],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    parent = psutil.Process(process.pid)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        marks = list((tmp_path / "runs").glob("*/marks.csv"))
        if marks and ",run_start," in marks[0].read_text():
            break
        time.sleep(0.02)
    time.sleep(0.5)
    victims = [
        child for child in parent.children(recursive=True) if victim in " ".join(child.cmdline())
    ]
    assert victims
    victims[-1].kill()
    _, err = process.communicate(timeout=60)
    (directory,) = (tmp_path / "runs").iterdir()
    return process.returncode, err, read_rows(directory / "outcomes.csv", OutcomeRow)


def test_without_the_hosts_sampler_a_run_is_not_measured(tmp_path: Path) -> None:
    executor = "--executor thread --thread-pool-max-workers 1"
    code, err, rows = killed_at_work("harness.sampling.host", executor, tmp_path)
    assert code == 3
    assert [(row.outcome, row.service) for row in rows] == [("infrastructure", "sampler")]
    assert "exit code -9" in rows[0].reason
    assert "could not be measured" in err.splitlines()[-1]


def test_a_worker_that_is_started_again_ended_the_run(tmp_path: Path) -> None:
    executor = "--executor dask --dask-workers 1"
    code, err, rows = killed_at_work("dask worker", executor, tmp_path)
    assert code == 1
    assert [row.outcome for row in rows] == ["killed"]
    assert (rows[0].service or "").startswith("worker 0 (tcp://")
    assert "lost a worker" in err.splitlines()[-1]


def test_a_worker_that_is_started_again_in_a_container_is_named_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = iter([{"tcp://1:2": "worker tcp://1:2", "tcp://1:3": "worker b"}, {"tcp://1:4": "new"}])
    monkeypatch.setattr(ThreadPoolConfig, "alive", lambda *_: next(seen))
    hosts = {"tcp://1:2": "4f0c", "tcp://1:3": ""}
    monkeypatch.setattr(ThreadPoolConfig, "host_of", lambda _self, _executor, place: hosts[place])
    plan = make_plan(tmp_path, {"name": "thread"}, modes=["none"])
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    named = {"4f0c": "worker-2"}.get
    with MarkWriter(directory.marks) as marks, pytest.raises(MeasuredFailure):
        PlanRunner(plan, directory, marks, ending=directory.ending, container=named).execute()
    assert parse_ending(directory.ending.read_bytes()) == Ending(
        Outcome.KILLED,
        "worker tcp://1:2 in worker-2 and worker b (tcp://1:3) ended during the run; its tasks were"
        " done again",
        "worker-2",
    )


def test_a_process_of_a_pool_that_dies_ends_the_run(tmp_path: Path) -> None:
    executor = "--executor process --process-pool-max-workers 1"
    code, err, rows = killed_at_work("-m harness run", executor, tmp_path)
    assert code == 1
    assert [(row.outcome, row.service) for row in rows] == [("killed", "a worker")]
    assert "lost a worker" in err.splitlines()[-1]
