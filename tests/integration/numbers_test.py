"""Topologies of their own, calibration, and what survives the harness being killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from docker import DockerClient

from tests.integration.conftest import (
    EXAMPLE,
    Bench,
    agents_projects,
    left_behind,
    project_of,
    run_bench,
    start_bench,
)

MODES = ("default-proxy", "manual-proxy", "owned-proxy")


def test_a_fresh_topology_for_each_mode_with_warm_ups(tmp_path: Path, client: DockerClient) -> None:
    flags = ["--dask-workers", "2", "--ps-connector", "redis", "--isolate", "mode", "--warmup", "1"]
    bench = run_bench(tmp_path, *EXAMPLE, *flags, "--data-management", *MODES)
    assert bench.code == 0, bench.err
    topologies = bench.manifest["topologies"]
    assert [topology["runs"] for topology in topologies] == [[1, 1], [2, 2], [3, 3]]
    assert len({topology["project"] for topology in topologies}) == 3
    for topology in topologies:
        settings = {tuple(found) for found in topology["malloc"].values()}
        assert settings == {("MALLOC_TRIM_THRESHOLD_=65536",)}
        assert set(topology["malloc"]) == {"redis", "runner", "scheduler", "worker"}
        assert left_behind(client, topology["project"]) == set()
    assert [row["data_management"] for row in bench.rows("results.csv")] == list(MODES)
    assert [row["outcome"] for row in bench.rows("outcomes.csv")] == ["ok"] * 3
    check_predictions(bench)
    # Each topology has all of its samplers' reports, and its peaks and samples are its own.
    assert set(bench.json("sampling.json")["cgroup"]) == {"host", "host@2", "host@3"}
    assert (bench.directory / "logs" / "topology-3" / "redis-1.log").exists()
    for view in ("cgroup", "inside"):
        runs = {row["run_id"] for row in bench.rows(f"memory-{view}.csv")}
        assert {row["run_id"] for row in bench.rows("phases.csv")} <= runs
    assert len(bench.rows("phases.csv")) == 6


def check_predictions(bench: Bench) -> None:
    """Check what Redis held at every stage boundary, and what it says of its own memory."""
    predicted = {
        (row["data_management"], row["cycle"], row["stage"]): row
        for row in bench.rows("predictions.csv")
    }
    rows = bench.rows("storage.csv")
    audits = [row for row in rows if row["mark"] == "stage"]
    assert len(audits) == len(predicted) == 3 * 6
    for row in audits:
        mode = row["run_id"].partition("-of-0001-")[2] or row["run_id"].partition("-of-")[2][5:]
        expected = predicted[mode.rpartition("-")[0], row["cycle"], row["stage"]]
        assert row["objects"] == expected["objects"]
        size = int(expected["size_bytes"])
        assert int(row["size_bytes"]) == pytest.approx(size, rel=0.01)
        assert int(row["server_used_bytes"]) > size
        assert int(row["server_rss_bytes"]) > 0
    assert "In the connector" in bench.out


def test_calibration_holds_every_view_against_the_truth(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", "calibrate", "--repeat", "3", "--run-dir", "r"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    found = json.loads((tmp_path / "r" / "calibration.json").read_text())
    assert done.returncode == (0 if found["within"] else 1), done.stderr
    assert "Traceback" not in done.stderr
    checks = {(check["view"], check["column"], check["step"]): check for check in found["checks"]}
    # What does not depend on how busy the machine is.
    for key in (
        ("peak", "peak_bytes", "all"),
        ("cgroup", "shmem_bytes", "written"),
        ("cgroup", "file_bytes", "written"),
        ("cgroup", "file_bytes", "unlinked"),
        ("cgroup", "anon_bytes", "shared"),
        ("inside", "rss_sum_bytes", "written"),
        ("inside", "rss_sum_bytes", "shared"),
    ):
        assert checks[key]["within"], checks[key]
    assert checks["peak", "peak_bytes", "all"]["says"].startswith("kernel")
    assert abs(checks["peak", "peak_bytes", "all"]["off_percent"]) < 1
    assert set(found["agreement"]) == {"identity", "inside", "docker"}
    assert "must show MiB" in done.stdout
    # The A/A plan: the start data, of 20 MB, and what two tasks return are in Redis at once.
    net = found["detectable"]["peak_net_bytes"]
    assert net["repeats"] == 3
    assert min(net["median_a"], net["median_b"]) > 40e6
    assert net["smallest_percent"] > 0
    assert f"{net['difference_percent']:+.2f} %: {net['verdict']}" in done.stdout


def test_killing_the_harness_loses_at_most_a_second(tmp_path: Path, client: DockerClient) -> None:
    flags = ["--dask-workers", "1", "--ps-connector", "file", "--repeat", "500"]
    process = start_bench(tmp_path, *EXAMPLE, *flags)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if any(path.read_text().count("\n") >= 3 for path in tmp_path.glob("*/outcomes.csv")):
            break
        time.sleep(0.05)
    project = project_of(tmp_path)
    try:
        killed_ns = time.monotonic_ns()
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        (directory,) = tmp_path.iterdir()
        # Whatever was handed over to the kernel before is there, and that is done once a second.
        last_ns = last_time(directory / "memory-cgroup.csv", "t_mono_ns")
        assert last_ns >= killed_ns - 1_000_000_000
        # The engine sends about one row a second, so the last one may be a second older.
        last_ns = last_time(directory / "memory-docker.csv", "t_mono_recv_ns")
        assert last_ns >= killed_ns - 3_000_000_000
        # The inside samplers are in the containers and go on, in the folder that is theirs.
        (inside,) = directory.glob("shared/*/memory-inside.csv")
        last_ns = last_time(inside, "t_mono_ns")
        assert last_ns >= killed_ns - 2_000_000_000
    finally:
        projects = [project, *agents_projects(client, process.pid)]
        clean = [sys.executable, "-m", "harness", "clean", *projects]
        subprocess.run(clean, capture_output=True, timeout=120, check=True)
    assert not any(left_behind(client, project) for project in projects)


def last_time(path: Path, column: str) -> int:
    """Return the time of the last whole row."""
    lines = path.read_text().split("\n")[:-1]
    at = lines[0].split(",").index(column)
    return int(lines[-1].split(",")[at])
