"""How an agent's sampling ends, and what it leaves behind each time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.core.errors import InfrastructureError
from harness.results.conversation import MarkWriter
from harness.results.directory import RunDirectory
from harness.results.schema import CgroupRow, PeakRow
from harness.sampling.agent.messages import encode
from harness.sampling.agent.relay import MODULE, Relay, child_agent
from harness.sampling.cgroup.config import SamplerConfig
from harness.sampling.child import ChildStreams
from harness.sampling.report import merge_reports
from tests.unit.sampling.cgroup_dirs import (
    TIMEOUT_S,
    config,
    container,
    read,
    sampling,
    v1,
    wait_until,
)

PARENT = """
import json, sys, time
from pathlib import Path
from harness.results.conversation import MarkWriter
from harness.results.directory import RunDirectory
from harness.sampling.agent.relay import child_agent
from harness.sampling.cgroup.config import config_from

run = Path(sys.argv[1])
config = config_from(json.loads(sys.argv[2]))
with child_agent() as relay, relay.watch(config, RunDirectory(run)):
    with MarkWriter(run / "marks.csv", run / ".marks-ack") as marks:
        marks.write("r1", "run_start")
        marks.write("r1", "run_end")
    print(relay.pid, flush=True)
    time.sleep(60)
"""


def has_ended(pid: int) -> bool:
    """Say whether a process, which is no child of this one, runs no more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


@pytest.mark.parametrize("how", ["SIGTERM", "stop mark", "home"])
def test_every_way_to_end_it_leaves_all_rows_and_a_report(tmp_path: Path, how: str) -> None:
    run = tmp_path / "run"
    configuration = config(run, container(v1(tmp_path / "c1", 100), "worker-1"))
    streams = ChildStreams(MODULE)
    relay = Relay(streams)
    with relay.watch(configuration, RunDirectory(run)) as watch:
        time.sleep(0.1)
        assert watch.poll() is None
        if how == "SIGTERM":
            os.kill(relay.pid, signal.SIGTERM)
            wait_until("the end of the agent", lambda: watch.poll() is not None)
        elif how == "stop mark":
            with MarkWriter(run / "marks.csv") as marks:
                marks.write("", "stop")
            wait_until("report", (run / ".sampling" / "cgroup-host.json").exists)
    assert bool(relay.gone) == (how == "SIGTERM")
    assert streams.close() == 0
    rows = read(run / "memory-cgroup.csv", CgroupRow)
    assert len(rows) == merge_reports(run)["cgroup"]["host"]["grid"]["ticks"] > 0


def test_a_signal_while_nothing_is_watched_ends_it_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with child_agent() as relay:
        with relay.watch(config(run), RunDirectory(run)):
            pass
        # What is blocked while it samples is let through again.
        os.kill(relay.pid, signal.SIGTERM)
        wait_until("the end of the agent", lambda: relay.gone != "")


def test_it_ends_when_its_parent_is_killed_and_what_marks_brought_home_stays(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    configuration = config(run, container(v1(tmp_path / "c1", 100), "worker-1"))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(run), json.dumps(configuration.to_dict())],
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not has_ended(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait(TIMEOUT_S)
    parent.stdout.close()
    wait_until("the end of the agent", lambda: has_ended(pid))
    assert {row["run_id"] for row in read(run / "peaks.csv", PeakRow)} == {"r1"}
    rows = read(run / "memory-cgroup.csv", CgroupRow)
    of_run = [row for row in rows if row["run_id"] == "r1"]
    # The first and the last row of a run are on no tick.
    assert of_run[0]["late_ns"] == of_run[-1]["late_ns"] == ""
    assert len(of_run) >= 2
    # Nobody is there to write what it could still say.
    assert merge_reports(run) == {}


def test_a_ctrl_c_does_not_end_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with child_agent() as relay:
        os.kill(relay.pid, signal.SIGINT)
        configuration = config(run, container(v1(tmp_path / "c1", 100), "worker-1"))
        with relay.watch(configuration, RunDirectory(run)) as watch:
            os.kill(relay.pid, signal.SIGINT)
            time.sleep(0.2)
            assert watch.poll() is None
            assert relay.ask("clock")["mono_ns"] > 0


def test_replies_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    missing = tmp_path / "no"
    one = container(v1(tmp_path / "c1", 100), "worker-1")
    broken = SamplerConfig(shared=str(tmp_path), replies=str(missing), containers=[one])
    with pytest.raises(InfrastructureError) as raised, sampling(broken):
        pytest.fail("nobody can be answered")
    said = str(raised.value)
    assert said.startswith(f"the memory sampler did not start: {missing}/.marks-ack: ")
    assert said.endswith(": No such file or directory")
    assert "\n" not in said


@pytest.mark.parametrize(
    "asked",
    [
        {"id": 1, "do": "watch", "config": {}, "folder": None},
        {"id": 1, "do": "watch", "config": {"containers": 3}, "folder": None},
        {"id": 1, "do": "dance"},
        {"id": 1, "do": "clock", "zone": "UTC"},
    ],
)
def test_what_it_does_not_understand_is_a_usage_error(asked: dict[str, object]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", MODULE],
        input=encode(asked),
        capture_output=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"harness.sampling.agent: not understood: ")
    assert done.stderr.count(b"\n") == 1


def test_an_agent_that_nobody_asks_ends_well() -> None:
    done = subprocess.run(
        [sys.executable, "-m", MODULE], input=b"", capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_agent_stays_small() -> None:
    # It competes for the memory it measures; these are what would make it big.
    code = (
        "import sys, harness.sampling.agent.__main__\n"
        "print([m for m in ('psutil', 'numpy', 'pydantic', 'subprocess', 'docker', 'dask')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=TIMEOUT_S
    )
    assert done.stdout == "[]\n"
