"""Put a run directory, and the images it ran on, into one file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from harness.cli._parser import Parser


def main(argv: Sequence[str]) -> int:
    """Parse, pack, print."""
    parser = Parser(
        prog="harness pack",
        description=__doc__,
        example="harness pack runs/demo -o demo.bundle",
    )
    parser.add_argument("directory", type=Path, metavar="RUN_DIR", help="a run directory")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the bundle: x.tar.zst"
    )
    parser.add_argument(
        "--no-images", action="store_true", help="leave the images out: they are built, or pulled"
    )
    parser.add_argument(
        "--packages",
        type=Path,
        metavar="DIR",
        help="put in what the images are made of, too ('harness images fetch DIR')",
    )
    parser.add_argument("--title", default="", help="title of the data set")
    parser.add_argument("--author", default="", metavar="NAME", help="who ran it")
    parser.add_argument(
        "--organization", default="", metavar="NAME", help="whose; 'Name <URL>' is best"
    )
    parser.add_argument(
        "--license", default="", metavar="ID", help="its licence: an SPDX identifier or a URL"
    )
    args = parser.parse_args(argv)
    # They take half a second to import.
    from harness.reproduce.crate import Publication  # noqa: PLC0415
    from harness.reproduce.pack import pack  # noqa: PLC0415

    packed = pack(
        args.directory,
        args.output,
        lambda line: print(line, file=sys.stderr, flush=True),
        with_images=not args.no_images,
        packages=args.packages,
        publication=Publication(args.title, args.author, args.organization, args.license),
    )
    print(f"bundle: {packed.path}")
    print(f"{packed.size_bytes / 1e6:.1f} MB, {packed.files} files, {packed.images} images")
    print(f"sha256: {packed.sha256}")
    return 0
