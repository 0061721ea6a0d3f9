"""Directories that are full, read-only or somebody else's, a clock that is stepped, secrets."""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import DockerClient
from docker.models.containers import Container

from harness.images import ensure
from tests.integration.faults.injection import (
    PLAN,
    Cell,
    Table,
    harness,
    inject,
    left_of,
    resume,
    services,
    start,
)

# Several faults each, on a machine that may do much else.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wmh-") as place:
        disk, mounted = Path(place) / "disk", Path(place) / "runs"
        mounted.mkdir()
        subprocess.run(["truncate", "-s", "24M", str(disk)], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(disk)], check=True)
        subprocess.run(["mount", "-o", "loop", str(disk), str(mounted)], check=True)
        try:
            yield mounted
        finally:
            subprocess.run(["umount", "-l", str(mounted)], check=True)


@pytest.mark.root
def test_the_disk_of_the_runs_is_full(small_disk: Path, client: DockerClient, table: Table) -> None:
    bench = start(small_disk, *PLAN, "--repeat", "3", "--cgroup-interval", "0.005")
    filler = small_disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    row = inject(table, bench, "full: the disk under runs/", 2, fill)
    assert (row.outcome, row.service) == ("infrastructure", "disk"), row
    code, _, err = bench.end()
    assert code == 3
    assert "Traceback" not in err
    assert left_of(client, bench) == []
    filler.unlink()
    bench = resume(bench)
    code, _, err = bench.end()
    assert code == 0, err
    assert [r.outcome for r in bench.outcomes()] == ["ok"] * 3
    for path in bench.directory.glob("*.csv"):
        with path.open(newline="") as file:
            widths = {len(row) for row in csv.reader(file)}
        assert len(widths) == 1, path


def test_rows_that_cannot_be_written(tmp_path: Path, client: DockerClient, table: Table) -> None:
    """What a full disk does to rows, for users who cannot mount a small one."""
    bench = start(tmp_path, *PLAN, "--repeat", "3", "--cgroup-interval", "0.005")

    def bound() -> None:
        rows = bench.directory / "memory-cgroup.csv"
        limits = rows.stat().st_size, resource.RLIM_INFINITY
        resource.prlimit(bench.process.pid, resource.RLIMIT_FSIZE, limits)

    row = inject(table, bench, "full: files that may not grow", 2, bound)
    assert row.outcome == "infrastructure", row
    assert "File too large" in row.reason
    code, _, err = bench.end()
    assert code == 3
    assert "Traceback" not in err
    assert left_of(client, bench) == []
    bench = resume(bench)
    code, _, err = bench.end()
    assert code == 0, err
    assert [r.outcome for r in bench.outcomes()] == ["ok"] * 3
    assert left_of(client, bench) == []


@pytest.mark.root
def test_a_read_only_directory(small_disk: Path, table: Table) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    began = time.monotonic()
    done = harness("bench", *PLAN, "--run-dir", str(small_disk))
    took = time.monotonic() - began
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("harness bench: error: --run-dir")
    table.cells.append(
        Cell("wrong: a read-only runs/", "(exit 2)", "", done.stderr.strip(), took, 0, 0, "")
    )


def test_a_plan_that_does_not_fit_in_memory(tmp_path: Path, table: Table) -> None:
    # Every object stays until the end of a run: 400 times 1.6 GB.
    flags = ["--data-management", "default-proxy", "--stage-repeat", "400"]
    flags += ["--stage-bytes-sizes", "1MB", "400MB", "400MB", "400MB"]
    began = time.monotonic()
    done = harness("bench", *PLAN, *flags, "--run-dir", str(tmp_path))
    took = time.monotonic() - began
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("harness bench: error: memory: ")
    assert "--stage-bytes-sizes" in line
    assert "--force" in line
    assert list(tmp_path.iterdir()) == []
    table.cells.append(
        Cell("wrong: a plan that does not fit in memory", "(exit 2)", "", line, took, 0, 0, "")
    )


# Steps the wall clock, as Python programs see it, an hour back once the first run has begun.
_STEP = """
import os, pathlib, time
_time, _time_ns = time.time, time.time_ns
_there = pathlib.Path(os.environ["STEPPED"])
time.time = lambda: _time() - (3600 if _there.exists() else 0)
time.time_ns = lambda: _time_ns() - (3600 * 10**9 if _there.exists() else 0)
"""


