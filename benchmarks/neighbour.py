"""Two sessions of one plan, one of them with a noisy neighbour: what does each figure say?

    .venv/bin/python benchmarks/neighbour.py [--repeat 5]

The neighbour is another container that holds 1 GB, comes, and goes again. Target: the net peak of
each mode, from the kernel's high-water mark of the topology's own cgroup, differs by at most 2 %.
Beside it: the host-wide figure of the same two sessions, as the reference and its paper have it
(total less available, highest less what it was when the run started).
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
from _benches import bench

from harness.analysis.figures import group_runs
from harness.analysis.readers import read_session
from harness.core import interrupt
from harness.results.directory import RunDirectory
from harness.results.rows import ResultRow, read_rows
from harness.topology.engine import RUN_LABEL

IMAGE = "workflow-memory-harness/pool:latest"
MODES = ("none", "default-proxy", "manual-proxy", "owned-proxy")
TARGET_PERCENT = 2.0
NEIGHBOUR = """
import mmap, random, time
chance = random.Random(1)
while True:
    held = mmap.mmap(-1, 10**9, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
    time.sleep(chance.uniform(0.5, 2.0))
    held.close()
    time.sleep(chance.uniform(0.5, 2.0))
"""


@contextmanager
def neighbour() -> Iterator[None]:
    """Let a container hold 1 GB, come and go; it leaves with the context."""
    client = docker.from_env()
    container = client.containers.run(
        IMAGE,
        ["python", "-c", NEIGHBOUR],
        detach=True,
        network_mode="none",
        labels={RUN_LABEL: f"benchmark-{os.getpid()}"},
    )
    try:
        yield
    finally:
        container.remove(force=True)


def session(repeat: int, place: Path) -> RunDirectory:
    """Bench the plan once."""
    # As many tasks at once as this machine has cores at least: what they hold at the same time
    # must not depend on whose turn it is.
    flags = ["--executor", "dask", "--dask-workers", "2", "--ps-connector", "redis"]
    flags += ["--data-management", *MODES]
    flags += ["--stage-task-counts", "2", "1", "--stage-bytes-sizes", "100MB", "20MB", "1MB"]
    flags += ["--task-sleep", "0.5", "--repeat", str(repeat), "--warmup", "1"]
    return bench(flags, place)


def net_peaks(directory: RunDirectory) -> dict[str, float]:
    """Return each mode's median net peak of the topology."""
    groups = group_runs([read_session(directory.path)])
    return {group.mode: group.topology.net_peak.median for group in groups if group.topology}


def host_wide(directory: RunDirectory) -> dict[str, float]:
    """Return the same from the host's memory, by mode: medians of the runs."""
    with directory.host_memory.open(newline="") as file:
        samples = [
            (float(row["unix_timestamp"]), int(row["total_bytes"]) - int(row["available_bytes"]))
            for row in csv.DictReader(file)
        ]
    peaks = defaultdict(list)
    for run in read_rows(directory.results, ResultRow):
        start, end = run.workflow_start_timestamp, run.workflow_end_timestamp
        within = [used for stamp, used in samples if start <= stamp <= end]
        peaks[run.data_management].append(max(within) - within[0])
    return {mode: statistics.median(found) for mode, found in peaks.items()}


def main() -> int:
    """Measure and print; the exit code says whether the target was met."""
    interrupt.install()  # SIGTERM, too, must remove the containers
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        quiet = session(args.repeat, Path(folder, "quiet"))
        with neighbour():
            noisy = session(args.repeat, Path(folder, "noisy"))
        tables = [("net, kernel", net_peaks(quiet), net_peaks(noisy))]
        tables.append(("host-wide", host_wide(quiet), host_wide(noisy)))
    largest = 0.0
    print(f"medians of {args.repeat} runs, MB; load average {os.getloadavg()[0]:.2f}")
    print(f"{'peak':14}{'mode':16}{'alone':>10}{'neighbour':>12}{'differs':>10}")
    for name, alone, beside in tables:
        for mode in MODES:
            off = 100 * (beside[mode] / alone[mode] - 1)
            if name.startswith("net"):
                largest = max(largest, abs(off))
            figures = f"{alone[mode] / 1e6:>10.2f}{beside[mode] / 1e6:>12.2f}{off:>+9.2f} %"
            print(f"{name:14}{mode:16}{figures}")
    met = largest <= TARGET_PERCENT
    print(f"target (net peak differs by <= {TARGET_PERCENT:g} %): {met}, largest {largest:.2f} %")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
