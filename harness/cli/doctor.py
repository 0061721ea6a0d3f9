"""Say what works here."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence

from tabulate import tabulate

from harness.core.flags import Parser
from harness.plan import Mode
from harness.results.rows import columns
from harness.topology.matrix import Cell, matrix


def main(argv: Sequence[str]) -> int:
    """Parse, look, print."""
    parser = Parser(prog="harness doctor", description=__doc__, allow_abbrev=False)
    looks = parser.add_mutually_exclusive_group(required=True)
    looks.add_argument(
        "--matrix",
        action="store_true",
        help="which executors, connectors and modes run in containers, and why the others do not",
    )
    parser.add_argument("--csv", action="store_true", help="one CSV line for each cell")
    args = parser.parse_args(argv)
    cells = list(matrix())
    if args.csv:
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(columns(Cell))
        table.writerows([getattr(cell, name) for name in columns(Cell)] for cell in cells)
    else:
        _print_matrix(cells)
    return 0


def _print_matrix(cells: Sequence[Cell]) -> None:
    """Print a row for each executor and connector, and below it the reasons, each once."""
    reasons: dict[str, int] = {}
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for cell in cells:
        note = ""
        if cell.why:
            note = f" [{reasons.setdefault(f'{cell.outcome}: {cell.why}', len(reasons) + 1)}]"
        rows.setdefault((cell.executor, cell.connector), {})[cell.mode] = cell.outcome + note
    modes = [mode.value for mode in Mode]
    print(
        tabulate(
            [(*pair, *(found[mode] for mode in modes)) for pair, found in rows.items()],
            headers=("executor", "connector", *modes),
        )
    )
    for reason, number in reasons.items():
        print(f"[{number}] {reason}" if number > 1 else f"\n[{number}] {reason}")
