"""``harness run`` against a Dask cluster that somebody else has, here one of containers."""

from __future__ import annotations

import csv
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.models.containers import Container
from docker.models.networks import Network

from harness.images import ensure
from harness.topology.engine import RUN_LABEL

LABELS = {RUN_LABEL: "test-external"}
SHIFT_S = 1000
WORKER = ["dask", "worker", "tcp://scheduler:8786", "--no-nanny", "--nthreads=1", "--no-dashboard"]
# Linux shifts the monotonic clock of what runs in a time namespace, as if on another host.
ELSEWHERE = ["unshare", "--time", "--fork", "--monotonic", str(SHIFT_S)]
WORKLOAD = (
    "--stage-task-counts 1 3 1 --stage-bytes-sizes 5MB 5MB 5MB 1KB --task-sleep 0.4 --repeat 1"
)
# Prints what the harness could have left with scheduler and workers.
LEFT = """
import sys
from distributed import Client
with Client("tcp://scheduler:8786") as client:
    names = client.run(lambda dask_worker: list(dask_worker.plugins))
    known = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.worker_plugins))
    stores = client.run(lambda: list(sys.modules["proxystore.store"]._stores))
    plugins = [name for name in [*known, *sum(names.values(), [])] if "harness" in name]
    print([*plugins, *sum(stores.values(), [])])
"""


