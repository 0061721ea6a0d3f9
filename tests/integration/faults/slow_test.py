"""What stands still, and what is cut off: the run is given up, with every service's stacks."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from docker import DockerClient

from tests.integration.faults.injection import (
    PLAN,
    Cell,
    Table,
    inject,
    left_of,
    resume,
    services,
    start,
)

# Several faults each, on a machine that may do much else.
pytestmark = pytest.mark.timeout(900)


def test_what_stands_still_and_what_is_cut(
    tmp_path: Path, client: DockerClient, table: Table
) -> None:
    bench = start(tmp_path, *PLAN, "--repeat", "5", "--run-timeout", "12")

    def freeze() -> None:
        worker = services(client, bench, "worker")[0]
        for row in worker.top(ps_args="-eo pid,args")["Processes"]:
            if "dask" in row[1] and "sampling.inside" not in row[1]:
                os.kill(int(row[0]), signal.SIGSTOP)

    def outgrow() -> None:
        """Let a child process be killed for lack of memory; the worker itself goes on."""
        worker = services(client, bench, "worker")[0]
        worker.update(mem_limit=150_000_000, memswap_limit=150_000_000)
        worker.exec_run(["python", "-c", "b'x' * 600_000_000"])

    def cut() -> None:
        worker = services(client, bench, "worker")[0]
        (name,) = worker.attrs["NetworkSettings"]["Networks"]
        client.networks.get(name).disconnect(worker, force=True)

    row = inject(table, bench, "slow: a frozen worker (12 s limit)", 2, freeze)
    assert (row.outcome, (row.service or "")[:7]) == ("timeout", "worker-"), row
    assert "is stopped" in row.reason
    stacks = {p.stem: p.read_text() for p in (bench.directory / "stacks").glob("*/*.txt")}
    assert set(stacks) == {"redis-1", "runner-1", "scheduler-1", "worker-1", "worker-2"}
    for name in ("runner-1", "scheduler-1", "worker-1", "worker-2"):
        assert "Current thread" in stacks[name], name
    assert "in _run_stages" in stacks["runner-1"]

    row = inject(table, bench, "full: a worker's memory limit, a child process", 3, outgrow)
    assert (row.outcome, (row.service or "")[:7]) == ("memory", "worker-"), row

    row = inject(table, bench, "cut: a worker's network", 4, cut)
    assert (row.outcome, (row.service or "")[:7]) == ("infrastructure", "worker-"), row
    code, _, err = bench.end()
    assert code == 3
    assert "Traceback" not in err
    assert left_of(client, bench) == []
    bench = resume(bench)
    code, _, err = bench.end()
    assert code == 0, err
    outcomes = [r.outcome for r in bench.outcomes()]
    assert outcomes == ["ok", "timeout", "memory", "ok", "ok"]
    assert len(bench.results()) == 3
    assert left_of(client, bench) == []


def test_a_task_that_never_returns(tmp_path: Path, client: DockerClient, table: Table) -> None:
    flags = ["--task-sleep", "3600", "--run-timeout", "4", "--repeat", "2", "--fail-fast"]
    bench = start(tmp_path, *PLAN, *flags)
    row = inject(table, bench, "slow: a task that never returns (4 s limit)", 1, lambda: None)
    assert row.outcome == "timeout"
    assert bench.end()[0] == 1
    assert len(bench.outcomes()) == 1
    assert left_of(client, bench) == []


def test_a_topology_that_is_not_up_in_time(
    tmp_path: Path, client: DockerClient, table: Table
) -> None:
    bench = start(tmp_path, *PLAN, "--repeat", "2", "--start-timeout", "0.5")
    code, _, err = bench.end()
    assert code == 1, err
    assert "Traceback" not in err
    rows = bench.outcomes()
    # The plan goes on: each run has a topology of its own to wait for.
    assert [(row.outcome, row.service) for row in rows] == [("timeout", "topology")] * 2
    assert all("--start-timeout" in row.reason for row in rows)
    assert not (bench.directory / "results.csv").exists()  # no run has begun
    assert left_of(client, bench) == []
    table.cells.append(
        Cell(
            "slow: services that are not ready (--start-timeout 0.5)",
            rows[0].outcome,
            rows[0].service or "",
            rows[0].reason,
            detected_s=None,
            rows_before=0,
            rows_after=2,
            left="",
        )
    )
