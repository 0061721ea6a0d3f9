"""What the harness itself costs when a plan is large: growth, descriptors, slowdown per run.

    .venv/bin/python benchmarks/load.py workers   64 Dask worker containers, ten runs
    .venv/bin/python benchmarks/load.py runs      1,000 runs in one plan, one topology
    .venv/bin/python benchmarks/load.py tasks     a stage of 5,000 tasks
    .venv/bin/python benchmarks/load.py payloads  1 GB through file; 500 MB through redis
    .venv/bin/python benchmarks/load.py day       a 24-hour plan, accelerated: 1,440 short runs

Each starts a real bench and reads, of the harness's own process and of its host sampler, resident
memory and open descriptors every second. Targets: neither grows by more than 5 MB from a tenth of
the runs to the last, no descriptor is left open, and the last tenth of the runs takes no longer
than the second: the ratio of medians of the makespan, of the time from one start to the next and,
on a machine that does other work too, of the CPU time that each process spends on a run. Dask's
scheduler itself keeps some 14 kB for each run (a span, entries of its logs), and looking through
it for garbage after each run takes longer and longer: that is between the runs, not in them.
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
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from harness.core import interrupt

TARGET_BYTES = 5_000_000
_ENOUGH = 200
_COMMON = ["--executor", "dask", "--ps-connector", "redis", "--data-management", "owned-proxy"]
_FAST = ["--task-sleep", "0", "--isolate", "none", "--baseline-window", "0"]
_TINY = ["--stage-task-counts", "1", "--stage-bytes-sizes", "1000", "1000"]
PLANS = {
    "workers": [
        *(*_COMMON, "--dask-workers", "64", "--stage-task-counts", "64", "1"),
        *("--stage-bytes-sizes", "1MB", "1MB", "1KB", "--task-sleep", "0.5"),
        *("--start-timeout", "600", "--repeat", "10", "--isolate", "none"),
    ],
    "runs": [*_COMMON, "--dask-workers", "2", *_TINY, *_FAST, "--repeat", "1000"],
    "day": [*_COMMON, "--dask-workers", "1", *_TINY, *_FAST, "--repeat", "1440"],
    "tasks": [
        *(*_COMMON, "--dask-workers", "4", "--stage-task-counts", "1", "5000", "1"),
        *("--stage-bytes-sizes", "1KB", "1KB", "1KB", "1KB", *_FAST),
    ],
    "payloads": [
        *(*_COMMON, "--dask-workers", "2", "--stage-task-counts", "1", "1"),
        *("--stage-bytes-sizes", "500MB", "500MB", "1KB", "--task-sleep", "0"),
    ],
    "payloads-file": [
        *(*_COMMON, "--ps-connector", "file", "--dask-workers", "2"),
        *("--stage-task-counts", "1", "1"),
        *("--stage-bytes-sizes", "1GB", "1GB", "1KB", "--task-sleep", "0"),
    ],
}


@dataclass(frozen=True)
class Reading:
    """What one process held at one moment."""

    at_ns: int
    rss_bytes: int
    descriptors: int
    cpu_s: float


def read(pid: int) -> Reading | None:
    """Read a process; None if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  # names alone
    except OSError:
        return None
    lines = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    if not lines:
        return None
    cpu_s = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    rss_bytes = int(lines[0].split()[1]) * 1024
    return Reading(time.monotonic_ns(), rss_bytes, descriptors, cpu_s)


