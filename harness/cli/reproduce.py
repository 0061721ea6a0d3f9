"""Run a bundle's plan again, on its own images, and say whether the answer is the same."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from harness.cli._parser import Parser
from harness.core.errors import UNDECIDED
from harness.core.flags import add_flags
from harness.core.parser import share
from harness.report import progress as shown
from harness.reproduce.decides import MOST_UNASKED, READERS


def main(argv: Sequence[str]) -> int:
    """Parse, run, print; 0 if it was reproduced, 1 if not, 5 if the runs do not say."""
    parser = Parser(
        prog="harness reproduce",
        description=__doc__,
        example="harness reproduce demo.bundle",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a file made by 'harness pack'")
    parser.add_argument(
        "--threshold",
        type=share,
        default=0.05,
        metavar="SHARE",
        help="differences up to this do not matter: 5%% or 0.05 (default: 5%%)",
    )
    parser.add_argument(
        "--repeat",
        type=int,
        default=argparse.SUPPRESS,
        metavar="N",
        help=f"runs of each mode (default: as published, up to {MOST_UNASKED} runs in all)",
    )
    parser.add_argument(
        "--allow-undecided",
        action="store_true",
        help="exit with 0 instead of 5 where the runs do not say",
    )
    parser.add_argument(
        "--runtime",
        choices=("docker", "bwrap", "apptainer"),
        default="docker",
        help="what starts processes in the images: an engine, or on a machine without one, or in a"
        " Slurm job, bubblewrap or Apptainer (default: docker)",
    )
    # It writes no report, traces nothing, and has said how often.
    said = {"repeat", "no_report", "until", "budget", "against", "why"}
    names = {name for names in READERS.values() for name in names} - said
    add_flags(parser, "yours to decide, whatever the bundle's plan says", READERS, names)
    args = parser.parse_args(argv)
    # They take a second to import.
    from harness.reproduce.rerun import Progress, reproduce  # noqa: PLC0415
    from harness.reproduce.text import reproduction_text  # noqa: PLC0415
    from harness.reproduce.verdict import Reproduced  # noqa: PLC0415

    with ExitStack() as stack:

        def tell(runs: int) -> Progress:
            bar = stack.enter_context(shown.Progress(runs, sys.stderr))
            return Progress(bar.say, bar.done)

        runtime = "" if args.runtime == "docker" else args.runtime
        rerun = reproduce(args.bundle, vars(args), args.threshold, tell, runtime)
    print(reproduction_text(rerun.reproduction, rerun.other_files))
    print(f"\nRun directory: {rerun.directory.path}")
    if rerun.reproduction.verdict is Reproduced.UNDECIDED and not args.allow_undecided:
        return UNDECIDED
    return 1 if rerun.reproduction.verdict is Reproduced.NO else 0
