"""Parsl and the standard library's pools: bare, and how they end. In containers: matrix_test.py."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from docker import DockerClient

from tests.integration.conftest import finish_bench, left_behind, run_bench, start_bench

MODES = ("none", "default-proxy", "manual-proxy", "owned-proxy")
WORKLOAD = [
    *("--data-management", *MODES),
    *("--stage-task-counts", "1", "3", "1", "1"),
    *("--stage-bytes-sizes", "1MB", "5MB", "5MB", "5MB", "1000"),
    *("--task-sleep", "0.1"),
]
EXECUTORS = {
    "parsl-thread": ["parsl", "--parsl-executor", "thread", "--parsl-max-workers", "2"],
    "parsl-htex-local": ["parsl", "--parsl-executor", "htex-local", "--parsl-max-workers", "2"],
    "parsl-htex": ["parsl", "--parsl-executor", "htex", "--parsl-max-workers", "2"],
    "thread": ["thread", "--thread-pool-max-workers", "2"],
}


def test_a_bench_of_worker_pools_is_interrupted(tmp_path: Path, client: DockerClient) -> None:
    flags = ["--executor", *EXECUTORS["parsl-htex"], "--ps-connector", "file", *WORKLOAD]
    process = start_bench(tmp_path, *flags, "--repeat", "500")
    wait_for_runs(tmp_path, 2, process)
    process.send_signal(signal.SIGINT)
    bench = finish_bench(process, tmp_path, timeout_s=90)
    assert bench.code == 130
    assert bench.rows("outcomes.csv")[-1]["outcome"] == "interrupted"
    assert "Traceback" not in bench.err
    assert left_behind(client, bench.project) == set()


def test_a_limit_for_workers_that_are_no_containers_is_refused(tmp_path: Path) -> None:
    flags = ["--executor", *EXECUTORS["thread"], "--ps-connector", "file", *WORKLOAD]
    bench = run_bench(tmp_path, *flags, "--worker-memory-limit", "1GB")
    assert bench.code == 2
    assert "--worker-memory-limit" in bench.err


def wait_for_runs(run_dir: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until some runs are in the run directory."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if any(p.read_text().count("\n") > count for p in run_dir.glob("*/outcomes.csv")):
            return
        time.sleep(0.05)
    process.terminate()
    out, err = process.communicate(timeout=60)
    pytest.fail(f"{count} runs were not done in time\n{out}\n{err}")


def wait_for_mark(run_dir: Path, mark: str) -> None:
    """Wait until a run is at a mark: one that is interrupted has a row."""
    deadline = time.monotonic() + 30
    (marks,) = run_dir.glob("*/marks.csv")
    while marks.read_text().splitlines()[-1].split(",")[1] != mark:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def start_run(cwd: Path, *flags: str, more: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start ``harness run`` as the leader of a process group, as a shell does."""
    command = [sys.executable, "-m", "harness", "run", "--executor", *flags]
    command += ["--ps-connector", "file", "--ps-file-dir", "objects", *WORKLOAD, "--run-dir", "r"]
    command += more  # the last of a flag counts
    return subprocess.Popen(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def rows(directory: Path, name: str) -> list[dict[str, str]]:
    (found,) = (directory / "r").iterdir()
    with (found / name).open(newline="") as file:
        return list(csv.DictReader(file))


def still_there(cwd: Path) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(cwd)]


@pytest.mark.parametrize("executor", ["parsl-thread", "parsl-htex-local"])
def test_bare_runs_end(executor: str, tmp_path: Path) -> None:
    process = start_run(tmp_path, *EXECUTORS[executor], "--repeat", "2")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err == ""
    assert [row["outcome"] for row in rows(tmp_path, "outcomes.csv")] == ["ok"] * 8
    assert still_there(tmp_path) == []
    assert not (tmp_path / "objects").exists()


