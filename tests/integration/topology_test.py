"""The containers of a topology, looked at while they run; two benches at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from docker import DockerClient
from docker.models.containers import Container

from harness.topology.compose import (
    COMPOSE_DIR,
    ComposeProject,
    new_project_name,
    role,
    topology_files,
)
from tests.integration.conftest import (
    EXAMPLE,
    containers_of,
    finish_bench,
    left_behind,
    project_of,
    run_bench,
    start_bench,
)

LIMIT = 400 * 2**20
FLAGS = [*EXAMPLE, "--ps-connector", "redis", "--worker-memory-limit", "400MiB"]


def running(
    client: DockerClient, project: str, wanted: int, timeout_s: float = 90
) -> list[Container]:
    """Return a project's containers once there are enough of them."""
    deadline = time.monotonic() + timeout_s
    found: list[Container] = []
    while time.monotonic() < deadline:
        found = containers_of(client, project)
        if len(found) >= wanted:
            return found
        time.sleep(0.1)
    pytest.fail(f"{len(found)} of {wanted} containers run")


def test_two_benches_at_once_of_confined_containers(tmp_path: Path, client: DockerClient) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    started = [start_bench(place, *FLAGS, "--repeat", "2") for place in places]
    try:
        projects = {project_of(place) for place in places}
        assert len(projects) == 2
        for project in projects:
            for container in running(client, project, 7):
                container.reload()
                check_confinement(client, container)
    finally:
        done = [finish_bench(p, place) for p, place in zip(started, places, strict=True)]
    for bench in done:
        assert bench.code == 0, bench.err
        assert [row["outcome"] for row in bench.rows("outcomes.csv")] == ["ok"] * 8
        assert {row["container"] for row in bench.rows("memory-inside.csv")} == {
            row["container"] for row in bench.rows("memory-cgroup.csv")
        }
        assert left_behind(client, bench.project) == set()


def check_confinement(client: DockerClient, container: Container) -> None:
    config, host = container.attrs["Config"], container.attrs["HostConfig"]
    assert config["User"].split(":")[0] not in ("", "0", "root")
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert not host["PortBindings"]
    assert not any("docker.sock" in str(mount) for mount in container.attrs["Mounts"])
    for network in container.attrs["NetworkSettings"]["Networks"]:
        assert client.networks.get(network).attrs["Internal"] is True
    if role(container) == "worker":
        assert (host["Memory"], host["MemorySwap"]) == (LIMIT, LIMIT)
    else:
        assert host["Memory"] == 0


def test_the_compose_files_also_start_on_their_own(client: DockerClient) -> None:
    project = ComposeProject(
        new_project_name(), topology_files("dask", "redis"), {"HARNESS_WORKERS": "2"}
    )
    assert COMPOSE_DIR / "dask.yaml" in project.files
    try:
        project.up()
        runner = next(c for c in project.containers(client) if role(c) == "runner")
        assert runner.wait(timeout=120)["StatusCode"] == 0, runner.logs().decode()
        assert b"Run 4/4" in runner.logs()
    finally:
        project.down(client)
    assert left_behind(client, project.name) == set()


def test_dask_pure_is_passed_on_and_written_down(tmp_path: Path) -> None:
    flags = [*EXAMPLE, "--ps-connector", "file", "--data-management", "default-proxy"]
    bench = run_bench(tmp_path, *flags, "--dask-pure", "--dask-workers", "2")
    assert bench.code == 0, bench.err
    assert bench.manifest["plan"]["executor"]["pure"] is True
    assert bench.manifest["executor"]["workers"] == 2
