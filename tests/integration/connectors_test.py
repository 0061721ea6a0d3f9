"""Every connector under every mode: beside Dask in containers, and bare under the two pools."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from docker import DockerClient
from proxystore.endpoint.config import EndpointConfig, write_config

from harness.images import ensure
from harness.topology.engine import RUN_LABEL
from tests.integration.conftest import Bench, left_behind, run_bench

MODES = ["none", "default-proxy", "manual-proxy", "owned-proxy"]
# One start object, then 1, 3 and 1 results; the last one is small for `multi`.
WORKLOAD = [
    *("--data-management", *MODES),
    *("--stage-task-counts", "1", "3", "1"),
    *("--stage-bytes-sizes", "5MB", "5MB", "5MB", "1000"),
    *("--task-sleep", "0.1"),
]
OBJECTS = 1 + 1 + 3 + 1
NODES = {"runner-1", "scheduler-1", "worker-1", "worker-2"}


@dataclass(frozen=True)
class Case:
    """A connector's flags, its class, and the containers it adds."""

    flags: list[str]
    kind: str
    containers: frozenset[str] = frozenset()


CASES = {
    "zmq": Case(["zmq"], "ZeroMQConnector"),
    "endpoint": Case(["endpoint"], "EndpointConnector", frozenset({"endpoint-1"})),
    "multi": Case(
        ["multi", "--ps-multi-small", "redis", "--ps-multi-large", "endpoint"],
        "MultiConnector",
        frozenset({"redis-1", "endpoint-1"}),
    ),
}


def check_objects(rows: list[dict[str, str]]) -> None:
    """Check that each mode left what the flags predict, and nothing after the clean-up."""
    assert [row["data_management"] for row in rows] == MODES
    for row in rows:
        expected = OBJECTS if row["data_management"] == "default-proxy" else 0
        assert int(row["objects_at_end"]) == int(row["objects_predicted"]) == expected
        assert int(row["bytes_at_end"]) >= int(row["bytes_predicted"])
        assert (row["objects_left"], row["bytes_left"]) == ("0", "0")


def check_results(rows: list[dict[str, str]], kind: str) -> None:
    """Check that each run has its row."""
    assert [row["data_management"] for row in rows] == MODES
    assert [row["connector"] for row in rows] == ["None", kind, kind, kind]


@pytest.fixture(scope="module", params=sorted(CASES))
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    case = CASES[request.param]
    done = run_bench(
        tmp_path_factory.mktemp(request.param),
        *("--executor", "dask", "--dask-workers", "2", *WORKLOAD, "--ps-connector", *case.flags),
    )
    assert done.code == 0, done.err
    return done


def case_of(bench: Bench) -> Case:
    return CASES[bench.manifest["plan"]["connector_name"]]


def test_every_mode_runs_and_leaves_what_is_predicted(bench: Bench) -> None:
    assert [row["outcome"] for row in bench.rows("outcomes.csv")] == ["ok"] * len(MODES)
    check_results(bench.rows("results.csv"), case_of(bench).kind)
    check_objects(bench.rows("objects.csv"))


def test_every_service_has_rows_in_every_view(bench: Bench) -> None:
    containers = NODES | case_of(bench).containers
    for view in ("inside", "cgroup", "docker"):
        rows = bench.rows(f"memory-{view}.csv")
        assert {row["container"] for row in rows} == containers
        for run in bench.rows("outcomes.csv"):
            found = {row["container"] for row in rows if row["run_id"] == run["run_id"]}
            # The engine's own stream has one message each second, a run may be shorter.
            assert found == containers or view == "docker"


def test_the_data_is_where_the_connector_says(bench: Bench) -> None:
    holders = {
        "zmq": {"runner-1", "worker-1", "worker-2"},
        "endpoint": {"endpoint-1"},
        "multi": {"endpoint-1"},
    }[bench.manifest["plan"]["connector_name"]]
    peaks = [
        row
        for row in bench.rows("peaks.csv")
        if row["scope"] == "container" and "default-proxy" in row["run_id"]
    ]
    net = {row["name"]: int(row["peak_bytes"]) - int(row["baseline_bytes"]) for row in peaks}
    # Five objects of 5 MB, each of which somebody keeps.
    assert sum(net[name] for name in holders) > 24e6


def test_nothing_is_left_behind(bench: Bench, client: DockerClient) -> None:
    assert left_behind(client, bench.project) == set()


@dataclass(frozen=True)
class Bare:
    """A ``harness run`` that has ended."""

    code: int
    err: str
    run_dir: Path

    def rows(self, name: str) -> list[dict[str, str]]:
        """Return the rows of one of its CSV files."""
        (directory,) = self.run_dir.iterdir()
        with (directory / name).open(newline="") as file:
            return list(csv.DictReader(file))


