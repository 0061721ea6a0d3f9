"""Say what works here: the machine, or which executors and connectors."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence

from harness.cli._parser import Parser
from harness.core.errors import InfrastructureError, UsageError
from harness.core.text import one_line
from harness.plan import Mode, add_plan_flags, parse_plan
from harness.report.terminal import columns, screen_of
from harness.results import rows as schema
from harness.topology.checks import Verdict
from harness.topology.doctor import examine
from harness.topology.matrix import Cell, matrix


def main(argv: Sequence[str]) -> int:
    """Parse, look, print."""
    parser = Parser(
        prog="harness doctor",
        description=__doc__,
        example="harness doctor --matrix",
    )
    parser.add_argument(
        "--matrix",
        action="store_true",
        help="which executors, connectors and modes run in containers, and why the others do not",
    )
    parser.add_argument("--csv", action="store_true", help="one CSV line for each cell")
    parser.epilog = "The flags of a bench behind these compare its needs with this machine."
    args, plan_flags = parser.parse_known_args(argv)
    if not args.matrix:
        return _examine(plan_flags)
    if plan_flags:
        raise UsageError(f"--matrix: takes no plan; leave out {plan_flags[0]!r}")
    cells = list(matrix())
    if args.csv:
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(schema.columns(Cell))
        table.writerows([getattr(cell, name) for name in schema.columns(Cell)] for cell in cells)
    else:
        _print_matrix(cells)
    return 0


def _examine(plan_flags: Sequence[str]) -> int:
    """Look at this machine; 3 if a bench cannot work here."""
    plan = None
    if plan_flags:
        parser = Parser(prog="harness doctor", allow_abbrev=False)
        add_plan_flags(parser, containers=True)
        plan = parse_plan(parser, plan_flags, containers=True)
    run_dir = plan.general.run_dir if plan else "runs/"
    found = list(examine(plan, run_dir))
    print(
        columns(
            ("", "what", "found", "remedy"),
            [(check.verdict, check.name, one_line(check.found), check.remedy) for check in found],
            screen_of(sys.stdout),
        )
    )
    failed = any(check.verdict == Verdict.FAIL for check in found)
    return InfrastructureError.exit_code if failed else 0


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
        columns(
            ("executor", "connector", *modes),
            [(*pair, *(found[mode] for mode in modes)) for pair, found in rows.items()],
            screen_of(sys.stdout),
        )
    )
    for reason, number in reasons.items():
        print(f"[{number}] {reason}" if number > 1 else f"\n[{number}] {reason}")
