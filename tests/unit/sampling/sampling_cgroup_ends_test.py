"""How the host sampler ends, and what it leaves behind each time."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness.sampling.cgroup.process import CgroupSamplerProcess

from harness.core.errors import InfrastructureError
from harness.results.conversation import MarkWriter
from harness.results.schema import CgroupRow
from harness.sampling.cgroup.config import ContainerConfig, SamplerConfig, config_from_json
from harness.sampling.report import merge_reports
from tests.unit.sampling.cgroup_dirs import TIMEOUT_S, config, container, read, v1, wait_until


def start_plain(configuration: SamplerConfig) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.sampling.cgroup.sampler"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(configuration.to_json())
    process.stdin.flush()
    assert '"ready": true' in process.stdout.readline()
    return process


@pytest.mark.parametrize("how", ["SIGTERM", "stop mark", "end of input"])
def test_every_way_to_end_it_leaves_all_rows_and_a_report(tmp_path: Path, how: str) -> None:
    run = tmp_path / "run"
    one = v1(tmp_path / "c1", 100)
    process = start_plain(config(run, container(one, "worker-1")))
    time.sleep(0.1)
    if how == "SIGTERM":
        process.terminate()
    elif how == "stop mark":
        with MarkWriter(run / "marks.csv") as marks:
            marks.write("", "stop")
    else:
        assert process.stdin is not None
        process.stdin.close()
    assert process.wait(TIMEOUT_S) == 0
    rows = read(run / "memory-cgroup.csv", CgroupRow)
    assert len(rows) == merge_reports(run)["cgroup"]["host"]["grid"]["ticks"] > 0
    for stream in (process.stdin, process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    one = v1(tmp_path / "c1", 100)
    code = (
        "import sys, time\n"
        "from harness.sampling.cgroup.config import config_from_json\n"
        "from harness.sampling.cgroup.process import CgroupSamplerProcess\n"
        "with CgroupSamplerProcess(config_from_json(sys.argv[1])):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    line = config(run, container(one, "worker-1")).to_json()
    parent = subprocess.Popen([sys.executable, "-c", code, line], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    parent.send_signal(signal.SIGKILL)
    parent.wait(TIMEOUT_S)
    wait_until("report", (run / ".sampling" / "cgroup-host.json").exists)
    parent.stdout.close()


def test_a_ctrl_c_does_not_end_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    one = v1(tmp_path / "c1", 100)
    process = start_plain(config(run, container(one, "worker-1")))
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    process.terminate()
    assert process.wait(TIMEOUT_S) == 0
    process.communicate()


def test_a_run_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    one = v1(tmp_path / "c1", 100)
    broken = SamplerConfig(run_dir=str(tmp_path / "no"), containers=[container(one, "worker-1")])
    with (
        pytest.raises(InfrastructureError, match="did not start \\(exit code 3\\)"),
        CgroupSamplerProcess(broken),
    ):
        pass


def test_a_bad_configuration_is_a_usage_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness.sampling.cgroup.sampler"],
        input="{}\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 2
    assert "bad configuration" in done.stderr


def test_the_configuration_survives_its_line(tmp_path: Path) -> None:
    configuration = config(tmp_path, ContainerConfig("a", "b", 3, "4"), topology_parent="/x")
    line = configuration.to_json()
    assert line.count("\n") == 1
    assert config_from_json(line) == configuration


def test_the_sampler_stays_small() -> None:
    # It competes for the memory it measures; these are what would make it big.
    code = (
        "import sys, harness.sampling.cgroup.sampler\n"
        "print([m for m in ('psutil', 'numpy', 'pydantic', 'subprocess', 'docker', 'dask')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=TIMEOUT_S
    )
    assert done.stdout == "[]\n"
