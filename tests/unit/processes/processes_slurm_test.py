"""An allocation, its steps, the script, and how processes are found on a node."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli._slurm import _places, _without, script_text
from harness.cli.main import main
from harness.core.errors import UsageError
from harness.processes.node import find
from harness.processes.service import own_name
from harness.processes.services import Step
from harness.processes.slurm import Allocation, start
from harness.processes.topology import spanning

FLAGS = (
    "--executor dask --dask-workers 2 --ps-connector file --stage-task-counts 1 1"
    " --stage-bytes-sizes 1KB 1KB 1KB --task-sleep 0"
)


def test_without_an_allocation_the_remedy_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert main(["slurm", *FLAGS.split()]) == 2
    assert "no allocation of Slurm: run it in 'salloc" in capsys.readouterr().err


def test_what_the_allocation_was_asked_for_does_not_reach_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "100")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    found = Allocation("7", ["w1"]).environment({"A": "b"})
    assert found["A"] == "b"
    assert found["SLURM_JOB_ID"] == "7"
    assert "SLURM_MEM_PER_CPU" not in found


def test_a_step_is_on_one_node_and_takes_nothing_from_others() -> None:
    command = Allocation("7", ["w1", "w2"]).command("w2", "harness-worker", 3)
    for word in ("--jobid=7", "--nodelist=w2", "--ntasks=3", "--overlap", "--unbuffered"):
        assert word in command


@pytest.mark.parametrize(
    "directory",
    [
        "/sys/fs/cgroup/memory/slurm_w1/uid_5001/job_7/step_2/task_0",
        "/sys/fs/cgroup/system.slice/w1_slurmstepd.scope/job_7/step_2/user/task_0",
    ],
)
def test_a_cgroup_is_one_of_the_jobs_steps(directory: str) -> None:
    assert Allocation("7", ["w1"]).stranger(directory) == ""
    assert "no memory cgroup of its own" in Allocation("77", ["w1"]).stranger(directory)
    assert "no memory cgroup of its own" in Allocation("7", ["w1"]).stranger("/sys/fs/cgroup/x")


def test_scopes_of_which_a_part_is_elsewhere_name_the_node() -> None:
    steps = [
        Step("scheduler", "w1", ["scheduler-1"], []),
        Step("worker", "w1", ["worker-1"], []),
        Step("worker", "w2", ["worker-2"], []),
    ]
    assert spanning(steps, "w1") == {"worker": "worker@w1", "topology": "topology@w1"}
    assert spanning(steps, "w2") == {"worker": "worker@w2", "topology": "topology@w2"}
    assert spanning(steps[:2], "w1") == {}


def test_workers_may_keep_away_from_the_first_node() -> None:
    two, one = Allocation("7", ["w1", "w2"]), Allocation("7", ["w1"])
    assert _places(two, "all").workers == ["w1", "w2"]
    assert _places(two, "others").workers == ["w2"]
    assert _places(two, "others").first == "w1"
    with pytest.raises(UsageError, match="--workers-on others"):
        _places(one, "others")


def test_the_script_runs_the_same_flags() -> None:
    argv = ["--script", "job.sh", "--sbatch=--nodes=2", "--sbatch", "-t 5", "--run-dir", "a b"]
    assert _without(argv) == ["--run-dir", "a b"]
    text = script_text(["--nodes=2", "-t 5"], ["--run-dir", "a b"])
    assert text.splitlines() == [
        "#!/bin/sh",
        "#SBATCH --nodes=2",
        "#SBATCH -t 5",
        f"exec {sys.executable} -m harness slurm --run-dir 'a b'",
    ]


def test_a_script_is_written_once_and_needs_a_number_of_nodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.sh"
    words = ["slurm", "--script", str(path), "--", *FLAGS.split()]
    assert main(words) == 2
    assert "--sbatch=--nodes=N" in capsys.readouterr().err
    assert not path.exists()
    assert main([*words[:3], "--sbatch=--nodes=2", *words[3:]]) == 0
    assert "#SBATCH --nodes=2" in path.read_text()
    assert main([*words[:3], "--sbatch=--nodes=2", *words[3:]]) == 2
    assert "is there already" in capsys.readouterr().err


def test_options_for_a_script_alone_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["slurm", "--sbatch=--nodes=2", *FLAGS.split()]) == 2
    assert "--sbatch: is for a script" in capsys.readouterr().err


def test_each_process_of_a_step_takes_its_own_name() -> None:
    names = {"HARNESS_NAMES": "worker-3,worker-4"}
    assert own_name(names | {"SLURM_PROCID": "1"}) == "worker-4"
    assert own_name({"HARNESS_NAMES": "runner-1"}) == "runner-1"


def test_a_service_is_found_by_its_first_process_that_has_a_number(tmp_path: Path) -> None:
    def process(pid: int, started: int, **environment: str) -> None:
        there = tmp_path / str(pid)
        there.mkdir()
        text = "".join(f"{key}={value}\0" for key, value in environment.items())
        (there / "environ").write_text(text)
        (there / "stat").write_text(f"{pid} (a ) b) S {'0 ' * 18}{started} 0\n")

    own = {"HARNESS_STEPS": "wmh1", "HARNESS_NAMES": "worker-1,worker-2"}
    process(10, 5, **own)  # srun, which was first
    process(11, 9, **own, SLURM_PROCID="1")
    process(12, 7, **own, SLURM_PROCID="1")
    process(13, 1, **own | {"HARNESS_STEPS": "wmh2"}, SLURM_PROCID="0")
    (tmp_path / "self").mkdir()
    found = find("wmh1", tmp_path)
    assert {name: said["pid"] for name, said in found.items()} == {"worker-2": 12}


def test_what_a_step_says_last_is_its_error(tmp_path: Path) -> None:
    script = "echo hello; echo 'harness run: error: no Redis server answers' >&2; exit 3"
    step = start(["sh", "-c", script], dict(os.environ), tmp_path / "logs" / "runner-1.log")
    step.process.wait(10)
    with step.log.open("a") as log:
        log.write("srun: error: w1: task 0: Exited with exit code 3\n")
    assert step.exit_code == 3
    assert step.last_words() == "no Redis server answers"


def test_a_step_that_does_not_end_is_ended(tmp_path: Path) -> None:
    step = start(["sleep", "60"], dict(os.environ), tmp_path / "log")
    step.end(0.1)
    assert step.exit_code == 128 + 15


def test_a_service_samples_what_it_started(tmp_path: Path) -> None:
    environment = os.environ | {
        "HARNESS_NAMES": "worker-1",
        "HARNESS_RUN_DIR": str(tmp_path),
        "HARNESS_INSIDE_INTERVAL": "0.05",
    }
    code = "import os, time; print(os.environ['HARNESS_CONTAINER'], '{name}'); time.sleep(0.5)"
    done = subprocess.run(
        [sys.executable, "-m", "harness.processes.service", "--", sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "worker-1 worker-1\n"
    rows = (tmp_path / "memory-inside.csv").read_text().splitlines()[1:]
    assert rows
    # One process is counted, however many the machine has.
    assert {row.split(",")[5] for row in rows if row.split(",")[1] == "worker-1"} <= {"0", "1"}
