"""List the run directories with plan, outcome and headline figures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from harness.analysis.listing import Entry, entries
from harness.core.errors import UsageError
from harness.core.parser import Parser


def main(argv: Sequence[str]) -> int:
    """Parse, look, print."""
    parser = Parser(prog="harness list", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "directory",
        nargs="?",
        default="runs",
        type=Path,
        metavar="DIR",
        help="where the run directories are (default: runs)",
    )
    parent = parser.parse_args(argv).directory
    if not parent.is_dir():
        raise UsageError(f"{parent}: no such directory; name the one given to --run-dir")
    try:
        found = entries(parent)
    except OSError as error:
        raise UsageError(f"{parent}: cannot be read ({error.strerror})") from None
    for entry in found:
        for line in entry.problems:
            print(f"warning: {line}", file=sys.stderr)
    if not found:
        print(f"{parent}: no run directories")
        return 0
    rows = [_cells(entry) for entry in found]
    headers = ("run directory", "executor", "connector", "stages", "runs", "outcome", "headline")
    print(tabulate(rows, headers=headers, disable_numparse=True))
    return 0


def _cells(entry: Entry) -> tuple[str, ...]:
    return (
        entry.name,
        entry.executor,
        entry.connector,
        entry.stages,
        str(entry.runs),
        entry.outcome,
        entry.headline,
    )
