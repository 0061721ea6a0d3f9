"""Check a bundle, and say what is in it and what it claims, without loading anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.cli._parser import Parser


def main(argv: Sequence[str]) -> int:
    """Parse, check, print."""
    parser = Parser(
        prog="harness inspect",
        description=__doc__,
        example="harness inspect demo.bundle",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a file made by 'harness pack'")
    parser.add_argument(
        "--extract",
        type=Path,
        metavar="DIR",
        help="unpack it into this new directory, once checked",
    )
    args = parser.parse_args(argv)
    # They take a second to import.
    from harness.reproduce.inspection import extract, inspect  # noqa: PLC0415
    from harness.reproduce.text import bundle_text  # noqa: PLC0415

    if args.extract is not None:
        extract(args.bundle, args.extract)
        print(f"unpacked to {args.extract}")
        return 0
    print(bundle_text(inspect(args.bundle)))
    return 0
