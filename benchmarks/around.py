"""What a bench takes beside its runs: before the first, between two, at the end.

    python benchmarks/around.py [--repeat N] [--beside DIR] [--psbench PYTHON] [-- FLAGS OF bench]

Without flags it is the documented example. Seconds are this machine's: compare them with those of
another checkout (``--beside``, a checkout with its own virtual environment), which takes
turns with this one, on a machine with nothing else to do. CPU is all of the machine's, engine and
containers included, less what the executor's sleeping tasks leave idle: it is what bounds the
seconds on few cores.

``--psbench`` names the Python of a virtual environment that has psbench: the same flags then take
turns there, and with ``harness run``, which like psbench knows no containers. Of these the whole
command counts, as a ratio to psbench's.
"""

from __future__ import annotations

import argparse
import csv
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = (
    (ROOT / "compose" / "dask.args").read_text()
    + " --executor dask --ps-connector file --ps-file-dir runs/cache"
    " --data-management none default-proxy owned-proxy --stage-task-counts 1 3 1 1"
    " --stage-bytes-sizes 1000 10000 10000 10000 1000 --task-sleep 1.0 --repeat 5"
)
NAMES = ("first run", "between runs", "between topologies", "end", "in all", "CPU")


def cpu_s() -> float:
    """Return the CPU seconds that all of the machine has spent so far, stolen ones left out."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, soft = map(int, fields[:7])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def timed(checkout: Path, flags: list[str]) -> dict[str, float]:
    """Run a bench of a checkout; return seconds by what they were spent on.

    Raises:
        subprocess.CalledProcessError: if it does not end well.
    """
    python = str(checkout / ".venv" / "bin" / "python")
    with tempfile.TemporaryDirectory() as place:
        spent, start_ns = cpu_s(), time.monotonic_ns()
        subprocess.run(
            [python, "-m", "harness", "bench", *flags, "--run-dir", place],
            check=True,
            cwd=checkout,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end_ns, spent = time.monotonic_ns(), cpu_s() - spent
        (path,) = Path(place).glob("*/marks.csv")
        with path.open() as file:
            rows = [(r["run_id"], r["mark"], int(r["t_mono_ns"])) for r in csv.DictReader(file)]
    starts = [(run, t) for run, mark, t in rows if mark == "run_start"]
    ends = [(run, t) for run, mark, t in rows if mark == "run_end"]
    gaps = [
        (_mode(a) == _mode(b), (start - end) / 1e9)
        for (a, end), (b, start) in zip(ends, starts[1:], strict=False)
    ]
    within = [gap for same, gap in gaps if same]
    across = [gap for same, gap in gaps if not same]
    return {
        "first run": (starts[0][1] - start_ns) / 1e9,
        "between runs": statistics.median(within) if within else float("nan"),
        "between topologies": statistics.median(across) if across else float("nan"),
        "end": (end_ns - ends[-1][1]) / 1e9,
        "in all": (end_ns - start_ns) / 1e9,
        "CPU": spent,
    }


def whole(command: list[str], flags: list[str]) -> float:
    """Run a command with flags that all of them have; return the seconds it took.

    Raises:
        subprocess.CalledProcessError: if it does not end well.
    """
    with tempfile.TemporaryDirectory() as place:
        start = time.monotonic()
        subprocess.run(
            [*command, *flags, "--run-dir", place],
            check=True,
            cwd=place,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return time.monotonic() - start


def _mode(run_id: str) -> str:
    """Return the mode in a run's id, ``0007-default-proxy-2``: each has a topology of its own."""
    return run_id.split("-", 1)[1].rsplit("-", 1)[0]


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--beside", type=Path, metavar="DIR")
    parser.add_argument("--psbench", metavar="PYTHON")
    parser.add_argument("flags", nargs="*")
    args = parser.parse_args()
    flags = args.flags or shlex.split(EXAMPLE)
    sides = [ROOT, *([args.beside.resolve()] if args.beside else [])]
    found: dict[Path, list[dict[str, float]]] = {side: [] for side in sides}
    others: dict[str, list[str]] = {}
    if args.psbench:
        others = {
            "psbench": [args.psbench, "-m", "psbench.run.workflow_memory"],
            "harness run": [str(ROOT / ".venv" / "bin" / "python"), "-m", "harness", "run"],
        }
    took: dict[str, list[float]] = {name: [] for name in others}
    for _ in range(args.repeat):
        for name, command in others.items():
            took[name].append(whole(command, flags))
        for side in sides:
            found[side].append(timed(side, flags))
            sys.stderr.write(".")
            sys.stderr.flush()
    print(f"\nseconds, medians of {args.repeat}; load average {os.getloadavg()[0]:.1f}")
    print("".join(f"{name:>20}" for name in ("", *NAMES)))
    for side in sides:
        medians = [statistics.median(each[name] for each in found[side]) for name in NAMES]
        print(f"{'this' if side == ROOT else 'other':>20}" + "".join(f"{m:20.2f}" for m in medians))

    if others:
        took["harness bench"] = [each["in all"] for each in found[ROOT]]
        base = statistics.median(took["psbench"])
        for name, seconds in took.items():
            median = statistics.median(seconds)
            print(f"{name:>20}{median:10.2f} s, {median / base:.2f} times psbench")


if __name__ == "__main__":
    main()
