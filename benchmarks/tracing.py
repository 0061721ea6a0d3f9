"""What a trace costs: a traced and an untraced run in turns, in CPU seconds of their containers.

    .venv/bin/python benchmarks/tracing.py [--pairs 5] [--mode default-proxy] [-- FLAGS of bench]

Each run has a topology of its own. Of its parent cgroup the kernel's CPU counter is read a hundred
times a second and taken at the run's marks: what processes take to start and stop their trace is
before and after it. Which of a pair comes first alternates. It takes root, on a machine whose
containers the harness gives parent cgroups. Other work on the machine shows: look at the spread.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from _benches import bench

from harness.results.conversation import RUN_END, RUN_START
from harness.results.directory import RunDirectory, traced_directory
from harness.results.rows import read_rows
from harness.results.schema import MarkRow

FLAGS = [
    *("--executor", "dask", "--dask-workers", "4", "--ps-connector", "redis"),
    *("--stage-task-counts", "4", "4", "1"),
    *("--stage-bytes-sizes", "100MB", "10MB", "1MB", "1KB", "--task-sleep", "0.1"),
]
_EACH_S = 0.01
_ROOT = Path("/sys/fs/cgroup")


class Cost(NamedTuple):
    """Of one run: CPU seconds of all containers, and the makespan."""

    cpu_s: float
    makespan_s: float


class CpuWatch(threading.Thread):
    """Reads the CPU counters of all parent cgroups of topologies."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.read: dict[str, list[tuple[int, int]]] = {}

    def run(self) -> None:
        """Read until told to end."""
        while not self.ended.wait(_EACH_S):
            for path in (*_ROOT.glob("cpuacct/wmh*"), *_ROOT.glob("wmh*")):
                try:
                    used_ns = _used_ns(path)
                except (OSError, ValueError):
                    continue
                self.read.setdefault(path.name, []).append((time.monotonic_ns(), used_ns))

    def of(self, project: str, start_ns: int, end_ns: int) -> float:
        """Return the CPU seconds of a topology between two times."""
        times, used = zip(*self.read[project], strict=True)
        at = np.interp([start_ns, end_ns], times, used)
        return float(at[1] - at[0]) / 1e9


def _used_ns(cgroup: Path) -> int:
    if (cgroup / "cpuacct.usage").exists():
        return int((cgroup / "cpuacct.usage").read_text())
    (line,) = (
        line for line in (cgroup / "cpu.stat").read_text().splitlines() if "usage_usec" in line
    )
    return int(line.split()[1]) * 1000


def run_once(flags: list[str], *, traced: bool) -> Cost:
    """Bench one run."""
    watch = CpuWatch()
    watch.start()
    with tempfile.TemporaryDirectory() as folder:
        more = ["--why", "only"] if traced else []
        directory = bench([*flags, *more, "--no-report"], Path(folder, "runs"))
        watch.ended.set()
        watch.join()
        within = traced_directory(directory) if traced else directory
        marks = {
            row.mark: row.t_mono_ns
            for row in read_rows(RunDirectory(within.path).marks, MarkRow)
            if row.mark in (RUN_START, RUN_END)
        }
        project = (within.path / "compose" / "project.yaml").read_text()
    (name,) = re.findall(r"^name: (\w+)$", project, re.MULTILINE)
    start_ns, end_ns = marks[RUN_START], marks[RUN_END]
    return Cost(watch.of(name, start_ns, end_ns), (end_ns - start_ns) / 1e9)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--mode", default="default-proxy")
    parser.add_argument("flags", nargs="*", default=FLAGS)
    args = parser.parse_args()
    flags = [*args.flags, "--data-management", args.mode]
    shares: list[float] = []
    print(
        f"{'load':>6}{'untraced CPU s':>16}{'traced':>8}{'more':>8}{'makespan s':>12}{'traced':>8}"
    )
    for number in range(args.pairs):
        found = {traced: run_once(flags, traced=traced) for traced in _order(number)}
        plain, traced = found[False], found[True]
        shares.append(traced.cpu_s / plain.cpu_s - 1)
        print(
            f"{os.getloadavg()[0]:6.1f}{plain.cpu_s:16.2f}{traced.cpu_s:8.2f}{shares[-1]:8.1%}"
            f"{plain.makespan_s:12.2f}{traced.makespan_s:8.2f}",
            flush=True,
        )
    print(f"median of {len(shares)} pairs: {median(shares):.1%} more CPU, mode {args.mode}")
    return 0


def _order(number: int) -> tuple[bool, bool]:
    return (False, True) if number % 2 == 0 else (True, False)


if __name__ == "__main__":
    sys.exit(main())