@pytest.mark.parametrize("executor", ["parsl-thread", "parsl-htex-local"])
def test_bare_runs_end_after_ctrl_c(executor: str, tmp_path: Path) -> None:
    process = start_run(tmp_path, *EXECUTORS[executor], "--repeat", "500")
    wait_for_runs(tmp_path / "r", 1, process)
    wait_for_mark(tmp_path / "r", "run_start")
    # To the whole group, as a terminal does.
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=45)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert rows(tmp_path, "outcomes.csv")[-1]["outcome"] == "interrupted"
    assert still_there(tmp_path) == []


def test_a_failing_task_ends_a_bare_run(tmp_path: Path) -> None:
    # No worker has the memory for the second stage's results.
    sizes = ["--stage-bytes-sizes", "1000", "1000", str(10**15), "1000", "1000"]
    process = start_run(tmp_path, *EXECUTORS["parsl-htex-local"], more=sizes)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 1, err
    assert err.startswith("harness run: error: run 0001-none-1 failed: ")
    (outcome,) = rows(tmp_path, "outcomes.csv")
    assert outcome["outcome"] == "failed"
    assert "Traceback" not in err + out
    assert still_there(tmp_path) == []


def test_a_worker_that_is_killed_fails_its_task(tmp_path: Path) -> None:
    # One worker: one that is killed while it waits takes the lock of Parsl's queue with it.
    flags = ["parsl", "--parsl-executor", "htex-local", "--parsl-max-workers", "1"]
    process = start_run(tmp_path, *flags, more=["--task-sleep", "30"])
    marks: list[Path] = []
    deadline = time.monotonic() + 90
    while not marks and time.monotonic() < deadline:
        time.sleep(0.1)
        marks = [p for p in (tmp_path / "r").glob("*/marks.csv") if "run_start" in p.read_text()]
    time.sleep(2)  # now it sleeps in its task
    children = psutil.Process(process.pid).children(recursive=True)
    (pool,) = (p for p in children if "process_worker_pool" in " ".join(p.cmdline()))
    spawned = [p for p in pool.children() if "spawn_main" in " ".join(p.cmdline())]
    # The first is the pool's helper.
    _, worker = sorted(spawned, key=lambda p: p.create_time())
    worker.kill()
    _, err = process.communicate(timeout=25)
    assert process.returncode == 1, err
    assert "WorkerLost" in err
    assert still_there(tmp_path) == []


def test_pools_that_do_not_come_are_infrastructure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("HARNESS_PARSL_DIR", str(tmp_path / "shared"))
    process = start_run(tmp_path, *EXECUTORS["parsl-htex"], more=["--start-timeout", "1"])
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert "0 of 2 Parsl workers joined within 1 s" in err
    assert "Traceback" not in err
    assert still_there(tmp_path) == []


def test_a_users_own_configuration(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from parsl.config import Config\n"
        "from parsl.executors import HighThroughputExecutor\n"
        "from parsl.providers import LocalProvider\n"
        "config = Config(executors=[HighThroughputExecutor(address='127.0.0.1',"
        " max_workers_per_node=2, cores_per_worker=0.1, provider=LocalProvider())])\n"
    )
    flags = ["parsl", "--parsl-config", "mine.py", "--parsl-max-workers", "2"]
    process = start_run(tmp_path, *flags)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert [row["outcome"] for row in rows(tmp_path, "outcomes.csv")] == ["ok"] * 4
    # The pool is seen from inside: manager and workers as one.
    workers = rows(tmp_path, "workers.csv")
    assert {(row["container"], row["worker"]) for row in workers} == {
        ("worker-1", "0"),
        ("worker-1", "1"),
    }
    inside = rows(tmp_path, "memory-inside.csv")
    runs = {row["run_id"] for row in rows(tmp_path, "outcomes.csv")}
    assert {(row["run_id"], row["container"]) for row in inside if row["run_id"]} == {
        (run, "worker-1") for run in runs
    }
    assert min(int(row["n_procs"]) for row in inside if row["run_id"]) >= 3
    deadline = time.monotonic() + 10
    while still_there(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)  # Parsl sends its workers a signal and does not wait
    assert still_there(tmp_path) == []