def bare_run(tmp_path: Path, executor: str, connector: str, **environment: str) -> Bare:
    """Run ``harness run`` to its end."""
    flags = f"--executor {executor} --ps-connector {connector} --run-dir runs".split()
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run", *flags, *WORKLOAD],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Bare(done.returncode, done.stderr, tmp_path / "runs")


def check_bare(run: Bare, kind: str, tmp_path: Path) -> None:
    """Check rows, objects, and that no process is left."""
    assert run.code == 0, run.err
    check_results(run.rows("results.csv"), kind)
    check_objects(run.rows("objects.csv"))
    assert [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(tmp_path)] == []


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("", 0))
        return int(unused.getsockname()[1])


POOLS = {
    "thread": "thread --thread-pool-max-workers 2",
    "process": "process --process-pool-max-workers 2",
}
# Workers under Dask's nanny may have no children: they use the client's server.
PROCESSES = POOLS | {"dask": "dask --dask-workers 2"}


def test_bare_local(tmp_path: Path) -> None:
    check_bare(bare_run(tmp_path, POOLS["thread"], "local"), "LocalConnector", tmp_path)


@pytest.mark.parametrize("executor", PROCESSES.values(), ids=list(PROCESSES))
def test_bare_zmq(executor: str, tmp_path: Path) -> None:
    run = bare_run(tmp_path, executor, f"zmq --ps-port {free_port()}")
    check_bare(run, "ZeroMQConnector", tmp_path)


@pytest.mark.parametrize("executor", POOLS.values(), ids=list(POOLS))
def test_bare_multi(executor: str, tmp_path: Path) -> None:
    connector = f"multi --ps-multi-small zmq --ps-port {free_port()} --ps-file-dir objects"
    check_bare(bare_run(tmp_path, executor, connector), "MultiConnector", tmp_path)
    assert not (tmp_path / "objects").exists()


@dataclass(frozen=True)
class Endpoint:
    """A user's own endpoint: its UUID, and the directory where its clients find it."""

    uuid: str
    home: Path


def uuid_of(port: int) -> str:
    """Return what an endpoint calls itself, as soon as it answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/endpoint", timeout=5) as answer:
                return str(json.load(answer)["uuid"])
        except OSError:
            assert time.monotonic() < deadline, "the endpoint does not answer"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def endpoint(client: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Run an endpoint as ProxyStore's documentation says, without anything of ours."""
    image = ensure(["endpoint"], lambda _: None)["endpoint"]
    commands = (
        "proxystore-endpoint configure mine --host 0.0.0.0 --port 8765 --no-relay-server"
        " && exec proxystore-endpoint start mine --no-detach"
    )
    server = client.containers.run(
        image.reference,
        ["sh", "-c", commands],
        environment={"PROXYSTORE_HOME": "/tmp/proxystore"},
        detach=True,
        labels={RUN_LABEL: "test"},
        ports={"8765/tcp": ("127.0.0.1", 0)},
    )
    try:
        server.reload()
        (published, *_) = server.ports["8765/tcp"] or []
        port = int(published["HostPort"])
        uuid, home = uuid_of(port), tmp_path_factory.mktemp("proxystore")
        config = EndpointConfig(
            name="mine", uuid=uuid, host="127.0.0.1", host_type="static", port=port
        )
        write_config(config, str(home / "mine"))
        yield Endpoint(uuid, home)
    finally:
        server.remove(force=True, v=True)


@pytest.mark.parametrize("executor", POOLS.values(), ids=list(POOLS))
def test_bare_endpoint(executor: str, endpoint: Endpoint, tmp_path: Path) -> None:
    connector = f"endpoint --ps-endpoints {endpoint.uuid}"
    run = bare_run(tmp_path, executor, connector, PROXYSTORE_HOME=str(endpoint.home))
    check_bare(run, "EndpointConnector", tmp_path)
    assert [path.name for path in endpoint.home.iterdir()] == ["mine"]


def test_an_endpoint_that_is_not_there_is_infrastructure(tmp_path: Path) -> None:
    uuid = "b3c7d8f0-3d3e-4c5b-8a0d-0a4f2e6d9c11"
    run = bare_run(
        tmp_path, "thread", f"endpoint --ps-endpoints {uuid}", PROXYSTORE_HOME=str(tmp_path / "no")
    )
    assert run.code == 3
    assert f"--ps-endpoints {uuid}: none of them answers" in run.err
    assert "Traceback" not in run.err


def test_a_refused_pair_starts_nothing(tmp_path: Path) -> None:
    run = bare_run(tmp_path, "process", "local")
    assert run.code == 2
    assert run.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
