"""Samplers of Parsl's pools, with a pool of the standard library: this process is its manager."""

from __future__ import annotations

import csv
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.executors._pools import ask_pool
from harness.results.conversation import MarkWriter
from harness.results.directory import RunDirectory
from harness.sampling.workers._parsl_pools import Pools

WORKERS = 2


class Executor:
    """A pool with the face that Parsl's has."""

    has_pools = True

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self.pool = pool

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        return self.pool.submit(fn, *args)

    def ask_each(self, ask: Callable[[], Any], timeout_s: float) -> list[Any]:
        return ask_pool(self.pool, WORKERS, ask, timeout_s)


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Executor]:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with ProcessPoolExecutor(WORKERS, get_context("fork")) as pool:
        yield Executor(pool)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_pool_is_sampled_as_one_and_nothing_is_left(executor: Executor, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path, "r.csv", "l.txt")
    # What other tests have left running is below this process, too.
    others = psutil.Process().children(recursive=True)
    pools = Pools(executor, directory, 0.02)
    with MarkWriter(directory.marks) as marks:
        pools.start()
        marks.write("0001", "run_start")
        executor.ask_each(os.getpid, 5)
        marks.write("0001", "run_end")
        pools.collect()
        pools.stop()
    workers = rows(directory.workers)
    assert {row["worker"] for row in workers} == {str(pid) for pid in executor.pool._processes}
    assert {(row["container"], row["pid"]) for row in workers} == {("worker-1", str(os.getpid()))}
    inside = rows(directory.memory("inside"))
    assert "0001" in {row["run_id"] for row in inside}
    # This process and its workers; the sampler is not counted.
    counts = {1 + WORKERS + len(others), 1 + WORKERS + sum(p.is_running() for p in others)}
    assert {int(row["n_procs"]) for row in inside} & counts
    assert not list((tmp_path / "tmp").iterdir())
    assert not [p for p in psutil.Process().children(recursive=True) if "process_tree" in str(p)]


def test_a_pool_that_is_killed_leaves_no_rows_behind(executor: Executor, tmp_path: Path) -> None:
    pools = Pools(executor, RunDirectory(tmp_path, "r.csv", "l.txt"), 0.02)
    pools.start()
    below = [p for pid in executor.pool._processes for p in psutil.Process(pid).children()]
    for pid in executor.pool._processes:
        os.kill(pid, signal.SIGKILL)
    pools.stop()
    psutil.wait_procs(below, timeout=20)
    assert not list((tmp_path / "tmp").iterdir())
