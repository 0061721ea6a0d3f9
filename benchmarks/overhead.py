"""What the harness adds to an executor, per run of the documented example.

    .venv/bin/python benchmarks/overhead.py [EXECUTOR...] [--repeat N]

The overhead is the makespan less the stages' sleeps. The *floor* beside it is that of a bare
program: the same executor, started and warmed up the same way, given as many stages of as many
tasks that sleep as long and return as many bytes, with no store, no audit and no marks. What the
floor has is the executor's own: its queues, its polling, its processes.

``parsl-htex`` needs containers: its harness figure comes from ``harness bench``, and its floor is
the one of ``parsl-htex-local``, the same interchange and pool without a container in between.

Times are wall-clock times of this machine: compare them within one row, on a quiet machine; the
load average is printed below.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.executors import executors

COUNTS = (1, 3, 1, 1)
SIZES = (1000, 10000, 10000, 10000, 1000)
SLEEP_S = 0.3
MODES = ("none", "default-proxy", "manual-proxy", "owned-proxy")
TARGETS_S = {
    "thread": 0.015,
    "process": 0.03,
    "parsl-thread": 0.12,
    "parsl-htex-local": 0.2,
    "parsl-htex": 0.2,
}
OPTIONS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "thread": ("thread", {"max_workers": 4}, ["--thread-pool-max-workers", "4"]),
    "process": ("process", {"max_workers": 4}, ["--process-pool-max-workers", "4"]),
    **{
        f"parsl-{kind}": (
            "parsl",
            {"kind": "htex-local" if kind == "htex" else kind, "max_workers": 4},
            ["--parsl-executor", kind, "--parsl-max-workers", "4"],
        )
        for kind in ("thread", "htex-local", "htex")
    },
}


def nothing() -> None:
    """Be called once in every worker."""


def task(*data: bytes, size: int, sleep_s: float) -> bytes:
    """Sleep and return bytes."""
    # Parsl copies functions of the main program to its workers, and not what they refer to.
    import time  # noqa: PLC0415

    del data
    time.sleep(sleep_s)
    return bytes(size)


def floor(name: str, repeat: int) -> list[float]:
    """Return seconds beyond sleep of the bare program, one for each repetition."""
    plug_in, options, _ = OPTIONS[name]
    config = executors.get(plug_in)(**options)
    beyond = []
    with config.start(60) as executor:
        config.wait_ready(executor, nothing, 60)
        for _ in range(repeat):
            start = time.perf_counter()
            data = [bytes(SIZES[0])]
            for count, size in zip(COUNTS, SIZES[1:], strict=True):
                futures = [
                    executor.submit(task, *data, size=size, sleep_s=SLEEP_S) for _ in range(count)
                ]
                data = [future.result() for future in futures]
            beyond.append(time.perf_counter() - start - SLEEP_S * len(COUNTS))
    return beyond


def harness(name: str, repeat: int) -> dict[str, list[float]]:
    """Return mode -> seconds beyond sleep of each run under the harness."""
    executor, _, flags = OPTIONS[name]
    command = "bench" if name == "parsl-htex" else "run"
    with tempfile.TemporaryDirectory() as place:
        line = [sys.executable, "-m", "harness", command, "--executor", executor, *flags]
        line += ["--ps-connector", "file", "--ps-file-dir", f"{place}/objects"]
        line += ["--data-management", *MODES, "--stage-task-counts", *map(str, COUNTS)]
        line += ["--stage-bytes-sizes", *map(str, SIZES), "--task-sleep", str(SLEEP_S)]
        line += ["--repeat", str(repeat), "--run-dir", f"{place}/runs"]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        (results,) = Path(place, "runs").glob("*/results.csv")
        with results.open(newline="") as file:
            rows = list(csv.DictReader(file))
    beyond = defaultdict(list)
    for row in rows:
        makespan = float(row["workflow_makespan_s"])
        beyond[row["data_management"]].append(makespan - SLEEP_S * len(COUNTS))
    return beyond


def show(names: Sequence[str], repeat: int) -> None:
    """Measure and print one row for each executor."""
    print(f"seconds beyond sleep, medians of {repeat}")
    header = "".join(f"{mode:>15}" for mode in MODES)
    print(f"{'executor':<18}{'floor':>8}{header}{'target':>9}")
    for name in names:
        bare = statistics.median(floor(name, repeat))
        each = harness(name, repeat)
        cells = "".join(f"{statistics.median(each[mode]):>15.4f}" for mode in MODES)
        print(f"{name:<18}{bare:>8.4f}{cells}{TARGETS_S[name]:>9.3f}", flush=True)
    print(f"load average after: {os.getloadavg()[0]:.2f}")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("executors", nargs="*", metavar="EXECUTOR", help=", ".join(OPTIONS))
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    unknown = set(args.executors) - set(OPTIONS)
    if unknown:
        parser.error(f"unknown executor {unknown.pop()!r}: one of {', '.join(OPTIONS)}")
    show(args.executors or list(OPTIONS), args.repeat)


if __name__ == "__main__":
    main()