def test_a_clock_that_is_stepped(tmp_path: Path, table: Table) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_STEP)
    stepped = tmp_path / "stepped"
    env = {"PYTHONPATH": str(tmp_path / "site"), "STEPPED": str(stepped)}
    flags = "--executor thread --thread-pool-max-workers 2 --ps-connector file --task-sleep 0.5"
    command = [sys.executable, "-m", "harness", "run", *flags.split()]
    command += ["--ps-file-dir", str(tmp_path / "o"), "--run-dir", str(tmp_path / "r")]
    command += ["--data-management", "owned-proxy", "--repeat", "3"]
    command += ["--stage-task-counts", "1", "2", "--stage-bytes-sizes", "10", "10", "10"]
    process = subprocess.Popen(
        command, env=os.environ | env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        marks = list((tmp_path / "r").glob("*/marks.csv"))
        if marks and ",run_start," in marks[0].read_text():
            stepped.touch()
            break
        time.sleep(0.02)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    (directory,) = (tmp_path / "r").iterdir()
    with (directory / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    starts = [float(row["workflow_start_timestamp"]) for row in rows]
    assert starts[1] < starts[0]  # it was stepped
    for row in rows:
        assert 1.0 <= float(row["workflow_makespan_s"]) < 60
    with (
        (directory / "memory-inside.csv").open(newline="")
        if (directory / "memory-inside.csv").exists()
        else (directory / "marks.csv").open(newline="") as file
    ):
        times = [int(row["t_mono_ns"]) for row in csv.DictReader(file)]
    assert times == sorted(times)
    table.cells.append(
        Cell("wrong: a clock stepped by an hour", "ok", "", "makespans unaffected", None, 0, 3, "")
    )


def output(container: Container, *command: str) -> str:
    found = container.exec_run(list(command)).output
    assert isinstance(found, bytes)
    return found.decode(errors="replace")


def test_no_secret_gets_out_and_no_second_bench_gets_in(
    tmp_path: Path, client: DockerClient, table: Table
) -> None:
    ensure(["dask", "redis"], print)  # with a package index that answers
    planted = "PLANTED-5f2c9d"
    env = {
        "PIP_INDEX_URL": f"https://user:{planted}@index.invalid/simple",
        "AWS_SECRET_ACCESS_KEY": planted,
        "GITHUB_TOKEN": planted,
    }
    bench = start(tmp_path, *PLAN, "--repeat", "2", "--task-sleep", "2", env=env)
    bench.wait_for_run(1)
    began = time.monotonic()
    second = harness("bench", "--resume", str(bench.directory))
    took = time.monotonic() - began
    assert second.returncode == 2
    assert "another bench writes there" in second.stderr
    table.cells.append(
        Cell("wrong: two benches, one run directory", "(exit 2)", "", second.stderr, took, 0, 1, "")
    )
    (redis,) = services(client, bench, "redis")
    password = output(redis, "cat", "/harness/secrets/redis").strip()
    assert len(password) > 30
    assert "NOAUTH" in output(redis, "redis-cli", "dbsize")
    secrets = [planted, password]
    for name in ("redis", "worker", "runner", "scheduler"):
        for container in services(client, bench, name):
            shown = str(container.attrs) + str(container.top(ps_args="-eo pid,args"))
            shown += container.logs().decode(errors="replace")
            assert not [secret for secret in secrets if secret in shown], name
            host = container.attrs["HostConfig"]
            assert host["ReadonlyRootfs"] is True
            assert host["CapDrop"] == ["ALL"]
            assert host["PidsLimit"] > 0
            assert host["Privileged"] is False
            assert not [b for b in host["Binds"] or [] if "docker.sock" in b]
            assert "seccomp=unconfined" not in (host["SecurityOpt"] or [])
            assert container.attrs["Config"]["User"].partition(":")[0] != "0"
            assert not host["PortBindings"]
    for network in client.networks.list(filters={"label": "org.workflow-memory-harness.run"}):
        assert network.attrs["Internal"] is True
    code, out, err = bench.end()
    assert code == 0, err
    assert not [secret for secret in secrets if secret in out + err]
    for path in bench.directory.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [s for s in secrets if s.encode() in data], path
    for image in client.images.list(filters={"reference": "workflow-memory-harness/*:latest"}):
        assert planted not in str(image.attrs) + str(image.history())