@dataclass
class Cluster:
    """Containers of a cluster, and where its scheduler is reached from here."""

    client: DockerClient
    image: str
    network: Network
    shared: Path
    port: int = 0
    containers: dict[str, Container] = field(default_factory=dict)

    def start(self, name: str, command: list[str], **options: Any) -> Container:
        """Start a container that others know by its name."""
        container: Container = self.client.containers.create(
            self.image,
            command,
            labels=LABELS,
            hostname=name,
            volumes={str(self.shared): {"bind": str(self.shared), "mode": "rw"}},
            environment={"HOME": "/tmp"},
            **{"user": f"{os.getuid()}:{os.getgid()}"} | options,
        )
        self.containers[name] = container
        self.network.connect(container, aliases=[name])
        container.start()
        return container

    @property
    def scheduler(self) -> str:
        """The scheduler's address on loopback."""
        return f"tcp://127.0.0.1:{self.port}"

    def run(self, run_dir: Path, *more: str) -> subprocess.Popen[str]:
        """Start ``harness run`` here, against the cluster."""
        line = (
            f"--executor dask --dask-scheduler {self.scheduler} --ps-connector file"
            f" --ps-file-dir {self.shared} {WORKLOAD} --run-dir {run_dir}"
        )
        return subprocess.Popen(
            [sys.executable, "-m", "harness", "run", *line.split(), *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def inside(self, name: str, command: list[str]) -> str:
        """Run a command in a container and return what it printed."""
        code, said = self.containers[name].exec_run(command)
        assert isinstance(said, bytes)
        assert code == 0, said.decode()
        return said.decode()

    def nothing_left(self, but: tuple[str, ...] = ()) -> None:
        """Check that plug-ins, processes and files of the harness are gone."""
        assert self.inside("scheduler", ["python", "-c", LEFT]).splitlines()[-1] == "[]"
        for name, container in self.containers.items():
            if name in but:
                continue
            processes = [" ".join(row) for row in container.top()["Processes"] or []]
            assert not [row for row in processes if "harness.sampling" in row]
            assert "workflow-memory-harness" not in self.inside(name, ["ls", "-A", "/tmp"])


@pytest.fixture
def cluster(client: DockerClient, tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler, two workers on this host's clock, and one on another."""
    image = ensure(["dask"], lambda _: None)["dask"].reference
    network = client.networks.create(f"wmh-test-{secrets.token_hex(4)}", labels=LABELS)
    shared = tmp_path / "shared"
    shared.mkdir()
    made = Cluster(client, image, network, shared)
    try:
        made.start(
            "scheduler",
            ["dask", "scheduler", "--no-dashboard"],
            ports={"8786/tcp": ("127.0.0.1", 0)},
        )
        for name in ("near-1", "near-2"):
            made.start(name, WORKER)
        made.start("far", [*ELSEWHERE, *WORKER], user="0:0", cap_add=["SYS_ADMIN", "SYS_TIME"])
        scheduler = made.containers["scheduler"]
        until(lambda: len(joined(scheduler)) == 3, lambda: scheduler.logs().decode())
        scheduler.reload()
        (published, *_) = scheduler.ports["8786/tcp"] or []
        made.port = int(published["HostPort"])
        yield made
    finally:
        for container in made.containers.values():
            container.remove(force=True, v=True)
        network.remove()


def joined(scheduler: Container) -> list[str]:
    return [line for line in scheduler.logs().decode().splitlines() if "Register worker" in line]


def until(done: Callable[[], bool], why: Callable[[], str]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


def rows(run_dir: Path, name: str) -> list[dict[str, str]]:
    (directory,) = run_dir.iterdir()
    with (directory / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_worker_is_seen_from_inside_whatever_its_clock(
    cluster: Cluster, tmp_path: Path
) -> None:
    run_dir = tmp_path / "runs"
    process = cluster.run(
        run_dir, "--data-management", "none", "default-proxy", "manual-proxy", "owned-proxy"
    )
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    cluster.nothing_left()
    assert [row["outcome"] for row in rows(run_dir, "outcomes.csv")] == ["ok"] * 4

    workers = {row["host"]: row for row in rows(run_dir, "workers.csv")}
    assert set(workers) == {"near-1", "near-2", "far"}
    for name in ("near-1", "near-2"):
        assert workers[name]["clock"] == "same"
        assert workers[name]["clock_offset_ns"] == workers[name]["offset_error_ns"] == "0"
        assert workers[name]["address"].startswith("tcp://")
    far = workers["far"]
    assert far["clock"] == "measured"
    for when in (
        ("clock_offset_ns", "offset_error_ns"),
        ("clock_offset_end_ns", "offset_end_error_ns"),
    ):
        offset, error = (int(far[column]) for column in when)
        assert 0 < error < 1e9
        assert abs(offset + SHIFT_S * 1e9) <= error

    inside = rows(run_dir, "memory-inside.csv")
    names = {row["container"] for row in workers.values()}
    assert names == {"worker-1", "worker-2", "worker-3"}
    marks = rows(run_dir, "marks.csv")
    for run in rows(run_dir, "outcomes.csv"):
        of_marks = {m["mark"]: int(m["t_mono_ns"]) for m in marks if m["run_id"] == run["run_id"]}
        start, end = of_marks["run_start"], of_marks["run_end"]
        for name in names:
            of_run = [r for r in inside if (r["run_id"], r["container"]) == (run["run_id"], name)]
            # Three stages of 0.4 s, a row each 0.1 s; loose, the machine may be busy.
            assert len(of_run) >= 6
            assert all(start <= int(row["t_mono_ns"]) <= end for row in of_run)
            assert all(30e6 < int(row["rss_sum_bytes"]) < 2e9 for row in of_run)
            assert all(30e6 < int(row["cg_usage_bytes"]) < 2e9 for row in of_run)
    assert all(abs(int(row["t_unix_ns"]) - time.time_ns()) < 300e9 for row in inside)

    # Times of a host with another clock are left out, and nothing else.
    by_host = {row["worker"].partition(":")[0]: row for row in rows(run_dir, "tasks.csv")}
    for host, task in by_host.items():
        assert (task["started_mono_ns"] == "") == (host == "far")
        assert int(task["received_mono_ns"]) > int(task["submitted_mono_ns"])

    (directory,) = run_dir.iterdir()
    said_inside = json.loads((directory / "sampling.json").read_text())["inside"]
    assert set(said_inside) == names
    manifest = json.loads((directory / "manifest.json").read_text())
    versions = manifest["executor"]["cluster"]
    addresses = {a for alike in versions["workers"] for a in alike["addresses"]}
    assert addresses == {row["address"] for row in workers.values()}
    assert versions["workers"][0]["versions"]["packages"]["distributed"]


def test_a_worker_that_dies_keeps_its_rows_of_the_runs_before(
    cluster: Cluster, tmp_path: Path
) -> None:
    run_dir = tmp_path / "runs"
    process = cluster.run(run_dir, "--data-management", "none", "--repeat", "4")

    def two_runs_ended() -> bool:
        return any(path.read_text().count("\n") > 2 for path in run_dir.glob("*/outcomes.csv"))

    until(two_runs_ended, lambda: "too few runs ended")
    cluster.containers["near-2"].kill()
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    cluster.nothing_left(but=("near-2",))
    (dead,) = (row for row in rows(run_dir, "workers.csv") if row["host"] == "near-2")
    of_dead = [r for r in rows(run_dir, "memory-inside.csv") if r["container"] == dead["container"]]
    # Rows are fetched between runs.
    assert "0001-none-1" in {row["run_id"] for row in of_dead}
    (directory,) = run_dir.iterdir()
    log = (directory / "log.txt").read_text()
    assert f"the last rows of {dead['container']} are lost" in log
    said_inside = json.loads((directory / "sampling.json").read_text())["inside"]
    assert said_inside[dead["container"]]["ended"] == [dead["container"]]
    assert "Traceback" not in said


def test_workers_without_the_package_are_said_in_one_line(cluster: Cluster, tmp_path: Path) -> None:
    for name in ("near-1", "near-2"):
        cluster.containers.pop(name).remove(force=True)
    where = cluster.inside(
        "scheduler", ["python", "-c", "import harness; print(harness.__path__[0])"]
    )
    bare = cluster.start("bare", WORKER, tmpfs={where.strip(): ""})
    until(lambda: b"Starting established connection" in bare.logs(), lambda: bare.logs().decode())
    process = cluster.run(tmp_path / "runs")
    _, said = process.communicate(timeout=100)
    assert process.returncode == 3, said
    last = said.strip().splitlines()[-1]
    assert "lacks the package workflow-memory-harness: install" in last
    assert "Traceback" not in said
