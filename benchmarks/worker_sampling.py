"""What sampling the workers of a Dask cluster costs a workload's makespan.

    .venv/bin/python benchmarks/worker_sampling.py [--workers N] [--rounds N] [--interval S]

One local cluster runs the same plan alternately with samplers beside its workers and without.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from distributed import LocalCluster

from harness.executors.dask import DaskConfig
from harness.plan import Plan
from harness.results.conversation import MarkWriter
from harness.results.directory import RunDirectory
from harness.results.rows import ResultRow, read_rows
from harness.sampling.report import collect_reports
from harness.sampling.workers.dask import DaskWorkerSampling
from harness.workflow.runner import PlanRunner, no_watch

RUNS = 5
SLEEP_S = 0.1
COUNTS = [1, 3, 1, 1]


def plan_for(scheduler: str, objects: Path) -> Plan:
    """Return a plan of short runs with payloads of 1 MB."""
    return Plan.model_validate(
        {
            "executor_name": "dask",
            "executor": DaskConfig(scheduler=scheduler).model_dump(),
            "connector_name": "file",
            "connector": {"directory": str(objects)},
            "workload": {
                "modes": ["owned-proxy"],
                "stage_task_counts": COUNTS,
                "stage_bytes_sizes": [1_000_000] * (len(COUNTS) + 1),
                "task_sleep": SLEEP_S,
            },
            "general": {"repeat": RUNS},
        }
    )


def execute(plan: Plan, directory: RunDirectory, interval_s: float | None) -> list[float]:
    """Run a plan and return the makespans beyond the tasks' sleeping, in seconds."""
    directory.path.mkdir()
    watch = DaskWorkerSampling(directory, interval_s).watch if interval_s else no_watch
    with MarkWriter(directory.marks) as marks:
        PlanRunner(plan, directory, marks, watch).execute()
    slept = len(COUNTS) * SLEEP_S
    return [row.workflow_makespan_s - slept for row in read_rows(directory.results, ResultRow)]


def sampler_cost(directory: RunDirectory) -> tuple[float, float]:
    """Return the samplers' CPU (share of a core) and resident memory (MB), each the mean."""
    collect_reports(directory)
    reports = json.loads(directory.sampling.read_text())["inside"].values()
    cpu = statistics.mean(r["cpu_ns"] / r["elapsed_ns"] for r in reports)
    return cpu, statistics.mean(r["rss_max_bytes"] for r in reports) / 1e6


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--interval", type=float, default=0.1)
    args = parser.parse_args()
    print(f"load average before: {os.getloadavg()[0]:.2f}")
    beyond: dict[bool, list[float]] = {True: [], False: []}
    whole: dict[bool, list[float]] = {True: [], False: []}
    costs = []
    with (
        tempfile.TemporaryDirectory() as place,
        LocalCluster(n_workers=args.workers, dashboard_address=None) as cluster,
    ):
        plan = plan_for(cluster.scheduler_address, Path(place, "objects"))
        execute(plan, RunDirectory(Path(place, "warm")), None)
        for number in range(args.rounds):
            for sampled in (number % 2 == 0, number % 2 == 1):
                directory = RunDirectory(Path(place, f"{number}-{sampled}"))
                started = time.monotonic()
                beyond[sampled] += execute(plan, directory, args.interval if sampled else None)
                whole[sampled].append(time.monotonic() - started)
                if sampled:
                    costs.append(sampler_cost(directory))
    for sampled in (False, True):
        low, median, high = statistics.quantiles(beyond[sampled], n=4)
        print(
            f"{'with samplers' if sampled else 'without':<14} {len(beyond[sampled])} runs:"
            f" beyond sleep {median * 1e3:.1f} ms (quartiles {low * 1e3:.1f} {high * 1e3:.1f});"
            f" plan of {RUNS} runs {statistics.median(whole[sampled]):.2f} s"
        )
    cpu, rss = (statistics.mean(column) for column in zip(*costs, strict=True))
    print(f"each sampler: {cpu:.2%} of a core, {rss:.1f} MB")


if __name__ == "__main__":
    main()
