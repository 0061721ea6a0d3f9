"""Traced runs in real containers: who holds a peak, in figures that add up to the kernel's."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from harness.analysis.why import OWN_PEAK, Account, Why, read_why
from harness.results.directory import RunDirectory
from tests.integration.conftest import finish_bench, run_bench, start_bench

MB = 1_000_000


def test_a_peak_is_named_down_to_the_line_in_containers_as_they_are(tmp_path: Path) -> None:
    line = (
        "--executor dask --dask-workers 1 --ps-connector redis --data-management default-proxy"
        " --stage-task-counts 2 1 --stage-bytes-sizes 20MB 5MB 1KB --task-sleep 0 --why only"
        " --dask-config distributed.admin.log-length=100 --env redis:EXAMPLE=$5"
    )
    limit = "client-output-buffer-limit=normal 256mb 64mb 10"
    bench = run_bench(tmp_path, *line.split(), "--redis-config", limit)
    assert bench.code == 0, bench.err
    why = read_why(bench.directory)
    assert why.problems == ()
    own = {a.service: a for a in why.accounts if a.moment == OWN_PEAK}
    assert set(own) == {"runner", "scheduler", "worker"}
    for service in ("runner", "worker"):
        account = own[service]
        assert account.kernel_bytes is not None
        assert account.kernel_bytes > 40 * MB
        assert 0.9 <= account.named_bytes / account.kernel_bytes <= 1.15
    # The two inputs that proxies keep, and one that is being stored.
    inputs = own["runner"].holders[0]
    assert inputs.place.startswith("payload (harness/workflow/tasks.py:")
    assert inputs.copies == {20 * MB: 2}
    assert "the runner holds two inputs of 20.0 MB because proxies keep their targets" in bench.out
    (server,) = why.servers
    assert server.at_peak.dataset_bytes >= 20 * MB
    # It is marked, and not among results.
    within = bench.directory / "why"
    assert not (bench.directory / "results.csv").exists()
    assert ",ok,traced," in (within / "outcomes.csv").read_text()
    assert '"traced": true' in (within / "plan.json").read_text()
    assert not list(within.glob("shared/*"))
    # What the flags set is in the containers.
    project = yaml.safe_load((within / "compose" / "project.yaml").read_text())["services"]
    assert project["redis"]["environment"]["EXAMPLE"] == "$$5"
    assert project["redis"]["environment"]["HARNESS_REDIS_SETTINGS"] == limit
    for service in ("scheduler", "worker", "runner"):
        environment = project[service]["environment"]
        assert environment["DASK_DISTRIBUTED__ADMIN__LOG_LENGTH"] == "100"


def own_peaks(why: Why, mode: str) -> dict[str, Account]:
    """Return of each service the highest container at its own peak."""
    run_id = next(run.run_id for run in why.session.runs if run.mode == mode)
    return {account.service: account for account in why.highest(run_id, OWN_PEAK)}


def attributed(account: Account) -> float:
    assert account.attributed is not None
    return account.attributed


def test_parsls_own_processes_are_traced_and_compiled_code_is_named(tmp_path: Path) -> None:
    line = (
        "--executor parsl --parsl-executor htex --parsl-max-workers 1 --ps-connector file"
        " --data-management none --stage-task-counts 1 1 --stage-bytes-sizes 50MB 5MB 1KB"
        " --task-sleep 0 --why only-native"
    )
    bench = run_bench(tmp_path, *line.split())
    assert bench.code == 0, bench.err
    why = read_why(bench.directory)
    assert why.problems == ()
    # The runner and its interchange; the manager of the pool, the worker, and who keeps notes.
    assert {trace.container for trace in why.traces} == {"runner-1", "worker-1"}
    assert sum(t.container == "runner-1" for t in why.traces) == 2
    assert sum(t.container == "worker-1" for t in why.traces) == 3
    own = own_peaks(why, "none")
    for service in ("runner", "worker"):
        # What was asked for counts, also a buffer that is just being filled.
        assert 0.9 <= attributed(own[service]) <= 1.5
    # What ZeroMQ's threads have, no frame of Python is in.
    zmq = [holder for holder in own["runner"].holders if holder.library == "libzmq"]
    assert sum(holder.payload_bytes for holder in zmq) >= 50 * MB
    worker = {holder.place.partition(" ")[0] for holder in own["worker"].holders}
    assert "unpack_buffers" in worker
    assert re.search(r"cop(y|ies) of 50\.0 MB in messages of ZeroMQ", bench.out)
    assert "What tracing cost is not known" in bench.out


def test_globus_computes_endpoints_are_traced(tmp_path: Path) -> None:
    line = (
        "--executor globus --globus-workers 1 --ps-connector redis --data-management default-proxy"
        " --stage-task-counts 1 1 --stage-bytes-sizes 50MB 5MB 1KB --task-sleep 0 --why only"
    )
    bench = run_bench(tmp_path, *line.split())
    assert bench.code == 0, bench.err
    why = read_why(bench.directory)
    assert why.problems == ()
    processes = [trace.command for trace in why.traces if trace.container == "worker-1"]
    # The endpoint, the one that it has started for its user, interchange, manager and worker.
    assert len(processes) >= 5, processes
    assert any("interchange" in command for command in processes)
    assert {trace.container for trace in why.traces} == {"runner-1", "service-1", "worker-1"}
    for service in ("runner", "worker"):
        assert 0.9 <= attributed(own_peaks(why, "default-proxy")[service]) <= 1.15


def test_proxystores_endpoint_is_traced(tmp_path: Path) -> None:
    line = (
        "--executor dask --dask-workers 1 --ps-connector endpoint --data-management default-proxy"
        " --stage-task-counts 1 1 --stage-bytes-sizes 50MB 5MB 1KB --task-sleep 0 --why only"
    )
    bench = run_bench(tmp_path, *line.split())
    assert bench.code == 0, bench.err
    why = read_why(bench.directory)
    assert why.problems == ()
    account = own_peaks(why, "default-proxy")["endpoint"]
    assert account.kernel_bytes is not None
    assert account.kernel_bytes > 50 * MB
    assert 0.9 <= attributed(account) <= 1.15


@pytest.mark.parametrize("word", ["after", "only"])
def test_a_traced_bench_that_was_interrupted_goes_on(tmp_path: Path, word: str) -> None:
    line = (
        "--executor process --process-pool-max-workers 1 --ps-connector file --data-management none"
        " default-proxy owned-proxy --stage-task-counts 1 --stage-bytes-sizes 5MB 1KB"
        f" --task-sleep 0.1 --isolate mode --why {word}"
    )
    process = start_bench(tmp_path, *line.split())
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("*/why/outcomes.csv")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    bench = finish_bench(process, tmp_path)
    assert bench.code == 130
    before = outcomes(bench.directory / "why")
    assert before

    done = subprocess.run(
        [sys.executable, "-m", "harness", "bench", "--resume", str(bench.directory)],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    after = outcomes(bench.directory / "why")
    runs = ["0001-none-1", "0002-default-proxy-1", "0003-owned-proxy-1"]
    assert [row["run_id"] for row in after if row["outcome"] == "ok"] == runs
    why = read_why(bench.directory)
    assert why.problems == ()
    assert {trace.run_id for trace in why.traces} == set(runs)
    # Each run once: what was done before was not done again.
    assert after[: len(before)] == before
    measured = RunDirectory(bench.directory).outcomes
    if word == "after":
        assert [row["run_id"] for row in outcomes(bench.directory)] == runs
        assert "Tracing cost, beside the untraced runs: none " in done.stdout
    else:
        assert not measured.exists()


def outcomes(directory: Path) -> list[dict[str, str]]:
    with (directory / "outcomes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_without_containers_parsls_own_processes_are_traced_too(tmp_path: Path) -> None:
    line = (
        "--executor parsl --parsl-executor htex-local --parsl-max-workers 1 --ps-connector file"
        f" --ps-file-dir {tmp_path}/store --data-management none --stage-task-counts 1"
        f" --stage-bytes-sizes 20MB 1KB --task-sleep 0 --why only --run-dir {tmp_path}/runs"
    )
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run", *line.split()],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (directory,) = (tmp_path / "runs").iterdir()
    why = read_why(directory)
    assert why.problems == ()
    # Itself, the interchange, the manager of the pool, who keeps notes for it, and the worker.
    assert len(why.traces) == 5
    assert all(trace.peak_bytes >= 40 * MB for trace in why.traces)
