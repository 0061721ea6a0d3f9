"""How long reports take, and how much memory and page.

    .venv/bin/python benchmarks/report.py commands [--repeat N]
    .venv/bin/python benchmarks/report.py published DIR...
    .venv/bin/python benchmarks/report.py large [--rows N] [--workers N] [--keep DIR]

``commands`` times what must answer at once, ``published`` run directories of psbench, such as the
paper's, ``large`` a generated run directory: 40 containers at 100 Hz, an hour of them by default
(14.4 million rows, 1.2 GB). Times are wall-clock times of whole commands on this machine, the load
average beside them; CPU times depend less on what else runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SERVERS = ["redis-1", "runner-1", "scheduler-1"]
WORKERS = 37
CHUNK_ROWS = 1_200_000
STEP_NS = 10_000_000
START_NS = 1_000_000_000_000
UNIX_OFFSET_NS = 1_795_500_144_720_498_979
RUNS = 4
# Of each quarter of the recording, how much is a run.
BUSY = 0.9


@dataclass(frozen=True)
class Cost:
    """What one command cost."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def run(arguments: list[str]) -> Cost:
    """Run one harness command to its end and return what it cost."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"harness {' '.join(arguments)}: exit code {process.returncode}")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def show(name: str, cost: Cost, limit_s: float) -> None:
    """Print one line of the result."""
    print(
        f"{name:<28} {cost.wall_s:>7.2f} s of {limit_s:g} s  cpu {cost.cpu_s:>6.2f} s"
        f"  peak {cost.peak_bytes / 1e9:.2f} GB"
    )


def commands(repeat: int) -> None:
    """Time the commands that must answer at once."""
    with tempfile.TemporaryDirectory() as place:
        for number in range(50):
            _write_results(Path(place) / f"workflow-memory-{number:04d}", 10)
        for arguments in (["--help"], ["list", place]):
            costs = [run(arguments) for _ in range(repeat)]
            wall = statistics.median(cost.wall_s for cost in costs)
            cpu = statistics.median(cost.cpu_s for cost in costs)
            show(f"harness {arguments[0]}", Cost(wall, cpu, costs[0].peak_bytes), 0.3)


def published(directories: list[Path]) -> None:
    """Time tables and page of each directory, then of all together."""
    with tempfile.TemporaryDirectory() as place:
        for directory in directories:
            print(directory)
            report([directory], Path(place) / directory.name, tables_s=1, page_s=5)
        if len(directories) > 1:
            print("all together")
            report(directories, Path(place) / "all", tables_s=1, page_s=5)


def large(rows: int, workers: int, keep: Path | None) -> None:
    """Generate a large run directory and time its report."""
    with tempfile.TemporaryDirectory() as temporary:
        place = keep or Path(temporary)
        directory = place / "workflow-memory-large"
        if not directory.exists():
            generate(directory, rows // (workers + len(SERVERS)), workers)
        size = (directory / "memory-cgroup.csv").stat().st_size
        print(f"{rows / 1e6:.1f} million rows of {workers} workers, {size / 1e9:.2f} GB")
        report([directory], Path(temporary) / "report", tables_s=10, page_s=20)


def report(directories: list[Path], output: Path, *, tables_s: float, page_s: float) -> None:
    """Time the tables alone, then everything."""
    names = list(map(str, directories))
    show("tables", run(["report", *names, "--tables-only"]), tables_s)
    show("page, figures, summary.json", run(["report", *names, "--output", str(output)]), page_s)
    print(f"page {(output / 'report.html').stat().st_size / 1e6:.2f} MB of 8 MB")


def generate(directory: Path, ticks: int, workers: int) -> None:
    """Write a run directory of ``ticks`` samples of each container, of four runs."""
    names = [*SERVERS, *(f"worker-{n}" for n in range(1, workers + 1))]
    step = max(1, CHUNK_ROWS // len(names))
    length = ticks // RUNS
    _write_results(directory, RUNS, length * STEP_NS, round(length * BUSY) * STEP_NS)
    rng = np.random.default_rng(1)
    header = (
        "run_id,container,t_mono_ns,t_unix_ns,late_ns,usage_bytes,anon_bytes,file_bytes,shmem_bytes,"
        "kernel_bytes,inactive_file_bytes,psi_some_us,psi_full_us,oom_kill,source\n"
    )
    with (directory / "memory-cgroup.csv").open("wb") as file:
        file.write(header.encode())
        for first in range(0, ticks, step):
            ticks_here = np.arange(first, min(first + step, ticks))
            file.write("".join(_samples(rng, ticks_here, length, names)).encode())


def _samples(
    rng: np.random.Generator,
    some_ticks: np.ndarray[tuple[int], np.dtype[np.int64]],
    length: int,
    names: list[str],
) -> Iterator[str]:
    count = len(names)
    tick = np.repeat(some_ticks, count)
    container = np.tile(np.arange(count), len(some_ticks))
    t_ns = START_NS + tick * STEP_NS + container * 5000 + rng.integers(0, 90_000, len(tick))
    wave = (40e6 * (1 + np.sin(tick / 3000 + container))).astype(np.int64)
    usage = 60_000_000 + container * 1_000_000 + wave + rng.integers(0, 64, len(tick)) * 4096
    number = np.where(tick % length < length * BUSY, tick // length + 1, 0)
    late = rng.integers(0, 99_999, len(tick))
    columns = (column.tolist() for column in (tick, number, container, t_ns, late, usage))
    for now, run, which, t, behind, used in zip(*columns, strict=True):
        run_id = f"{run:04d}-none-{run}" if run else ""
        parts = ",".join(str(used // d) for d in (2, 9, 11, 13, 17)) + ",0,0,0"
        slow = parts if now % 10 == 0 else "," * 7
        yield (f"{run_id},{names[which]},{t},{t + UNIX_OFFSET_NS},{behind},{used},{slow},v1\n")


def _write_results(
    directory: Path, runs: int, step_ns: int = 10_000_000_000, busy_ns: int = 9_000_000_000
) -> None:
    directory.mkdir(parents=True)
    marks, outcomes, results = [], [], []
    for number in range(1, runs + 1):
        run_id = f"{number:04d}-none-{number}"
        start = START_NS + (number - 1) * step_ns
        for mark, t_ns in (("run_start", start), ("run_end", start + busy_ns)):
            marks.append(f"{run_id},{mark},{t_ns},{t_ns + UNIX_OFFSET_NS}")
        outcomes.append(f"{run_id},none,{number},ok,")
        times = [(t + UNIX_OFFSET_NS) / 1e9 for t in (start, start + busy_ns)]
        results.append(
            f"DaskExecutor,None,none,32-1,100000000-10000000-1000000,8,5.0,{times[0]},{times[1]},"
            f"{busy_ns / 1e9}"
        )
    for name, header, rows in (
        ("marks.csv", "run_id,mark,t_mono_ns,t_unix_ns", marks),
        ("outcomes.csv", "run_id,data_management,repetition,outcome,reason", outcomes),
        (
            "results.csv",
            "executor,connector,data_management,stage_task_counts,stage_bytes_sizes,stage_repeat,"
            "task_sleep,workflow_start_timestamp,workflow_end_timestamp,workflow_makespan_s",
            results,
        ),
    ):
        (directory / name).write_text("\n".join([header, *rows]) + "\n")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    benchmarks = parser.add_subparsers(dest="benchmark", required=True)
    of_commands = benchmarks.add_parser("commands")
    of_commands.add_argument("--repeat", type=int, default=11)
    of_published = benchmarks.add_parser("published")
    of_published.add_argument("directories", nargs="+", type=Path, metavar="DIR")
    of_large = benchmarks.add_parser("large")
    of_large.add_argument("--rows", type=int, default=14_400_000)
    of_large.add_argument("--workers", type=int, default=WORKERS)
    of_large.add_argument("--keep", type=Path, metavar="DIR", help="generate once, in here")
    args = parser.parse_args()
    print(f"load average before: {os.getloadavg()[0]:.2f}")
    if args.benchmark == "commands":
        commands(args.repeat)
    elif args.benchmark == "published":
        published(args.directories)
    else:
        large(args.rows, args.workers, args.keep)


if __name__ == "__main__":
    main()
