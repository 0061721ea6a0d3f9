"""Our host-wide sampler against the reference's own, on the same job in the same minute.

    .venv/bin/python benchmarks/reference_sampler.py --reference DIR [--seconds 60]

DIR holds a checkout of the reference (github.com/proxystore/benchmarks), whose ``psbench.memory``
is used as it is. Both sample the host's memory every 10 ms, at once, while a process pool passes
payloads of 5 MB around. Target: better in all four of rate, lateness, CPU and growth.

Lateness is how much later than the interval after the one before a sample was taken, from the
time stamps in the two CSV files. CPU is the samplers' own clocks. Growth is of resident memory
from the tenth second on.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from harness.core import interrupt
from harness.sampling.host import HostProfiler

INTERVAL_S = 0.01
SETTLE_S = 10.0
# The profiler is a process that the reference's program forks; the number is its own.
REFERENCE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from psbench.memory import SystemMemoryProfiler
profiler = SystemMemoryProfiler(float(sys.argv[3]), sys.argv[2])
profiler.start()
print(profiler.pid, flush=True)
sys.stdin.read()
profiler.stop()
profiler.join()
"""
JOB = (
    "harness run --executor process --process-pool-max-workers 2 --ps-connector file"
    " --ps-file-dir objects --data-management none default-proxy owned-proxy"
    " --stage-task-counts 2 1 --stage-bytes-sizes 5MB 5MB 5MB --task-sleep 0.1 --repeat 1000"
)


@dataclass(frozen=True)
class Figures:
    """What one sampler achieved: samples a second, seconds, share of a core, bytes."""

    rate: float
    late_p99_s: float
    cpu: float
    growth_bytes: int


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{pid}/statm").read_text(encoding="ascii")
    return int(status.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def times(path: Path) -> list[float]:
    """Return the time stamps of a memory CSV, the last line left out: it may be cut short."""
    with path.open(newline="") as file:
        return [float(row["unix_timestamp"]) for row in csv.DictReader(file)][:-1]


def figures(
    path: Path, window: tuple[float, float], cpu: tuple[float, float], rss: tuple[int, int]
) -> Figures:
    """Put one sampler's figures together."""
    stamps = [stamp for stamp in times(path) if window[0] <= stamp <= window[1]]
    late = sorted(b - a - INTERVAL_S for a, b in itertools.pairwise(stamps))
    span = window[1] - window[0]
    return Figures(
        rate=len(stamps) / span,
        late_p99_s=late[int(0.99 * len(late))],
        cpu=(cpu[1] - cpu[0]) / span,
        growth_bytes=rss[1] - rss[0],
    )


def measure(reference: str, seconds: float, folder: Path) -> tuple[Figures, Figures]:
    """Return the reference's figures and ours."""
    paths = (folder / "reference.csv", folder / "ours.csv")
    job = subprocess.Popen(
        [sys.executable, "-m", *JOB.split(), "--run-dir", "runs"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    theirs = subprocess.Popen(
        [sys.executable, "-c", REFERENCE, reference, str(paths[0]), str(INTERVAL_S)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert theirs.stdout is not None
        pid = int(theirs.stdout.readline())
        with HostProfiler(INTERVAL_S, paths[1]) as ours:
            pids = (pid, ours.pid)
            time.sleep(SETTLE_S)
            start, cpu, rss = time.time(), [cpu_s(p) for p in pids], [rss_bytes(p) for p in pids]
            time.sleep(seconds)
            end, cpu_end = time.time(), [cpu_s(p) for p in pids]
            rss_end = [rss_bytes(p) for p in pids]
            time.sleep(1.5)  # ours hands its rows over once a second
    finally:
        theirs.communicate("")
        job.terminate()
        job.wait()
    found = [
        figures(paths[n], (start, end), (cpu[n], cpu_end[n]), (rss[n], rss_end[n])) for n in (0, 1)
    ]
    return found[0], found[1]


def main() -> int:
    """Measure and print; the exit code says whether ours was better in all four."""
    interrupt.install()  # SIGTERM, too, must end what was started
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--reference", required=True, metavar="DIR")
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = measure(str(Path(args.reference).absolute()), args.seconds, Path(folder))
    print(f"{args.seconds:g} s at {INTERVAL_S * 1000:g} ms, load average {os.getloadavg()[0]:.2f}")
    print(f"{'':28}{'reference':>12}{'ours':>12}{'ratio':>8}")
    for name, a, b in (
        ("samples a second", theirs.rate, ours.rate),
        ("99 % at most ms late", 1000 * theirs.late_p99_s, 1000 * ours.late_p99_s),
        ("% of a core", 100 * theirs.cpu, 100 * ours.cpu),
        ("growth in kB", theirs.growth_bytes / 1000, ours.growth_bytes / 1000),
    ):
        print(f"{name:28}{a:>12.3f}{b:>12.3f}{(b / a if a else float('nan')):>8.3f}")
    better = (
        ours.rate >= theirs.rate
        and ours.late_p99_s <= theirs.late_p99_s
        and ours.cpu <= theirs.cpu
        and ours.growth_bytes <= theirs.growth_bytes
    )
    print(f"target (better in all four): {better}")
    return 0 if better else 1


if __name__ == "__main__":
    sys.exit(main())
