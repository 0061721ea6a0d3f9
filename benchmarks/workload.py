"""How long a bench takes beyond the tasks' own sleeping.

    .venv/bin/python benchmarks/workload.py [example|paper] [--repeat N]

``example`` is the documented example, ``paper`` the paper's experiment scaled down. Both run in
containers as a user runs them. Times are wall-clock times of this machine: compare them within one
run, on a quiet machine; the load average is printed beside them.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

MODES = ("none", "default-proxy", "manual-proxy", "owned-proxy")
WORKLOADS = {
    "example": [
        *("--ps-connector", "file", "--data-management", "none", "default-proxy", "owned-proxy"),
        *("--stage-task-counts", "1", "3", "1", "1"),
        *("--stage-bytes-sizes", "1000", "10000", "10000", "10000", "1000"),
        *("--task-sleep", "1.0"),
    ],
    "paper": [
        *("--ps-connector", "redis", "--data-management", *MODES),
        *("--stage-task-counts", "4", "1", "--stage-bytes-sizes", "100MB", "10MB", "1MB"),
        *("--stage-repeat", "2", "--task-sleep", "1.0"),
    ],
}


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def bench(flags: list[str], repeat: int) -> None:
    """Run one bench and print where its time went."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "harness", "bench", "--executor", "dask"]
        command += ["--dask-workers", "4", *flags, "--repeat", str(repeat), "--run-dir", place]
        load = os.getloadavg()[0]
        started_ns = time.monotonic_ns()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall_s = (time.monotonic_ns() - started_ns) / 1e9
        (directory,) = Path(place).iterdir()
        results, marks = rows(directory / "results.csv"), rows(directory / "marks.csv")
    slept: dict[str, float] = {}
    makespans: dict[str, list[float]] = defaultdict(list)
    for row in results:
        stages = len(row["stage_task_counts"].split("-")) * int(row["stage_repeat"])
        slept[row["data_management"]] = stages * float(row["task_sleep"])
        makespans[row["data_management"]].append(float(row["workflow_makespan_s"]))
    print(f"{'mode':<14} {'runs':>4} {'makespan s':>11} {'beyond sleep s':>15}  (medians)")
    for mode, each in makespans.items():
        median = statistics.median(each)
        print(f"{mode:<14} {len(each):>4} {median:>11.3f} {median - slept[mode]:>15.3f}")
    beyond = [m - slept[mode] for mode, each in makespans.items() for m in each]
    sleep_s = sum(slept[mode] * len(each) for mode, each in makespans.items())
    first_s = (int(marks[0]["t_mono_ns"]) - started_ns) / 1e9
    print(f"beyond sleep, median of all runs: {statistics.median(beyond):.3f} s")
    print(f"command to first task: {first_s:.2f} s")
    print(f"whole command: {wall_s:.1f} s = {wall_s / sleep_s:.3f} x the {sleep_s:g} s slept")
    print(f"load average before: {load:.2f}")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", nargs="?", choices=sorted(WORKLOADS), default="example")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    bench(WORKLOADS[args.workload], args.repeat)


if __name__ == "__main__":
    main()
