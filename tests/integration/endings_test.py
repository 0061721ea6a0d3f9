"""However a bench ends, its rows are kept and everything is taken down."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from docker import DockerClient
from docker.models.containers import Container

from harness.topology.compose import role
from tests.integration.conftest import (
    EXAMPLE,
    Bench,
    containers_of,
    finish_bench,
    left_behind,
    project_of,
    run_bench,
    start_bench,
)

# The last of a flag counts.
LONG = [*EXAMPLE, "--ps-connector", "redis", "--dask-workers", "2", "--repeat", "500"]
LONG += ["--fail-fast"]
SHRINK_REDIS = 'REDISCLI_AUTH="$(cat /harness/secrets/redis)" redis-cli config set maxmemory 1mb'


def service(client: DockerClient, run_dir: Path, name: str) -> Container:
    found = containers_of(client, project_of(run_dir))
    return next(container for container in found if role(container) == name)


def after_the_first_run(
    run_dir: Path, act: Callable[[subprocess.Popen[str]], object], *flags: str
) -> Bench:
    """Start a long bench, do something once a run is finished, and wait for the end."""
    process = start_bench(run_dir, *LONG, *flags)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if any(path.read_text().count("\n") >= 2 for path in run_dir.glob("*/outcomes.csv")):
            break
        time.sleep(0.05)
    try:
        act(process)
    finally:
        bench = finish_bench(process, run_dir, timeout_s=90)
    return bench


def check_what_is_left(bench: Bench, client: DockerClient, last: str) -> str:
    """Check rows and remains; return the reason of the last outcome."""
    outcomes = bench.rows("outcomes.csv")
    assert outcomes[0]["outcome"] == "ok"
    assert outcomes[-1]["outcome"] == last
    finished = [row for row in outcomes if row["outcome"] == "ok"]
    assert len(bench.rows("results.csv")) == len(finished) == len(outcomes) - 1
    assert left_behind(client, bench.project) == set()
    assert "Traceback" not in bench.err
    assert str(bench.directory) in bench.out
    return outcomes[-1]["reason"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_bench(number: signal.Signals, tmp_path: Path, client: DockerClient) -> None:
    bench = after_the_first_run(tmp_path, lambda process: process.send_signal(number))
    assert bench.code == 130
    check_what_is_left(bench, client, "interrupted")


def test_a_reader_that_goes_away(tmp_path: Path, client: DockerClient) -> None:
    flags = [*EXAMPLE, "--ps-connector", "file", "--dask-workers", "2"]
    process = start_bench(tmp_path, *flags)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    assert process.wait(120) == 141
    (directory,) = tmp_path.iterdir()
    bench = Bench(1, "", "", tmp_path)
    assert [row["outcome"] for row in bench.rows("outcomes.csv")] == ["ok"] * 4
    assert left_behind(client, bench.project) == set()
    assert (directory / "sampling.json").exists()


def test_a_failing_task(tmp_path: Path, client: DockerClient) -> None:
    # Redis refuses what does not fit: the task that stores its result fails.
    def shrink(_: object) -> None:
        service(client, tmp_path, "redis").exec_run(["sh", "-c", SHRINK_REDIS])

    bench = after_the_first_run(tmp_path, shrink, "--data-management", "owned-proxy")
    assert bench.code == 1
    reason = check_what_is_left(bench, client, "failed")
    assert "maxmemory" in reason
    assert bench.err.splitlines()[-1].startswith("harness bench: error: run ")


def test_a_worker_that_dies(tmp_path: Path, client: DockerClient) -> None:
    bench = after_the_first_run(tmp_path, lambda _: service(client, tmp_path, "worker").kill())
    assert bench.code == 1
    reason = check_what_is_left(bench, client, "killed")
    assert "worker-" in reason
    assert "exit code 137" in reason
    peaks = [row for row in bench.rows("peaks.csv") if row["scope"] == "service"]
    last = bench.rows("outcomes.csv")[-1]["run_id"]
    # Its own counter is gone with the container; its service's parent still has the peak.
    (worker,) = (r for r in peaks if r["run_id"] == last and r["name"] == "worker")
    assert worker["peak_kind"] != "sampled"


def test_a_worker_that_outgrows_its_limit(tmp_path: Path, client: DockerClient) -> None:
    flags = [*EXAMPLE, "--ps-connector", "redis", "--worker-memory-limit", "150MB"]
    sizes = ["--stage-bytes-sizes", "1000", "1000", "200MB", "1000", "1000"]
    bench = run_bench(tmp_path, *flags, *sizes, "--data-management", "owned-proxy")
    assert bench.code == 1
    (outcome,) = bench.rows("outcomes.csv")
    assert outcome["outcome"] == "memory"
    assert outcome["service"].startswith("worker-")
    assert "killed for lack of memory" in outcome["reason"]
    assert left_behind(client, bench.project) == set()


def test_bad_input_starts_nothing(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.touch()
    bench = run_bench(blocker, *EXAMPLE, "--ps-connector", "file")
    assert bench.code == 2
    assert "--run-dir" in bench.err
    assert bench.err.count("\n") == 1
    for wrong in (["--executor", "slurm"], ["--dask-workers", "0"], ["--repat", "3"]):
        bench = run_bench(tmp_path / "none", *EXAMPLE, "--ps-connector", "file", *wrong)
        assert bench.code == 2
        assert wrong[0] in bench.err
        assert bench.err.count("\n") == 1
        assert "Starting" not in bench.err
    assert not (tmp_path / "none").exists()
