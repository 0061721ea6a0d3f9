"""Which releases of a package does the harness run with? Each is built and does one tiny run.

    .venv/bin/python benchmarks/versions.py [--stack distributed] [--from 2024.3] [--python 3.11]

Target: all of them run. The seconds are those of the whole command: resolving, building, one
topology. A second call finds resolved locks and built images.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.core import interrupt
from harness.core.text import one_line
from harness.images.releases import LATEST, Every, choose, released
from harness.images.resolve import supported
from harness.results.directory import RunDirectory
from harness.results.rows import OutcomeRow, read_rows

PLAN = [
    *("--executor", "dask", "--dask-workers", "1", "--ps-connector", "redis", "--repeat", "1"),
    *("--stage-task-counts", "1", "1", "--stage-bytes-sizes", "1MB", "1KB", "1KB"),
    *("--task-sleep", "0", "--data-management", "none", "owned-proxy", "--no-report"),
]
_LONGEST_S = 1800


def measured(words: list[str], place: Path) -> str:
    """Do one bench; return how its runs ended."""
    place.mkdir()
    command = [sys.executable, "-m", "harness", "bench", *PLAN, *words, "--run-dir", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LONGEST_S)
    found = [RunDirectory(path) for path in place.iterdir() if path.is_dir()]
    if done.returncode or not found:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        return f"exit code {done.returncode}: {one_line(lines[-1])[:200]}"
    (directory,) = found
    outcomes = [row.outcome for row in read_rows(directory.outcomes, OutcomeRow)]
    return ", ".join(f"{outcomes.count(each)} {each}" for each in dict.fromkeys(outcomes))


def main() -> int:
    """Print a row for each release; 0 if all of them run."""
    interrupt.install()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stack", default="distributed", metavar="PACKAGE")
    parser.add_argument("--from", dest="first", default="2024.3", metavar="VERSION")
    parser.add_argument("--to", dest="last", default=LATEST, metavar="VERSION")
    parser.add_argument("--python", metavar="VERSION")
    args = parser.parse_args()
    ends = (args.first, args.last)
    chosen = choose(args.stack, released(args.stack), ends, Every.MINOR, supported(args.stack))
    python = ["--python", args.python] if args.python else []
    worst = 0
    print(f"{args.stack:<14} {'seconds':>7}  runs", flush=True)
    with tempfile.TemporaryDirectory(prefix="versions-") as scratch:
        for version in chosen.versions:
            began = time.monotonic()
            words = ["--stack", f"{args.stack}=={version}", *python]
            ended = measured(words, Path(scratch) / str(version))
            worst = max(worst, ended != "2 ok")
            print(f"{version!s:<14} {time.monotonic() - began:>7.0f}  {ended}", flush=True)
    return worst


if __name__ == "__main__":
    sys.exit(main())
