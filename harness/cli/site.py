"""Make a static site of many results: a table with filters, a page each, curves over all."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.grades import warning
from harness.cli._parser import Parser
from harness.core.errors import HarnessError, UsageError
from harness.core.text import one_line

if TYPE_CHECKING:
    from harness.report.site import Source


def main(argv: Sequence[str]) -> int:
    """Parse, find, write."""
    parser = Parser(
        prog="harness site",
        description=__doc__,
        example="harness site runs/ bundles/*.tar.zst --output site",
    )
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="DIR|BUNDLE",
        help="run directories, bundles, or folders of them",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="the site's directory"
    )
    parser.add_argument(
        "--no-bundles",
        action="store_true",
        help="name bundles with their hash, and put none of them into the site",
    )
    args = parser.parse_args(argv)
    # They take a second to import.
    from harness.report.site import find, prepare, write_index  # noqa: PLC0415

    found = find(args.results)
    try:
        prepare(args.output, found)
        write = partial(_write, args.output, bundles=not args.no_bundles)
        with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
            results = list(pool.map(write, found.sources, chunksize=4))
        page = write_index(args.output, results, list(found.pages))
    except OSError as error:
        raise UsageError(
            f"{error.filename or args.output}: cannot be written ({error.strerror}); name another"
            " directory with --output"
        ) from None
    for result in results:
        if "problem" in result:
            print(warning(f"{result['name']}: {result['problem']}"), file=sys.stderr)
    shown = sum("problem" not in result for result in results)
    print(f"{shown} of {len(results)} results\nSite: {page}")
    return 0


def _write(output: Path, source: Source, *, bundles: bool) -> dict[str, Any]:
    """Write one result; its ``problem`` says in one line why it cannot be shown."""
    from harness.report.site import put_bundle, write_result  # noqa: PLC0415
    from harness.reproduce.reader import opened  # noqa: PLC0415

    try:
        with opened(source.path) as directory:
            facts = write_result(directory, source.name, output)
    except HarnessError as error:
        return {"name": source.name, "problem": one_line(str(error))}
    if source.path.is_file():
        facts["bundle"] = put_bundle(source, output, copy=bundles)
    return facts
