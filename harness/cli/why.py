"""Say who holds the memory of each service's peak, from traced runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from harness.analysis.tracing_cost import costs
from harness.analysis.why import LEFT, OWN_PEAK, TOPOLOGY_PEAK, read_why
from harness.core.parser import Parser
from harness.report.tables import as_text
from harness.report.why import (
    CSV,
    account_table,
    cost_table,
    overview,
    sentences,
    worth_telling,
    write_csv,
)
from harness.reproduce.reader import opened

_MOMENTS = {"own": OWN_PEAK, "topology": TOPOLOGY_PEAK, "after": LEFT}


def main(argv: Sequence[str]) -> int:
    """Parse, read, print."""
    parser = Parser(prog="harness why", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "directory",
        metavar="DIR",
        type=Path,
        help="run directory of a bench with --why, or a bundle of one",
    )
    parser.add_argument(
        "--at",
        choices=tuple(_MOMENTS),
        default="own",
        help="tables at each service's own peak, at the peak of all together, or of what is left"
        " after the run (default: own)",
    )
    args = parser.parse_args(argv)
    given: Path = args.directory
    with opened(given) as path:
        why = read_why(path)
        found = costs(why.session)
        for line in why.problems:
            print(f"warning: {line}", file=sys.stderr)
        if not given.is_file():
            # A folder of somebody else's is read all the same.
            with suppress(OSError):
                write_csv(why, why.session.path / CSV)
    tables = [
        account_table(account)
        for run in why.session.runs
        for account in worth_telling(why, run.run_id, _MOMENTS[args.at])
    ]
    cost = cost_table(found)
    for table in [*tables, overview(why), *([cost] if cost else [])]:
        print(f"{as_text(table)}\n")
    print("\n".join(sentences(why)))
    return 0
