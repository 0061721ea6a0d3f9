"""One topology on two machines: this one, and an engine that is as good as another machine."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from harness.analysis.figures import session_figures
from harness.analysis.readers import read_session
from tests.integration.conftest import SWARM_MADE, left_behind
from tests.integration.elsewhere import STATE, Elsewhere, engine_elsewhere

# They make network namespaces.
pytestmark = pytest.mark.root
WORKLOAD = (
    "--stage-task-counts 1 4 1 --stage-bytes-sizes 1MB 5MB 5MB 1KB --task-sleep 0.2 --no-report"
)
DASK = "--executor dask --dask-workers 4 --ps-connector redis --data-management none owned-proxy"


def swarm(engine: Elsewhere | None, *words: str) -> str:
    """Call ``docker swarm`` and return what it printed."""
    variables = engine.variables if engine is not None else {}
    command = ["docker", "swarm", *words]
    done = subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Nodes:
    """Node ``a``, this machine, and node ``b``, one swarm; the runner is on ``a``."""

    def __init__(self, other: Elsewhere, here: DockerClient, folder: Path) -> None:
        self.other = other
        self.here = here
        self.file = folder / "nodes.toml"
        self.write("workers = 2")

    def write(self, of_b: str) -> None:
        self.file.write_text(
            f'[[nodes]]\nname = "a"\n\n[[nodes]]\nname = "b"\n{of_b}\n'
            f'engine = "{self.other.variables["DOCKER_HOST"]}"\n'
            f'certificates = "{self.other.variables["DOCKER_CERT_PATH"]}"\n'
        )

    def start(self, folder: Path, *words: str) -> subprocess.Popen[str]:
        """Start a bench."""
        command = [sys.executable, "-m", "harness", "bench", "--nodes", str(self.file)]
        return subprocess.Popen(
            [*command, *WORKLOAD.split(), "--run-dir", str(folder / "runs"), *words],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def bench(self, folder: Path, *words: str, code: int = 0) -> Path:
        """Run a bench and return its run directory."""
        process = self.start(folder, *words)
        said, _ = process.communicate(timeout=280)
        assert process.returncode == code, said
        assert "left out" not in said
        return only(folder / "runs")

    def begun(self, folder: Path, repeat: int = 9) -> subprocess.Popen[str]:
        """Start a bench of many runs, and return it when its first run is done."""
        process = self.start(folder, *DASK.split(), "--repeat", str(repeat))
        deadline = time.monotonic() + 150
        while not list(folder.glob("runs/*/outcomes.csv")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return process

    def nothing_left(self, directory: Path) -> bool:
        """Say whether nothing of a bench is left on either machine."""
        there = self.other.client
        projects = [each["project"] for each in manifest(directory)["topologies"]]
        volumes = [v for v in there.volumes.list() if v.name]
        trees = Path("/sys/fs/cgroup")
        cgroups = [
            p for name in projects for p in (*trees.glob(f"*/{name}"), *trees.glob(f"*/*/{name}"))
        ]
        here = [thing for project in projects for thing in left_behind(self.here, project)]
        return not (there.containers.list(all=True) or volumes or cgroups or here)


@pytest.fixture(scope="module")
def nodes(client: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with engine_elsewhere("node") as other:
        here = re.sub(r"\d+$", "1", other.address)
        swarm(None, "init", "--advertise-addr", here)
        # An engine that leaves its swarm may keep a container of another test from starting: it is
        # done when all tests are.
        SWARM_MADE.touch()
        token = swarm(None, "join-token", "--quiet", "worker")
        swarm(other, "join", "--token", token, "--advertise-addr", other.address, here)
        yield Nodes(other, client, tmp_path_factory.mktemp("nodes"))
        swarm(other, "leave")


def only(runs: Path) -> Path:
    (directory,) = runs.iterdir()
    return directory


def manifest(directory: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads((directory / "manifest.json").read_text())
    return found


def rows(directory: Path, name: str) -> list[dict[str, str]]:
    with (directory / name).open() as file:
        return list(csv.DictReader(file))


def outcomes(directory: Path) -> list[str]:
    return [row["outcome"] for row in rows(directory, "outcomes.csv")]


def test_one_topology_on_two_machines_is_measured_as_one(nodes: Nodes, tmp_path: Path) -> None:
    directory = nodes.bench(tmp_path, *DASK.split(), "--isolate", "none", "--repeat", "2")
    assert outcomes(directory) == ["ok"] * 4
    every = {"redis-1", "runner-1", "scheduler-1", *(f"worker-{n}" for n in range(1, 5))}
    first = {row["run_id"] for row in rows(directory, "outcomes.csv")}
    for view in ("cgroup", "inside", "docker"):
        seen = {(row["run_id"], row["container"]) for row in rows(directory, f"memory-{view}.csv")}
        # The engine tells once a second, and a run is not longer.
        runs = {run for run, _ in seen} & first if view == "docker" else first
        assert view == "docker" or {(run, name) for run in runs for name in every} <= seen
        assert {name for _, name in seen} == every
    assert {path.stem for path in (directory / "logs").iterdir()} == every
    # Tasks ran on both, and their times are on one clock: in order.
    tasks = rows(directory, "tasks.csv")
    assert {row["container"] for row in tasks} >= {"worker-3"}
    for row in tasks:
        times = [int(row[name]) for name in row if name.endswith("_mono_ns")]
        assert len(times) == 5
        assert times == sorted(times)
    # The known shift is always inside of the stated bound.
    clocks = [row for row in rows(directory, "nodes.csv") if row["node"] == "b"]
    assert {row["moment"] for row in clocks} >= {"start", "end", *sorted(first)[-1:]}
    for row in clocks:
        assert abs(int(row["offset_ns"]) + 5_000_000_000_000) <= int(row["error_ns"])
        assert int(row["error_ns"]) < 50_000_000
    # Of what is on one node the kernel knows the peak; over both there is a bracket.
    for figures in session_figures(read_session(directory)):
        scopes = figures.scopes
        assert scopes["redis"].peak_kind != "sampled"
        for name in ("worker", "topology"):
            most = scopes[name].peak_most_bytes
            assert most is not None
            assert scopes[name].peak_bytes <= most
            assert scopes[name].peak_from == "sampled at 20 ms, on 2 nodes"
    assert {n["name"]: n["workers"] for n in manifest(directory)["nodes"]} == {
        "a": [1, 2],
        "b": [3, 4],
    }
    assert nodes.nothing_left(directory)


@pytest.mark.parametrize(
    "words",
    [
        "--executor parsl --parsl-executor htex --parsl-max-workers 2 --ps-connector endpoint",
        "--executor globus --globus-endpoints 2 --ps-connector zmq",
        "--executor dask --dask-workers 2 --ps-connector file --shared-dir {shared}",
    ],
)
def test_other_executors_and_connectors_work_over_two_machines(
    words: str, nodes: Nodes, tmp_path: Path
) -> None:
    nodes.write("workers = 1")
    # This folder has the same path on both machines.
    shared = Path(STATE.format(nodes.other.name), "shared", tmp_path.name)
    shared.mkdir()
    shared.chmod(0o777)
    words = words.format(shared=shared)
    directory = nodes.bench(tmp_path, *words.split(), "--data-management", "owned-proxy")
    assert outcomes(directory) == ["ok"]
    assert {row["container"] for row in rows(directory, "memory-cgroup.csv")} >= {
        "worker-1",
        "worker-2",
    }
    assert nodes.nothing_left(directory)
    nodes.write("workers = 2")


def test_a_worker_that_is_killed_on_the_other_machine_is_named(
    nodes: Nodes, tmp_path: Path
) -> None:
    process = nodes.begun(tmp_path)
    (worker,) = nodes.other.client.containers.list(filters={"name": "worker-4"})
    worker.kill()
    directory = only(tmp_path / "runs")
    deadline = time.monotonic() + 60
    while "killed" not in outcomes(directory):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    (row,) = (row for row in rows(directory, "outcomes.csv") if row["outcome"] == "killed")
    assert row["service"] == "worker-4"
    assert row["reason"].startswith("worker-4 (node b) ended (exit code 137)"), said
    assert nodes.nothing_left(directory)


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_a_dead_or_frozen_agent_on_the_other_machine_ends_the_plan(
    how: str, nodes: Nodes, tmp_path: Path
) -> None:
    process = nodes.begun(tmp_path)
    (agent,) = nodes.other.client.containers.list(filters={"name": "agent"})
    getattr(agent, how)()
    hit_s = time.monotonic()
    directory = only(tmp_path / "runs")
    while outcomes(directory)[-1] == "ok":
        assert time.monotonic() < hit_s + 30
        time.sleep(0.1)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 3, said
    last = rows(directory, "outcomes.csv")[-1]
    assert (last["outcome"], last["service"]) == ("infrastructure", "sampler")
    assert "node b" in last["reason"]
    assert nodes.nothing_left(directory)


def test_what_a_killed_bench_left_is_removed_on_both_and_the_rest_is_done(
    nodes: Nodes, tmp_path: Path
) -> None:
    process = nodes.begun(tmp_path, repeat=3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    directory = only(tmp_path / "runs")
    finished = len(outcomes(directory))
    again = subprocess.run(
        [sys.executable, "-m", "harness", "bench", "--resume", str(directory)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert outcomes(directory) == ["ok"] * 6
    assert f"{finished} of 6 runs are done" in again.stdout + again.stderr
    assert nodes.nothing_left(directory)
    assert (
        subprocess.run(
            [sys.executable, "-m", "harness", "clean", "--dry-run"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.count(str(directory))
        == 0
    )
