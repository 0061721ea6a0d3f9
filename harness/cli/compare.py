"""Compare two run directories, mode by mode, with a verdict."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from harness.analysis.compare import (
    METRICS,
    PRIMARY,
    Question,
    SessionComparison,
    compare_sessions,
)
from harness.analysis.grades import warning
from harness.analysis.identity import other_work
from harness.analysis.readers import read_sessions
from harness.analysis.session import Session
from harness.analysis.verdicts import Rules
from harness.cli._parser import Parser
from harness.core.errors import UNDECIDED, UsageError
from harness.core.files import write_whole
from harness.core.parser import share
from harness.report.comparison import FORMATS, as_table, headline_of
from harness.report.terminal import screen_of
from harness.reproduce.reader import opened


def main(argv: Sequence[str]) -> int:
    """Parse, read, compare, print; 1 if something became worse."""
    args = _parser().parse_args(argv)
    if args.b is None and not args.modes:
        raise UsageError("a second directory is needed, or --modes A B to compare two modes of one")
    if args.alpha >= 1:
        raise UsageError(f"--alpha {args.alpha:g}: is a probability: write 0.05 or 5%")
    with ExitStack() as stack:
        given = [args.a] if args.b is None else [args.a, args.b]
        sessions = read_sessions([stack.enter_context(opened(path)) for path in given], given)
        a, b = sessions[0], sessions[-1]
    for line in dict.fromkeys((*a.problems, *b.problems)):
        print(warning(line), file=sys.stderr)
    _refuse(a, b, args)
    modes = [tuple(args.modes)] if args.modes else None
    found = compare_sessions(a, b, _question(args), modes=modes)
    if args.format == "table" and args.output is None:
        print(as_table(found, every=args.all, screen=screen_of(sys.stdout)))
    else:
        write(FORMATS[args.format](found, every=args.all), args.output)
    if args.format != "table" or args.output:
        print(headline_of(found), file=sys.stderr)
    return _code(found, allow_undecided=args.allow_undecided)


def question_parser() -> Parser:
    """Return the flags that say what is asked and how it is answered, for other commands, too."""
    parser = Parser(add_help=False)
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="METRIC[:SERVICE]",
        help=f"of {', '.join(metric.name for metric in METRICS)} (default: all that are not"
        " scale-free); of one service: net_peak:runner",
    )
    parser.add_argument(
        "--primary",
        metavar="METRIC[:SERVICE]",
        help=f"the metric that decides the exit code (default: {PRIMARY}; of a service:"
        f" {PRIMARY}:runner)",
    )
    add_threshold(parser, "differences up to this never matter")
    parser.add_argument(
        "--alpha",
        type=share,
        default=Rules.alpha,
        metavar="SHARE",
        help="significance level of the tests (default: 0.05)",
    )
    parser.add_argument(
        "--format", choices=sorted(FORMATS), default="table", help="(default: table)"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="instead of standard output"
    )
    parser.add_argument(
        "--all", action="store_true", help="show also what did not change of each service"
    )
    parser.add_argument(
        "--allow-undecided",
        action="store_true",
        help="exit with 0 instead of 5 where the primary metric has no answer",
    )
    return parser


def add_threshold(parser: argparse._ActionsContainer, what: str) -> None:
    """Add ``--threshold`` to a command that judges.

    Args:
        parser: or a group of it.
        what: the flag says.
    """
    parser.add_argument(
        "--threshold",
        type=share,
        default=Rules.threshold,
        metavar="SHARE",
        help=f"{what}: 5%% or 0.05 (default: 5%%)",
    )


def _parser() -> Parser:
    parser = Parser(
        prog="harness compare",
        description=__doc__,
        example="harness compare runs/before runs/after",
        parents=[question_parser()],
        epilog="Exit codes, by the primary metric: 0 no mode became worse, 1 one did (or runs fail"
        " now), 2 the sides cannot be compared, 5 undecided.",
    )
    parser.add_argument(
        "a", metavar="A", type=Path, help="the baseline: a run directory, or bundle"
    )
    parser.add_argument("b", metavar="B", type=Path, nargs="?", help="what is judged")
    parser.add_argument(
        "--modes",
        nargs=2,
        metavar=("MODE_A", "MODE_B"),
        help="compare one mode of A with another of B (of A, if there is no B)",
    )
    parser.add_argument(
        "--scale-free",
        action="store_true",
        help="compare what does not depend on sizes and sleep (net peak / payload, makespan /"
        " ideal): for workloads scaled to other machines",
    )
    parser.add_argument("--force", action="store_true", help="compare although other work was done")
    return parser


def _question(args: argparse.Namespace) -> Question:
    """Return what is asked; the first of the metrics decides where the usual one is not there."""
    scale_free = tuple(metric.name for metric in METRICS if metric.scale_free)
    names = tuple(args.metrics or ()) or (scale_free if args.scale_free else None)
    return Question(
        Rules(args.threshold, args.alpha),
        names,
        args.primary or (PRIMARY if names is None or PRIMARY in names else names[0]),
        other_work=args.force or args.scale_free,
    )


def _refuse(a: Session, b: Session, args: argparse.Namespace) -> None:
    """Refuse to compare sessions that did other work, unless that is what was asked for."""
    if args.force or args.scale_free:
        return
    other = [str(d) for d in other_work(a, b)]
    if other:
        raise UsageError(
            f"other work was done ({'; '.join(other)}): compare the same plan, or with --scale-free"
            " only what does not depend on sizes, or everything with --force"
        )


def write(text: str, output: Path | None) -> None:
    """Write a comparison to a file, or standard output.

    Raises:
        UsageError: if it cannot be written.
    """
    if output is None:
        print(text)
        return
    try:
        write_whole(output, text + "\n")
    except OSError as error:
        raise UsageError(f"--output {output}: cannot be written ({error.strerror})") from None


def _code(found: SessionComparison, *, allow_undecided: bool) -> int:
    if found.worse:
        return 1
    return UNDECIDED if found.undecided and not allow_undecided else 0
