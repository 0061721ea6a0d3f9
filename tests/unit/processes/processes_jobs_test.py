"""Agents in jobs of somebody else's cluster; `srun` is a script that starts them here."""

from __future__ import annotations

import csv
import logging
import os
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.core.clock import clock_id
from harness.core.errors import InfrastructureError
from harness.processes.agents import Agents
from harness.processes.jobs import _Jobs, watched_jobs
from harness.processes.slurm import Allocation
from harness.results.conversation import RUN_END, RUN_START, MarkWriter
from harness.results.directory import RunDirectory
from harness.sampling.spool import Sampled

SRUN = """#!/bin/sh
while case "$1" in --*) true ;; *) false ;; esac; do shift; done
exec "$@"
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(SRUN)
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}:{os.environ['PATH']}")
    (tmp_path / "run").mkdir()
    return RunDirectory(tmp_path / "run")


def worker(job: str = "7", node: str = "w1") -> Sampled:
    return Sampled("host", os.getpid(), clock_id(), [("0", "a")], job, node)


def test_marks_are_confirmed_by_the_agents_while_they_watch(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Jobs, "_require_cgroups", lambda _self, _agents: None)
    with MarkWriter(directory.marks) as marks:
        with watched_jobs({"worker-1": worker()}, directory, marks) as between_runs:
            marks.write("0001", RUN_START)
            marks.write("0001", RUN_END)
            assert directory.marks_ack.stat().st_size == 2
            between_runs()
        marks.write("0001", "after_start")  # nobody is there to confirm it
    assert not directory.marks_ack.exists()
    assert not directory.settled.exists()
    with directory.nodes.open(newline="") as file:
        rows = [(row["node"], row["moment"], row["clock"]) for row in csv.DictReader(file)]
    assert rows == [(n, m, "same") for m in ("start", "0001") for n in ("home", "w1")]


@pytest.mark.parametrize(
    ("workers", "words"),
    [
        ({"worker-1": worker()}, "Slurm gave its step no memory cgroup of its own"),
        ({"worker-1": worker(), "worker-2": worker("", "")}, "worker-2 on host is in no Slurm job"),
    ],
)
def test_what_cannot_be_seen_is_said_once_and_the_runs_go_on(
    workers: dict[str, Sampled],
    words: str,
    directory: RunDirectory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        MarkWriter(directory.marks) as marks,
        watched_jobs(workers, directory, marks) as between_runs,
    ):
        marks.write("0001", RUN_START)
        between_runs()
    (said,) = caplog.messages
    assert said.startswith("The workers are not seen from outside: worker-")
    # A process of this machine may have no memory cgroup at all.
    assert words in said or "memory cgroup" in said
    assert not directory.memory("cgroup").exists()


def test_a_step_of_several_workers_is_nobodys(directory: RunDirectory) -> None:
    found = {1: "/job_7/step_batch/task_0", 2: "/job_8/step_batch/task_0"}
    ask = lambda _request, pid: (found[pid], "")  # noqa: E731
    agents = cast(Agents, SimpleNamespace(relays={"w1": SimpleNamespace(ask=ask)}))
    one = Sampled("w1", 1, "c", job="7", node="w1")
    other = Sampled("w1", 2, "c", job="8", node="w1")
    stack: Any = ExitStack()
    marks = cast(MarkWriter, None)
    _Jobs({"worker-1": one, "worker-2": other}, directory, marks, stack)._require_cgroups(agents)
    with pytest.raises(InfrastructureError, match=r"worker-2 on w1: .* in one step with worker-1"):
        _Jobs({"worker-1": one, "worker-2": one}, directory, marks, stack)._require_cgroups(agents)


def test_a_process_says_which_job_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURMD_NODENAME", "w2")
    here = Sampled.here(5)
    assert (here.pid, here.job, here.node, here.clock) == (5, "12", "w2", clock_id())
    assert Allocation(here.job, [here.node]).stranger("/x/job_12/step_0/task_0") == ""
