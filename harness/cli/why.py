"""Say who holds the memory of each service's peak, from traced runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from harness.analysis.grades import warning
from harness.analysis.tracing_cost import Cost, costs
from harness.analysis.why import LEFT, OWN_PEAK, TOPOLOGY_PEAK, Why, read_why
from harness.cli._parser import Parser
from harness.core.errors import UsageError
from harness.report.tables import as_text
from harness.report.why import (
    CSV,
    account_table,
    difference_sentences,
    difference_table,
    overview,
    sentences,
    worth_telling,
    write_csv,
)
from harness.report.why_cost import cost_table
from harness.reproduce.reader import opened

_MOMENTS = {"own": OWN_PEAK, "topology": TOPOLOGY_PEAK, "after": LEFT}


def main(argv: Sequence[str]) -> int:
    """Parse, read, print."""
    parser = Parser(
        prog="harness why", description=__doc__, example="harness why runs/demo --at own"
    )
    parser.add_argument(
        "directories",
        metavar="DIR",
        nargs="+",
        type=Path,
        help="run directory of a bench with --why, or a bundle of one; with a second one, what"
        " changed from the first to it",
    )
    parser.add_argument(
        "--at",
        choices=tuple(_MOMENTS),
        default="own",
        help="tables at each service's own peak, at the peak of all together, or of what is left"
        " after the run (default: own)",
    )
    args = parser.parse_args(argv)
    given: list[Path] = args.directories
    if len(given) > 2:
        raise UsageError(f"{given[2]}: one run directory is told, or two are compared")
    with ExitStack() as stack:
        whys = [read_why(stack.enter_context(opened(path))) for path in given]
        for path, why in zip(given, whys, strict=True):
            for line in why.problems:
                print(warning(line), file=sys.stderr)
            if not path.is_file():
                # A folder of somebody else's is read all the same.
                with suppress(OSError):
                    write_csv(why, why.session.path / CSV)
        found = costs(whys[0].session)
    if len(whys) == 2:
        print(f"{as_text(difference_table(*whys))}\n")
        print("\n".join(difference_sentences(*whys)))
        return 0
    _tell(whys[0], found, _MOMENTS[args.at])
    return 0


def _tell(why: Why, found: Sequence[Cost], moment: str) -> None:
    tables = [
        account_table(account)
        for run in why.session.runs
        for account in worth_telling(why, run.run_id, moment)
    ]
    cost = cost_table(found, why.sizes)
    for table in [*tables, overview(why), *([cost] if cost else [])]:
        print(f"{as_text(table)}\n")
    print("\n".join(sentences(why)))
