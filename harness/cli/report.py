"""Make a page, figures and tables from run directories."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from harness.analysis.figures import group_runs
from harness.analysis.grades import Grade, findings
from harness.analysis.readers import read_sessions
from harness.analysis.session import Session
from harness.cli._parser import Parser
from harness.core.errors import UsageError
from harness.report.story import story
from harness.report.tables import as_text, tables
from harness.report.terminal import paragraph, screen_of
from harness.reproduce.reader import opened


def main(argv: Sequence[str]) -> int:
    """Parse, read, write, print."""
    parser = Parser(
        prog="harness report",
        description=__doc__,
        example="harness report runs/demo",
    )
    parser.add_argument(
        "directories",
        nargs="+",
        metavar="DIR",
        type=Path,
        help="run directories of this harness or of psbench, or bundles; several make one report",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        type=Path,
        help="where report.html, figures/ and summary.json go (default: into the run directory;"
        " with several, needed)",
    )
    parser.add_argument(
        "--tables-only", action="store_true", help="only print the tables, write nothing"
    )
    return _report(parser.parse_args(argv))


def _report(args: argparse.Namespace) -> int:
    paths: list[Path] = args.directories
    output: Path | None = args.output
    if output is None and not args.tables_only:
        if len(paths) > 1 or paths[0].is_file():
            raise UsageError("--output: needed with several directories, or a bundle: name one")
        output = paths[0]
    with ExitStack() as stack:
        directories = [stack.enter_context(opened(path)) for path in paths]
        # Traces and logs are read when the page is made: a bundle's files stay until then.
        return _write(read_sessions(directories, paths), output)


def _write(sessions: Sequence[Session], output: Path | None) -> int:
    groups = group_runs(sessions)
    for session in sessions:
        for found in findings(session):
            if found.grade is not Grade.FINE:
                print(found, file=sys.stderr)
    screen = screen_of(sys.stdout)
    print("\n\n".join(as_text(table, screen) for table in tables(groups)))
    said = story(groups)
    if said:
        print(f"\n{paragraph(said, screen, 'bold')}")
    sys.stdout.flush()
    if output is None:
        return 0
    # Matplotlib takes a second to import: the tables do not wait for them.
    from harness.report.write import write_report  # noqa: PLC0415

    written = write_report(output, sessions, groups)
    if written.comparisons is not None:
        print(f"\n{as_text(written.comparisons, screen)}")
    print(f"\nReport: {written.page}")
    return 0
