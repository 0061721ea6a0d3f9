"""Whatever is killed: the right outcome, the plan goes on, and the next run is as before."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
from docker import DockerClient

from harness.results.rows import read_rows
from harness.results.schema import PeakRow
from tests.integration.faults.injection import (
    BOUND_S,
    PATIENCE_S,
    PLAN,
    Cell,
    RunningBench,
    Table,
    harness,
    inject,
    kill_host_process,
    kill_sampler,
    left_of,
    resume,
    services,
    start,
)

# Several faults each, on a machine that may do much else.
pytestmark = pytest.mark.timeout(900)

# The first runs of two fresh topologies differ by this much on a machine that does much else: how
# much is under way at once is a matter of timing. A worker or a payload left over is more.
_PEAK_ERROR_BYTES = 25_000_000


def net_peak(bench: RunningBench, run: str) -> int:
    for row in read_rows(bench.directory / "peaks.csv", PeakRow):
        if row.run_id.startswith(run) and row.scope == "topology":
            return (row.peak_bytes or 0) - (row.baseline_bytes or 0)
    raise AssertionError(f"{run} has no peak")


def test_services_that_are_killed(tmp_path: Path, client: DockerClient, table: Table) -> None:
    bench = start(tmp_path, *PLAN, "--repeat", "8")

    def kill(name: str, count: int = 1) -> None:
        for container in services(client, bench, name)[:count]:
            container.kill()

    def kill_inside_sampler() -> None:
        worker = services(client, bench, "worker")[0]
        worker.reload()
        kill_host_process(int(worker.attrs["State"]["Pid"]))

    expected = [
        ("a worker, mid-task", lambda: kill("worker"), "worker-"),
        ("all workers", lambda: kill("worker", 2), "worker-"),
        ("the scheduler", lambda: kill("scheduler"), "scheduler-1"),
        ("redis", lambda: kill("redis"), "redis-1"),
        ("the runner", lambda: kill("runner"), "runner-1"),
        ("an in-container sampler", kill_inside_sampler, "worker-"),
    ]
    for number, (fault, act, service) in enumerate(expected, 2):
        row = inject(table, bench, f"killed: {fault}", number, act)
        assert row.outcome == "killed", row
        assert (row.service or "").startswith(service), row
    code, _, err = bench.end()
    assert code == 1
    assert "Traceback" not in err
    outcomes = [row.outcome for row in bench.outcomes()]
    assert outcomes == ["ok", *["killed"] * 6, "ok"]
    assert len(bench.results()) == 2
    assert left_of(client, bench) == []
    assert abs(net_peak(bench, "0008-") - net_peak(bench, "0001-")) < _PEAK_ERROR_BYTES
    assert all(cell.detected_s is None or cell.detected_s < BOUND_S for cell in table.cells)


def test_every_way_to_end_the_harness(tmp_path: Path, client: DockerClient, table: Table) -> None:
    """One plan, ended six times and resumed as often: no row lost, none twice."""
    bench = start(tmp_path, *PLAN, "--repeat", "7")
    row = inject(
        table,
        bench,
        "killed: the host's sampler",
        2,
        lambda: kill_sampler(client, bench),
    )
    assert (row.outcome, row.service) == ("infrastructure", "sampler")
    assert bench.end()[0] == 3
    assert left_of(client, bench) == []

    for number, name in ((3, "SIGINT"), (4, "SIGTERM")):
        bench = resume(bench)
        bench.wait_for_run(number)
        thrown = time.monotonic()
        bench.process.send_signal(signal.Signals[name])
        code, _, err = bench.end()
        _note(table, bench, f"the harness, {name}", time.monotonic() - thrown)
        assert code == 130, err
        assert bench.outcomes()[-1].outcome == "interrupted"
        assert len(bench.outcomes()) == number
        assert left_of(client, bench) == []

    bench = resume(bench)
    bench.wait_for_run(5)
    thrown = time.monotonic()
    bench.process.send_signal(signal.SIGINT)
    time.sleep(0.2)  # two signals at once are one
    bench.process.send_signal(signal.SIGINT)
    code, _, err = bench.end()
    _note(table, bench, "the harness, SIGINT twice", time.monotonic() - thrown)
    assert code == 130
    _wait_until_nothing_is_left(client, bench)

    bench = resume(bench)
    bench.wait_for_run(6)
    rows = len(bench.outcomes())
    bench.process.kill()
    bench.end()
    assert left_of(client, bench)
    named = harness("images", "list")
    assert "left by a bench that has ended" in named.stderr
    cleaned = harness("clean")
    assert cleaned.returncode == 0, cleaned.stderr
    assert str(bench.directory) in cleaned.stdout
    assert left_of(client, bench) == []
    assert len(bench.outcomes()) == rows
    _note(table, bench, "the harness, SIGKILL", None)
    assert "left by" not in harness("images", "list").stderr

    bench = resume(bench)
    code, _, err = bench.end()
    assert code == 0, err
    assert [row.outcome for row in bench.outcomes()] == ["ok"] * 7
    assert [row.run_id[:4] for row in bench.outcomes()] == [f"{n:04d}" for n in range(1, 8)]
    assert len(bench.results()) == 7
    peaks = [r.run_id for r in read_rows(bench.directory / "peaks.csv", PeakRow)]
    assert len([run for run in peaks if run.startswith("0002-")]) == len(
        [run for run in peaks if run.startswith("0001-")]
    )
    # Both are the first of a topology.
    assert abs(net_peak(bench, "0006-") - net_peak(bench, "0001-")) < _PEAK_ERROR_BYTES
    assert left_of(client, bench) == []
    again = harness("bench", "--resume", str(bench.directory))
    assert again.returncode == 0
    assert len(bench.results()) == 7


def test_a_worker_of_ray_is_killed(tmp_path: Path, client: DockerClient, table: Table) -> None:
    # Ray gives its task to another worker: nothing in the runner fails.
    bench = start(tmp_path, "--executor", "ray", "--ray-workers", "2", *PLAN[4:], "--fail-fast")

    def kill() -> None:
        services(client, bench, "worker")[0].kill()

    row = inject(table, bench, "killed: a worker of Ray's, mid-task", 1, kill)
    assert (row.outcome, (row.service or "").rpartition("-")[0]) == ("killed", "worker")
    code, _, err = bench.end()
    assert code == 1, err
    assert f"worker-{(row.service or '').rpartition('-')[2]}" in err
    assert left_of(client, bench) == []


def _note(table: Table, bench: RunningBench, fault: str, took: float | None) -> None:
    rows = bench.outcomes()
    last = rows[-1]
    outcome = "(no row)" if took is None else last.outcome
    table.cells.append(
        Cell(f"killed: {fault}", outcome, last.service or "", "", took, len(rows), len(rows), "")
    )


def _wait_until_nothing_is_left(client: DockerClient, bench: RunningBench) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while left_of(client, bench) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left_of(client, bench) == []


def test_clean_leaves_others_alone(tmp_path: Path, client: DockerClient) -> None:
    """Foreign containers, networks and volumes with names like ours, and a bench that runs."""
    bench = start(tmp_path, *PLAN, "--repeat", "2")
    bench.wait_for_run(1)
    ours = services(client, bench, "worker")[0]
    name = ours.labels["org.workflow-memory-harness.run"]
    assert ours.image is not None
    foreign = client.containers.create(
        ours.image, ["sleep", "1"], name=f"{name}0-worker-1", labels={"com.example": name}
    )
    network = client.networks.create(f"{name}0_default", internal=True)
    volume = client.volumes.create(f"{name}0_store")
    cgroup = Path(
        "/sys/fs/cgroup/memory" if Path("/sys/fs/cgroup/memory").is_dir() else "/sys/fs/cgroup"
    )
    # Of this process: one that was killed here may have left its own. Only root can make one.
    other = cgroup / f"wmh-not-ours-{os.getpid()}"
    makes_cgroups = os.access(cgroup, os.W_OK)
    if makes_cgroups:
        other.mkdir()
    try:
        bench.process.kill()
        bench.end()
        running = start(tmp_path / "running", *PLAN, "--repeat", "1", "--fail-fast")
        running.wait_for_run(1)
        cleaned = harness("clean")
        assert cleaned.returncode == 0, cleaned.stderr
        assert "stays: its bench runs" in cleaned.stdout
        assert left_of(client, bench) == []
        foreign.reload()
        network.reload()
        volume.reload()
        assert other.is_dir() is makes_cgroups
        code, _, err = running.end()
        assert code == 0, err
    finally:
        foreign.remove(force=True)
        network.remove()
        volume.remove(force=True)
        if makes_cgroups:
            other.rmdir()


def test_a_topology_that_is_kept(tmp_path: Path, client: DockerClient) -> None:
    bench = start(tmp_path, *PLAN, "--repeat", "2", "--keep")
    bench.wait_for_run(1)
    services(client, bench, "worker")[0].kill()
    code, _, err = bench.end()
    assert code == 1
    kept = next(line for line in err.splitlines() if line.startswith("Kept: "))
    project = kept.split()[1].rstrip(".")
    remedy = re.findall(r"'(harness clean [^']+)'", kept)[-1].split()
    try:
        names = {c for c in left_of(client, bench) if c.startswith(project)}
        assert f"{project}-worker-1" in names
        assert "(kept)" in harness("images", "list").stderr
    finally:
        cleaned = harness(*remedy[1:])
    assert cleaned.returncode == 0, cleaned.stderr
    assert left_of(client, bench) == []
    assert project not in harness("clean", "--dry-run").stdout
    assert "left by" not in harness("images", "list").stderr