def children(pid: int) -> dict[str, int]:
    """Return the harness's own child processes by module."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            words = (path / "cmdline").read_bytes().decode().split("\0")
        except (OSError, ValueError):
            continue
        if parent == pid and "harness.sampling.agent" in words:
            found["host sampler"] = int(path.name)
    return found


def bench(flags: list[str], run_dir: Path) -> tuple[int, float, dict[str, list[Reading]]]:
    """Run a bench to its end; return its exit code, its duration in seconds and all readings."""
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "bench", *flags, "--run-dir", str(run_dir)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    readings: dict[str, list[Reading]] = {"harness": []}
    try:
        while process.poll() is None:
            for name, pid in {"harness": process.pid, **children(process.pid)}.items():
                reading = read(pid)
                if reading is not None:
                    readings.setdefault(name, []).append(reading)
            time.sleep(1)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    return process.returncode, time.monotonic() - begin, readings


def run_starts(run_dir: Path) -> list[int]:
    """Return when each run started, in nanoseconds of the monotonic clock."""
    (path,) = run_dir.glob("*/marks.csv")
    with path.open(newline="") as file:
        return [int(r["t_mono_ns"]) for r in csv.DictReader(file) if r["mark"] == "run_start"]


def tenths(starts: list[int]) -> tuple[float, float]:
    """Return the median seconds between starts in the second and in the last tenth of the runs."""
    gaps = [(b - a) / 1e9 for a, b in pairwise(starts)]
    tenth = len(gaps) // 10
    return statistics.median(gaps[tenth : 2 * tenth]), statistics.median(gaps[-tenth:])


def makespans(run_dir: Path) -> list[float]:
    """Return the makespan of each run, in seconds."""
    (path,) = run_dir.glob("*/results.csv")
    with path.open(newline="") as file:
        return [float(r["workflow_makespan_s"]) for r in csv.DictReader(file)]


def cpu_in_tenths(starts: list[int], found: list[Reading]) -> tuple[float, float]:
    """Return the CPU seconds a process spent on each run in the same two tenths."""
    tenth = len(starts) // 10

    def spent(first: int, last: int) -> float:
        within = [r for r in found if starts[first] <= r.at_ns <= starts[last]]
        runs = sum(within[0].at_ns <= start <= within[-1].at_ns for start in starts)
        return (within[-1].cpu_s - within[0].cpu_s) / max(1, runs)

    return spent(tenth, 2 * tenth), spent(len(starts) - tenth, len(starts) - 1)


def main() -> int:
    """Run one plan and print its figures; 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("plan", choices=PLANS)
    parser.add_argument("--repeat", metavar="N", help="runs, instead of the plan's own number")
    args = parser.parse_args()
    interrupt.install()  # ended itself, it ends the bench
    flags = [*PLANS[args.plan], *(["--repeat", args.repeat] if args.repeat else [])]
    with tempfile.TemporaryDirectory(prefix="load-", ignore_cleanup_errors=True) as place:
        code, took_s, readings = bench(flags, Path(place))
        starts = run_starts(Path(place))
        spans = makespans(Path(place))
        size = sum(f.stat().st_size for f in Path(place).rglob("*") if f.is_file())
    print(
        f"{args.plan}: exit code {code}, {len(starts)} runs in {took_s:.0f} s, {size / 1e6:.1f} MB"
    )
    ok = code == 0
    for name, found in readings.items():
        # Before are the start of the topology and first uses of everything; the summary at the end
        # reads all files at once, which is no growth of the bench.
        first = starts[len(starts) // 10]
        settled = [r for r in found if first <= r.at_ns <= starts[-1]] or found
        tenth = max(1, len(settled) // 10)
        before = statistics.median(r.rss_bytes for r in settled[:tenth])
        growth = statistics.median(r.rss_bytes for r in settled[-tenth:]) - before
        opened = settled[-1].descriptors - settled[0].descriptors
        ok = ok and growth <= TARGET_BYTES
        print(
            f"{name}: {settled[-1].rss_bytes / 1e6:.1f} MB at the end, grown by"
            f" {growth / 1e6:+.2f} MB; {settled[-1].descriptors} descriptors, {opened:+d}"
        )
    if len(starts) >= _ENOUGH:
        tenth = len(spans) // 10
        second, last = (
            statistics.median(some) for some in (spans[tenth : 2 * tenth], spans[-tenth:])
        )
        print(
            f"makespan: {second * 1e3:.1f} ms in the second tenth, {last * 1e3:.1f} ms in the"
            f" last: ratio {last / second:.3f}"
        )
        second, last = tenths(starts)
        print(
            f"from run to run: {second * 1e3:.1f} ms in the second tenth,"
            f" {last * 1e3:.1f} ms in the last: ratio {last / second:.3f}"
        )
        for name, found in readings.items():
            second, last = cpu_in_tenths(starts, found)
            print(
                f"CPU of {name} for each run: {second * 1e3:.2f} ms in the second tenth,"
                f" {last * 1e3:.2f} ms in the last: ratio {last / max(second, 1e-9):.3f}"
            )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
