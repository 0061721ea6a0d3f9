"""List the run directories with plan, outcome and headline figures."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.analysis.grades import warning
from harness.analysis.listing import Entry, entries
from harness.cli._parser import Parser
from harness.core.errors import UsageError
from harness.report.terminal import Table, fitted, screen_of


def main(argv: Sequence[str]) -> int:
    """Parse, look, print."""
    parser = Parser(
        prog="harness list",
        description=__doc__,
        example="harness list runs --sort net_peak",
    )
    parser.add_argument(
        "directory",
        nargs="?",
        default="runs",
        type=Path,
        metavar="DIR",
        help="where the run directories are (default: runs)",
    )
    parser.add_argument(
        "--sort",
        choices=tuple(_KEYS),
        default="name",
        help="by name (the default), or by the most that a mode needs or takes, the least first",
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse_args(argv)
    parent = args.directory
    if not parent.is_dir():
        raise UsageError(f"{parent}: no such directory; name the one given to --run-dir")
    try:
        found = entries(parent)
    except OSError as error:
        raise UsageError(f"{parent}: cannot be read ({error.strerror})") from None
    for entry in found:
        for line in entry.problems:
            print(warning(line), file=sys.stderr)
    found.sort(key=_KEYS[args.sort])
    if args.json:
        print(json.dumps([_plain(entry) for entry in found], indent=2))
        return 0
    if not found:
        print(f"{parent}: no run directories")
        return 0
    rows = tuple(_cells(entry) for entry in found)
    header = ("run directory", "executor", "connector", "stages", " runs", "outcome", "headline")
    less = ("stages", "connector", "executor", "outcome")
    print(fitted(Table("runs", "", header, rows, less=less), screen_of(sys.stdout)))
    return 0


def _most(figures: Mapping[str, float]) -> float:
    return max(figures.values(), default=math.inf)


_KEYS: Mapping[str, Callable[[Entry], Any]] = {
    "name": lambda entry: entry.name,
    "net_peak": lambda entry: _most(entry.net_peaks),
    "makespan": lambda entry: _most(entry.makespans),
}


def _plain(entry: Entry) -> dict[str, Any]:
    """Return an entry as data: seconds and bytes, nothing where it is not known."""
    return {
        "name": entry.name,
        "executor": entry.executor,
        "connector": entry.connector,
        "stages": entry.stages,
        "runs": entry.runs,
        "planned": entry.planned,
        "outcome": entry.outcome,
        "makespan_s": dict(entry.makespans),
        "net_peak_bytes": dict(entry.net_peaks),
    }


def _cells(entry: Entry) -> tuple[str, ...]:
    return (
        entry.name,
        entry.executor,
        entry.connector,
        entry.stages,
        _runs(entry),
        entry.outcome,
        entry.headline,
    )


def _runs(entry: Entry) -> str:
    """Return how many runs there are; of a plan that was not done, of how many."""
    if entry.planned is None or entry.planned <= entry.runs:
        return str(entry.runs)
    return f"{entry.runs} of {entry.planned}"
