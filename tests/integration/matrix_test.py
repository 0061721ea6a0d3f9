"""Every cell of the table that runs does: one small real bench for each executor and connector."""

from __future__ import annotations

from pathlib import Path

import pytest
from docker import DockerClient

from harness.executors import executors
from harness.topology.matrix import WORKLOAD, executor_flags
from tests.integration.conftest import Bench, left_behind, run_bench
from tests.matrix import pairs_that_run

# By the store, and past it.
SOME = ("owned-proxy", "futures")
# Of these one connector is tested, in all modes: the others differ by nothing of the executor's.
WITH_REDIS = ("taskvine",)


def _isolated(row: str) -> bool:
    """Say whether each of an executor's runs needs a topology of its own."""
    return bool(executors.get(executor_flags()[row][1]).keeps_memory)


def _worth_their_time() -> dict[tuple[str, str], list[str]]:
    """Return the pairs and their modes: of some executors a few.

    Where each run needs a topology it takes ten seconds and more to start. Connectors are tested
    with the others.
    """
    found = {}
    for (row, connector), modes in pairs_that_run().items():
        if connector == "redis" and _isolated(row):
            found[row, connector] = [mode for mode in modes if mode in SOME]
        elif connector == "redis" or not (_isolated(row) or row in WITH_REDIS):
            found[row, connector] = modes
    return found


# The classes of those whose workers are counted here: two of them.
POOLS = {
    "parsl-thread": "ParslPoolExecutor",
    "parsl-htex-local": "ParslPoolExecutor",
    "parsl-htex": "ParslPoolExecutor",
    "process": "ProcessPoolExecutor",
    "thread": "ThreadPoolExecutor",
}
PAIRS = _worth_their_time()
# Start data, and what the tasks of three stages return: what default-proxy must leave.
OBJECTS = 1 + 1 + 2 + 1


@pytest.mark.parametrize(("executor", "connector"), PAIRS, ids=map("-".join, PAIRS))
def test_a_pair_runs_in_all_its_modes(
    executor: str, connector: str, client: DockerClient, tmp_path: Path
) -> None:
    modes = PAIRS[executor, connector]
    bench = run_bench(
        tmp_path,
        *WORKLOAD,
        *executor_flags()[executor],
        *("--ps-connector", connector, "--data-management", *modes),
        *("--isolate", "run" if _isolated(executor) else "none"),
    )
    assert bench.code == 0, bench.err
    assert [row["outcome"] for row in bench.rows("outcomes.csv")] == ["ok"] * len(modes)
    results = bench.rows("results.csv")
    assert [row["data_management"] for row in results] == modes
    for row in results:
        assert 0.6 <= float(row["workflow_makespan_s"]) < 60
        assert (row["connector"] == "None") == (row["data_management"] in ("none", "futures"))
    check_objects(bench)
    check_views(bench)
    if executor in POOLS:
        check_pool(bench, executor, connector)
    assert left_behind(client, bench.manifest["project"]) == set()


def check_pool(bench: Bench, executor: str, connector: str) -> None:
    assert {row["executor"] for row in bench.rows("results.csv")} == {POOLS[executor]}
    assert bench.manifest["executor"]["workers"] == 2
    pools = {"worker-1", "worker-2"} if executor == "parsl-htex" else set()
    assert bench.manifest["executor"].get("encrypted") is (True if "htex" in executor else None)
    if connector in ("redis", "file"):
        redis = {"redis-1"} if connector == "redis" else set()
        containers = {row["container"] for row in bench.rows("memory-cgroup.csv")}
        assert containers == {"runner-1"} | pools | redis


def check_objects(bench: Bench) -> None:
    start, first, second, third = bench.manifest["plan"]["workload"]["stage_bytes_sizes"]
    made = start + first + 2 * second + third
    for row in bench.rows("objects.csv"):
        left = row["data_management"] == "default-proxy"
        expected = OBJECTS if left else 0
        assert int(row["objects_at_end"]) == int(row["objects_predicted"]) == expected
        assert int(row["bytes_predicted"]) == (made if left else 0)
        assert int(row["bytes_at_end"]) >= int(row["bytes_predicted"])
        assert (row["objects_left"], row["bytes_left"]) == ("0", "0")


def check_views(bench: Bench) -> None:
    """Check that every container that was started is in every view, and in each run.

    Not in each run in the engine's: its stream has about one row a second, and a busy machine
    has none in the 0.6 s of these. `bench_test.py` has runs that are long enough.
    """
    containers = {path.stem for path in (bench.directory / "logs").glob("*.log")}
    assert "runner-1" in containers
    runs = {row["run_id"] for row in bench.rows("outcomes.csv")}
    for view in ("cgroup", "inside", "docker"):
        rows = bench.rows(f"memory-{view}.csv")
        assert {row["container"] for row in rows} == containers
        if view != "docker":
            seen = {(row["run_id"], row["container"]) for row in rows if row["run_id"]}
            assert seen == {(run, container) for run in runs for container in containers}
    peaks = {(p["run_id"], p["name"]) for p in bench.rows("peaks.csv") if p["scope"] == "container"}
    assert peaks == {(run, container) for run in runs for container in containers}
