"""Agents of several nodes, real ones on this machine: clocks, folders, signals, silence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.clock import Reference
from harness.core.errors import InfrastructureError
from harness.processes import agents
from harness.processes.agents import Agents, NodeRelay
from harness.results.directory import RunDirectory
from harness.results.intake import shared_files
from harness.results.rows import read_rows
from harness.results.schema import NodeRow
from harness.sampling.child import ChildStreams
from harness.sampling.clocks import Offset


@pytest.fixture
def relays() -> Iterator[dict[str, NodeRelay]]:
    found = {node: NodeRelay(ChildStreams("harness.processes.node")) for node in ("w1", "w2")}
    yield found
    for relay in found.values():
        relay.close()


def test_clocks_are_measured_against_the_runners(
    relays: dict[str, NodeRelay], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Agents(relays, "w1", tmp_path / "nodes.csv")
    found.measure(1, "start")
    assert found.references() == {"w1": Reference(), "w2": Reference()}
    # Another clock: 40 ns behind the runner's, as far as home can tell.
    relays["w2"].clock = "another"
    monkeypatch.setattr(relays["w1"], "clock_offset", lambda: Offset(0, 100, 3))
    monkeypatch.setattr(relays["w2"], "clock_offset", lambda: Offset(0, 140, 4))
    found.measure(1, "0001-none-1")
    reference = found.references()["w2"]
    assert (reference.clock, reference.shift_ns) == (relays["w1"].clock, 40)
    assert abs(reference.unix_minus_mono_ns - (time.time_ns() - time.monotonic_ns())) < 10**9
    rows = read_rows(tmp_path / "nodes.csv", NodeRow)
    assert [(r.node, r.moment, r.offset_ns, r.error_ns, r.clock) for r in rows] == [
        ("w1", "start", 0, 0, "same"),
        ("w2", "start", 0, 0, "same"),
        ("w1", "0001-none-1", 0, 0, "same"),
        ("w2", "0001-none-1", 40, 7, "measured"),
    ]


def test_one_node_has_no_clocks_to_measure(relays: dict[str, NodeRelay], tmp_path: Path) -> None:
    Agents({"w1": relays["w1"]}, "w1", tmp_path / "nodes.csv").measure(1, "start")
    assert not (tmp_path / "nodes.csv").exists()


def test_an_agent_that_says_nothing_is_given_up_and_not_waited_for(
    relays: dict[str, NodeRelay], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert relays["w2"].silent() == ""
    os.kill(relays["w2"].pid, signal.SIGSTOP)
    try:
        monkeypatch.setattr(agents, "_SILENT_S", 0.0)
        assert "it has said nothing" in relays["w2"].silent()
        began = time.monotonic()
        with pytest.raises(InfrastructureError, match="it has said nothing"):
            relays["w2"].ask("clock")
        Agents(relays, "w1", Path("nodes.csv")).ask_all("clock")
        assert time.monotonic() - began < 5
    finally:
        os.kill(relays["w2"].pid, signal.SIGCONT)


def test_the_time_that_home_itself_stood_still_is_not_an_agents_silence(
    relays: dict[str, NodeRelay], monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = relays["w2"]
    os.kill(relay.pid, signal.SIGSTOP)
    try:
        now_s = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now_s)
        assert relay.silent() == ""
        now_s += 60
        assert relay.silent() == ""
        for _ in range(20):
            now_s += 0.4
            said = relay.silent()
        assert said == "it has said nothing for 8 s"
    finally:
        os.kill(relay.pid, signal.SIGCONT)


def test_a_nodes_folder_is_private_and_goes_with_its_agent(tmp_path: Path) -> None:
    relay = NodeRelay(ChildStreams("harness.processes.node"))
    try:
        root = tmp_path / "root"
        relay.ask("root", path=str(root))
        names = shared_files(RunDirectory(Path()))
        folder = Path(relay.ask("begin", name="topology-1", files=names, inputs={"a": "eA=="}))
        assert (folder / "a").read_text() == "x"
        assert (root.stat().st_mode & 0o777, (folder / "a").stat().st_mode & 0o777) == (
            0o700,
            0o600,
        )
        assert relay.ask("reads", path=str(folder / "a")) == "x"
        assert relay.ask("reads", path=str(folder / "b")) == ""
        (port,) = relay.ask("ports", count=1)
        assert relay.ask("listens", port=port) is False
    finally:
        relay.close()
    assert not root.exists()


def test_an_agent_whose_job_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    relay = NodeRelay(ChildStreams("harness.processes.node"))
    root = tmp_path / "root"
    relay.ask("root", path=str(root))
    os.kill(relay.pid, signal.SIGTERM)
    relay.close()
    assert not root.exists()


def test_services_are_found_and_signalled(relays: dict[str, NodeRelay]) -> None:
    environment = os.environ | {"HARNESS_STEPS": "wmhtest", "HARNESS_NAMES": "worker-1"}
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    other = subprocess.Popen(command, env=environment)  # has no number: it starts steps
    service = subprocess.Popen(command, env=environment | {"SLURM_PROCID": "0"})
    try:
        deadline = time.monotonic() + 20
        while "worker-1" not in relays["w1"].ask("find", project="wmhtest"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert relays["w1"].ask("find", project="wmhtest")["worker-1"]["pid"] == service.pid
        relays["w1"].ask("signal", project="wmhtest", names=["runner-1"], number=9)
        assert service.poll() is None
        relays["w1"].ask("signal", project="wmhtest", names=[], number=9)
        assert service.wait(20) == -9
        assert other.poll() is None
    finally:
        for process in (other, service):
            process.kill()
            process.wait()
