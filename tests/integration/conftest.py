"""Benches in real containers, started as a user starts them."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
from docker import DockerClient
from docker.models.containers import Container

from harness.topology.agent import AGENT_ROLE
from harness.topology.engine import OWNER_LABEL, ROLE_LABEL, RUN_LABEL
from harness.topology.records import BenchProcess

EXAMPLE = [
    *("--executor", "dask", "--dask-workers", "4"),
    *("--data-management", "none", "default-proxy", "manual-proxy", "owned-proxy"),
    *("--stage-task-counts", "1", "3", "1", "1"),
    *("--stage-bytes-sizes", "1MB", "5MB", "5MB", "5MB", "1000"),
    *("--task-sleep", "0.2"),
]


SWARM_MADE = Path(tempfile.gettempdir(), "workflow-memory-harness-tests-swarm")
"""There while this machine's engine is in a swarm that a test has made."""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave the swarm that a test has made, when all processes' tests are done."""
    if hasattr(session.config, "workerinput") or not SWARM_MADE.exists():
        return
    leave = ["docker", "swarm", "leave", "--force"]
    subprocess.run(leave, capture_output=True, check=False)
    # It leaves the bridge that its containers reach the outside by.
    bridge = ["docker", "network", "rm", "docker_gwbridge"]
    subprocess.run(bridge, capture_output=True, check=False)
    SWARM_MADE.unlink()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only root can do, such as making users, where an ordinary user tests."""
    roots = [item for item in items if item.get_closest_marker("root")]
    if roots and os.geteuid() != 0:
        items[:] = [item for item in items if item not in roots]
        config.hook.pytest_deselected(items=roots)


@pytest.fixture(scope="session", autouse=True)
def _own_notes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep notes about killed benches to this process: other commands would name what they left."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    yield
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def _hangups_count() -> None:
    """Let benches see SIGHUP even where the tests run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def client() -> Iterator[DockerClient]:
    """Connect to the engine; without one every test fails, none is skipped."""
    connected = docker.from_env()
    connected.ping()
    yield connected
    connected.close()


def project_of(run_dir: Path, timeout_s: float = 60) -> str:
    """Return the compose project of the bench that writes to ``run_dir``, once it has one."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for path in run_dir.glob("*/compose/project.yaml"):
            found = re.search(r"^name: (\w+)$", path.read_text(), re.MULTILINE)
            if found:
                return found[1]
        time.sleep(0.05)
    pytest.fail(f"no bench started in {run_dir}")


def containers_of(client: DockerClient, project: str) -> list[Container]:
    """Return the project's containers that run. Others' benches may run on this machine too."""
    filters: dict[str, str | list[str] | bool] = {"label": f"{RUN_LABEL}={project}"}
    return client.containers.list(filters=filters, ignore_removed=True)


def agents_projects(client: DockerClient, pid: int) -> set[str]:
    """Return the project of the container that is the agent of a bench's process, if one is.

    Args:
        client: the engine.
        pid: process number of the bench, which may have ended.
    """
    filters: dict[str, str | list[str] | bool] = {"label": OWNER_LABEL}
    labels = [
        *(c.labels for c in client.containers.list(all=True, filters=filters, ignore_removed=True)),
        *(volume.attrs["Labels"] for volume in client.volumes.list(filters=filters)),
    ]
    owners = [(found, BenchProcess.parse(found[OWNER_LABEL])) for found in labels]
    return {
        found[RUN_LABEL]
        for found, owner in owners
        if owner is not None
        and owner.pid == pid
        and found.get(ROLE_LABEL, AGENT_ROLE) == AGENT_ROLE
    }


def left_behind(client: DockerClient, project: str) -> set[str]:
    """Return all containers, networks, volumes and cgroups of a project."""
    filters: dict[str, str | list[str] | bool] = {"label": f"{RUN_LABEL}={project}"}
    return {
        *(str(c.name) for c in client.containers.list(all=True, filters=filters)),
        *(str(n.name) for n in client.networks.list(filters=filters)),
        *(str(v.name) for v in client.volumes.list(filters=filters)),
        # Others' cgroups vanish meanwhile, which a walk takes as it comes.
        *(
            str(Path(directory, name))
            for directory, names, _ in os.walk("/sys/fs/cgroup")
            for name in names
            if name.startswith(project)
        ),
    }


@dataclass
class Bench:
    """A bench that has ended."""

    code: int
    out: str
    err: str
    run_dir: Path

    @property
    def directory(self) -> Path:
        """The one run directory."""
        (found,) = self.run_dir.iterdir()
        return found

    def rows(self, name: str) -> list[dict[str, str]]:
        """Return the rows of one of its CSV files."""
        with (self.directory / name).open(newline="") as file:
            return list(csv.DictReader(file))

    def json(self, name: str) -> dict[str, Any]:
        """Return one of its JSON files."""
        found = json.loads((self.directory / name).read_text())
        assert isinstance(found, dict)
        return found

    @property
    def project(self) -> str:
        """Its compose project."""
        return str(self.manifest["project"])

    @property
    def manifest(self) -> dict[str, Any]:
        """Return its manifest."""
        return self.json("manifest.json")


def start_bench(run_dir: Path, *flags: str, report: bool = False) -> subprocess.Popen[str]:
    """Start ``harness bench`` with a run directory; one topology unless the flags want more."""
    command = [sys.executable, "-m", "harness", "bench", "--isolate", "none", *flags]
    # A report takes three seconds of CPU, and there are more than a hundred benches.
    command += [] if report else ["--no-report"]
    return subprocess.Popen(
        [*command, "--run-dir", str(run_dir)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish_bench(process: subprocess.Popen[str], run_dir: Path, timeout_s: float = 240) -> Bench:
    """Wait for a bench to end."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.terminate()
        out, err = process.communicate(timeout=60)
        pytest.fail(f"the bench hung\n{out}\n{err}")
    return Bench(process.returncode, out, err, run_dir)


def run_bench(run_dir: Path, *flags: str, report: bool = False) -> Bench:
    """Run ``harness bench`` to its end."""
    return finish_bench(start_bench(run_dir, *flags, report=report), run_dir)
