"""Run a bundle's plan again, on its own images, and say whether the answer is the same."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from harness.core.flags import Parser
from harness.report import progress as shown


def main(argv: Sequence[str]) -> int:
    """Parse, run, print; 0 if it was reproduced, 1 if not or if there is not enough data."""
    parser = Parser(prog="harness reproduce", description=__doc__, allow_abbrev=False)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a file made by 'harness pack'")
    parser.add_argument(
        "--run-dir", default="runs/", metavar="DIR", help="where the new run goes (default: runs/)"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.05,
        metavar="FRACTION",
        help="differences up to this fraction do not matter (default: 0.05)",
    )
    args = parser.parse_args(argv)
    if not 0 <= args.threshold < float("inf"):
        parser.error(f"--threshold {args.threshold}: must be a fraction of at least 0")
    # They take a second to import.
    from harness.reproduce.rerun import Progress, reproduce  # noqa: PLC0415
    from harness.reproduce.text import reproduction_text  # noqa: PLC0415
    from harness.reproduce.verdict import Reproduced  # noqa: PLC0415

    with ExitStack() as stack:

        def tell(runs: int) -> Progress:
            bar = stack.enter_context(shown.Progress(runs, sys.stderr))
            return Progress(bar.say, bar.done)

        rerun = reproduce(args.bundle, args.run_dir, args.threshold, tell)
    print(reproduction_text(rerun.reproduction, rerun.other_files))
    print(f"\nRun directory: {rerun.directory.path}")
    return 0 if rerun.reproduction.verdict is Reproduced.YES else 1
