"""Dask as people run it: several workers in a container, threads, nannies, limits and spilling."""

from __future__ import annotations

import csv
from pathlib import Path

import psutil
import pytest
from docker import DockerClient

from harness.results.rows import read_rows
from harness.results.schema import PeakRow, TaskRow
from tests.integration.faults.injection import BOUND_S, Table, inject, left_of, services, start

MB = 10**6
PAYLOAD = 8 * MB
LIMIT = 800 * MB
# Each of four processes keeps 4 MB of results in memory, and spills what is beyond.
CLUSTER = [
    *("--executor", "dask", "--dask-workers", "2", "--dask-nworkers", "2"),
    *("--dask-nthreads", "2", "--dask-nanny", "--dask-memory-limit", "400MB"),
    *("--dask-config", "distributed.worker.memory.target=0.01"),
    *("--dask-config", "distributed.worker.memory.spill=False"),
    *("--worker-memory-limit", str(LIMIT), "--ps-connector", "redis"),
]
PLAN = [
    *("--data-management", "none", "--stage-task-counts", "8", "8", "1"),
    *("--stage-bytes-sizes", "1KB", str(PAYLOAD), str(PAYLOAD), "1KB", "--task-sleep", "0.6"),
]

pytestmark = pytest.mark.timeout(300)


def test_a_cluster_with_nannies(tmp_path: Path, client: DockerClient, table: Table) -> None:
    bench = start(tmp_path, *CLUSTER, *PLAN, "--repeat", "2")
    killed: list[str] = []

    def kill_a_worker() -> None:
        container = services(client, bench, "worker")[0]
        assert container.attrs["HostConfig"]["Memory"] == LIMIT
        found = container.top(ps_args="-eo pid,args")
        # A nanny starts its worker by Python's multiprocessing.
        workers = [int(row[0]) for row in found["Processes"] if "spawn_main" in row[-1]]
        assert len(workers) == 2
        killed.append(str(container.name).rpartition("-worker-")[2])
        psutil.Process(workers[0]).kill()

    row = inject(table, bench, "killed: a Dask worker under a nanny", 2, kill_a_worker)
    code, _, err = bench.end()
    assert code == 1, err
    assert (row.outcome, row.service) == ("killed", f"worker-{killed[0]}"), row
    assert f" in worker-{killed[0]} ended during the run" in (row.reason or "")
    assert [row.outcome for row in bench.outcomes()] == ["ok", "killed"]
    assert all(cell.detected_s is None or cell.detected_s < BOUND_S for cell in table.cells)
    assert left_of(client, bench) == []

    run = bench.outcomes()[0].run_id
    tasks = [t for t in read_rows(bench.directory / "tasks.csv", TaskRow) if t.run_id == run]
    for container in ("worker-1", "worker-2"):
        # Two processes of two threads each have shared the eight tasks of a stage.
        assert len({task.worker for task in tasks if task.container == container}) == 4
        samples = [
            sample
            for sample in _rows(bench.directory / "memory-cgroup.csv")
            if (sample["run_id"], sample["container"]) == (run, container) and sample["file_bytes"]
        ]
        # What was spilled went to disk: page cache, and not the memory of a tmpfs.
        file = [int(sample["file_bytes"]) for sample in samples]
        shmem = [int(sample["shmem_bytes"]) for sample in samples]
        assert max(file) - min(file) > 2 * PAYLOAD
        assert max(shmem) - min(shmem) < MB
        # All of a container's processes are in its peak: two of the three more than Python takes.
        (peak,) = (
            found.peak_bytes or 0
            for found in read_rows(bench.directory / "peaks.csv", PeakRow)
            if (found.run_id, found.scope, found.name) == (run, "container", container)
        )
        inside = [
            row
            for row in _rows(bench.directory / "memory-inside.csv")
            if (row["run_id"], row["container"]) == (run, container)
        ]
        assert {int(row["n_procs"]) for row in inside} == {4}
        unique = [int(row["uss_sum_bytes"]) for row in inside if row["uss_sum_bytes"]]
        assert max(unique) < peak < LIMIT


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
