"""Which processes a topology has, where they are, and what is refused."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from harness.cli._parser import Parser
from harness.core.errors import UsageError
from harness.plan import Plan, add_plan_flags, parse_plan
from harness.processes.services import PASSWORD_FILE, REDIS_FILE, Places, Topology, refuse

DASK = "--executor dask --dask-workers 5"
PARSL = "--executor parsl --parsl-executor htex --parsl-max-workers 2"
WORK = " --stage-task-counts 1 1 --stage-bytes-sizes 1KB 1KB 1KB --task-sleep 0"


def plan(flags: str) -> Plan:
    parser = Parser(prog="harness slurm")
    add_plan_flags(parser, containers=True)
    return parse_plan(parser, shlex.split(flags + WORK), containers=True)


def topology(flags: str, *nodes: str) -> Topology:
    made = plan(flags)
    places = Places("w1", nodes)
    folder = dict.fromkeys(places.nodes, "/tmp/x/shared/topology-1")
    runs = range(made.run_count)
    return Topology(made, places, [7001, 7002], "10.0.0.1", Path("/runs/.private-1"), folder, runs)


def test_workers_are_shared_out_in_blocks() -> None:
    places = Places("w1", ["w1", "w2", "w3"])
    assert places.names(5) == {
        "w1": ["worker-1", "worker-2"],
        "w2": ["worker-3", "worker-4"],
        "w3": ["worker-5"],
    }
    assert places.names(1) == {"w1": ["worker-1"]}
    assert Places("w1", ["w2"]).nodes == ["w1", "w2"]


def test_dask_with_redis() -> None:
    made = topology(f"{DASK} --ps-connector redis --dask-config a.b=1 --env worker:X=2", "w1", "w2")
    steps = {(step.service, step.node): step for step in made.steps()}
    assert list(steps) == [
        ("redis", "w1"),
        ("scheduler", "w1"),
        ("worker", "w1"),
        ("worker", "w2"),
        ("runner", "w1"),
    ]
    worker = steps["worker", "w2"]
    assert list(worker.names) == ["worker-4", "worker-5"]
    assert "tcp://w1:7001" in worker.command
    assert worker.environment["X"] == "2"
    assert worker.environment["DASK_A__B"] == "1"
    assert "X" not in steps["runner", "w1"].environment
    assert steps["runner", "w1"].environment["HARNESS_MARKS_ACK"] == "1"
    inside = made.inside()
    assert inside.topology is None
    assert inside.executor.model_dump()["scheduler"] == "tcp://w1:7001"
    connector = inside.connector.model_dump()
    assert (connector["host"], connector["port"]) == ("w1", 7002)
    assert connector["password_file"] == f"/tmp/x/shared/topology-1/{PASSWORD_FILE}"


def test_dask_workers_are_as_many_processes_of_as_many_threads_as_are_asked_for() -> None:
    more = "--dask-nworkers 2 --dask-nthreads 3 --dask-nanny --dask-memory-limit 1GB"
    made = topology(f"{DASK} --ps-connector file {more}", "w1", "w2")
    first, second = (step for step in made.steps() if step.service == "worker")
    # What it is a number of is steps, not threads.
    assert [*first.names, *second.names] == [f"worker-{n}" for n in range(1, 6)]
    words = ["--nanny", "--nworkers=2", "--nthreads=3", "--memory-limit=1000000000"]
    assert set(words) <= set(first.command)
    assert made.inside().executor.model_dump()["workers"] == 10
    default = topology(f"{DASK} --ps-connector file", "w1").steps()[1].command
    assert {"--no-nanny", "--nworkers=1", "--nthreads=1", "--memory-limit=0"} <= set(default)


def test_the_password_is_in_no_command_line() -> None:
    made = topology(f"{DASK} --ps-connector redis", "w1")
    files = made.secrets()
    password = files[PASSWORD_FILE].decode().strip()
    assert files[REDIS_FILE] == f"requirepass {password}\n".encode()
    assert len(password) > 40
    assert made.secrets()[PASSWORD_FILE] != files[PASSWORD_FILE]
    assert not any(password in word for step in made.steps() for word in step.command)
    assert topology(f"{DASK} --ps-connector file", "w1").secrets() == {}


def test_parsl_pools_wait_for_the_runners_interchange() -> None:
    made = topology(f"{PARSL} --ps-connector file", "w1", "w2")
    steps = {(step.service, step.node): step for step in made.steps()}
    script = steps["worker", "w2"].command[-1]
    assert "--addresses 10.0.0.1 --port 7001" in script
    assert "/runs/.private-1/interchange" in script
    runner = steps["runner", "w1"].environment
    assert runner["HARNESS_PARSL_DIR"] == "/runs/.private-1"
    assert runner["HARNESS_PARSL_PORT"] == "7001"
    assert made.inside().connector.model_dump()["directory"] == "/runs/.private-1/store"


def test_parsl_with_threads_is_the_runner_alone() -> None:
    made = topology(
        "--executor parsl --parsl-executor thread --parsl-max-workers 2 --ps-connector file", "w1"
    )
    (step,) = made.steps()
    assert step.command[0] == sys.executable


def test_a_part_of_the_runs_is_named_by_places() -> None:
    made = topology(f"{DASK} --ps-connector file --repeat 3", "w1")
    made.runs = range(1, 3)
    assert list(made.steps()[-1].command[-3:]) == ["--places", "2", "3"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--executor globus --ps-connector file", "--executor globus"),
        (f"{DASK} --ps-connector endpoint", "--ps-connector endpoint"),
        (f"{DASK} --ps-connector file --stack dask==2025.3.0", "--stack"),
        (f"{DASK} --ps-connector file --python 3.11", "--python"),
        (f"{DASK} --ps-connector file --worker-memory-limit 1GB", "--worker-memory-limit"),
        (f"{DASK} --ps-connector file --keep", "--keep"),
        (f"{DASK} --ps-connector file --nodes a.toml", "salloc --nodes N"),
        (f"{DASK} --ps-connector file --until 5%", "--until"),
        (f"{DASK} --ps-connector file --why", "--why"),
    ],
)
def test_what_cannot_be_processes_is_refused_in_one_line(flags: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        refuse(plan(flags))
