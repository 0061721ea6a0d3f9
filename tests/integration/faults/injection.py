"""Faults, thrown at benches while they run, and what came of each."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from docker import DockerClient
from docker.models.containers import Container

from harness.results.rows import OutcomeRow, read_rows
from harness.topology.compose import role
from harness.topology.engine import RUN_LABEL
from tests.integration.conftest import agents_projects

# Two seconds or so each; payloads small, so that a fault is what shows.
PLAN = [
    *("--executor", "dask", "--dask-workers", "2", "--ps-connector", "redis"),
    *("--data-management", "owned-proxy", "--stage-task-counts", "1", "2", "1"),
    *("--stage-bytes-sizes", "1MB", "4MB", "4MB", "1000", "--task-sleep", "0.6"),
]
# How late a fault may be noticed on a machine that does much else; the table has what it took.
BOUND_S = 30.0
PATIENCE_S = 120.0


@dataclass
class Cell:
    """One row of the fault table."""

    fault: str
    outcome: str
    service: str
    reason: str
    detected_s: float | None
    rows_before: int
    rows_after: int
    left: str


@dataclass
class Table:
    """The cells of one test."""

    cells: list[Cell] = field(default_factory=list)


@dataclass
class RunningBench:
    """A bench in a directory of its own."""

    process: subprocess.Popen[str]
    parent: Path
    directory: Path

    def outcomes(self) -> list[OutcomeRow]:
        path = self.directory / "outcomes.csv"
        if not path.exists():
            return []
        # A row may be under way.
        text = path.read_text()
        whole = self.parent / "outcomes-whole.csv"
        whole.write_text(text[: text.rfind("\n") + 1])
        return read_rows(whole, OutcomeRow)

    def results(self) -> list[dict[str, str]]:
        with (self.directory / "results.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if self.process.poll() is not None and not condition():
                out, err = self.process.communicate()
                pytest.fail(f"the bench ended before {what}\n{out}\n{err}")
            if time.monotonic() > deadline:
                self.process.terminate()
                out, err = self.process.communicate()
                pytest.fail(f"no {what} in {PATIENCE_S} s\n{out}\n{err}")
            time.sleep(0.02)

    def wait_for_run(self, number: int) -> None:
        """Wait until a run is being measured."""
        start = f"\n{number:04d}-"

        def begun() -> bool:
            marks = self.directory / "marks.csv"
            text = marks.read_text() if marks.exists() else ""
            return (
                any(
                    line.startswith(start[1:]) and ",run_start," in line
                    for line in text.splitlines()
                )
                and len(self.outcomes()) == number - 1
            )

        self.wait_until(begun, f"run {number}")

    def wait_for_rows(self, number: int) -> None:
        self.wait_until(lambda: len(self.outcomes()) >= number, f"outcome {number}")

    def end(self, timeout_s: float = PATIENCE_S) -> tuple[int, str, str]:
        try:
            out, err = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            pytest.fail(f"the bench hung\n{out}\n{err}")
        return self.process.returncode, out, err


def harness(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of the harness to its end."""
    return subprocess.run(
        [sys.executable, "-m", "harness", *words],
        env=os.environ | (env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def start(parent: Path, *flags: str, env: dict[str, str] | None = None) -> RunningBench:
    """Start a bench and wait until it has its run directory."""
    before = set(parent.iterdir()) if parent.exists() else set()
    process = _popen(["bench", "--no-report", *flags, "--run-dir", str(parent)], env)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        made = set(parent.glob("workflow-memory-*")) - before
        if made:
            return RunningBench(process, parent, made.pop())
        time.sleep(0.02)
    out, err = process.communicate()
    pytest.fail(f"no run directory\n{out}\n{err}")


def resume(bench: RunningBench) -> RunningBench:
    """Start the rest of a bench that has ended."""
    process = _popen(["bench", "--resume", str(bench.directory)], None)
    return RunningBench(process, bench.parent, bench.directory)


def _popen(words: list[str], env: dict[str, str] | None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *words],
        env=os.environ | (env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def projects(directory: Path) -> set[str]:
    """Return the compose projects of all topologies that a bench has had, by its run directory."""
    return {
        line.split()[1]
        for path in (directory / "compose").glob("project*.yaml")
        for line in path.read_text().splitlines()
        if line.startswith("name: ")
    }


def containers(client: DockerClient, bench: RunningBench) -> list[Container]:
    """Return the containers of a bench's topologies that run now."""
    found = client.containers.list(filters={"label": RUN_LABEL}, ignore_removed=True)
    ours = projects(bench.directory)
    return [c for c in found if c.labels[RUN_LABEL] in ours and c.status == "running"]


def services(client: DockerClient, bench: RunningBench, name: str) -> list[Container]:
    """Return a service's containers of the newest topology."""
    found = [c for c in containers(client, bench) if role(c) == name]
    newest = max((c.attrs["Created"] for c in found), default="")
    project = next((c.labels[RUN_LABEL] for c in found if c.attrs["Created"] == newest), "")
    return [c for c in found if c.labels[RUN_LABEL] == project]


def inject(
    table: Table,
    bench: RunningBench,
    fault: str,
    number: int,
    act: Callable[[], object],
) -> OutcomeRow:
    """Throw a fault at a run; wait for its outcome, note both."""
    bench.wait_for_run(number)
    before = len(bench.outcomes())
    thrown = time.monotonic()
    act()
    bench.wait_for_rows(number)
    took = time.monotonic() - thrown
    row = bench.outcomes()[number - 1]
    table.cells.append(
        Cell(
            fault,
            row.outcome,
            row.service or "",
            row.reason,
            took,
            before,
            len(bench.outcomes()),
            "",
        )
    )
    return row


def kill_sampler(client: DockerClient, bench: RunningBench) -> None:
    """Kill what samples a bench from outside: its agent, whatever form that has."""
    for project in agents_projects(client, bench.process.pid):
        return client.containers.get(f"{project}-agent").kill()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if (
                parent == bench.process.pid
                and b"harness.sampling.agent" in (path / "cmdline").read_bytes()
            ):
                return kill_host_process(int(path.name))
        except (OSError, ValueError):
            continue
    raise AssertionError("the bench has no agent")


def left_of(client: DockerClient, bench: RunningBench) -> list[str]:
    """Return all that is left of every topology of a bench."""
    return left_in(client, bench.directory, agents_projects(client, bench.process.pid))


def left_in(client: DockerClient, directory: Path, agents: Set[str] = frozenset()) -> list[str]:
    """Return all that is left of the topologies of a run directory, and of agents."""
    found: list[str] = []
    ours = projects(directory)
    assert ours
    for project in ours | agents:
        filters: dict[str, str | list[str] | bool] = {"label": f"{RUN_LABEL}={project}"}
        found += [
            str(c.name)
            for c in client.containers.list(all=True, filters=filters, ignore_removed=True)
        ]
        found += [str(n.name) for n in client.networks.list(filters=filters)]
        found += [str(v.name) for v in client.volumes.list(filters=filters)]
        found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{project}*")]
    found += [path.name for path in directory.iterdir() if path.name.startswith(".")]
    return found


def kill_host_process(pid: int) -> None:
    """Kill a process of this machine, whatever container it is in."""
    os.kill(pid, signal.SIGKILL)
