"""Build and list the images that topologies start."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tabulate import tabulate

from harness.core.flags import Parser
from harness.topology.images import ensure, installed, known_stacks


def main(argv: Sequence[str]) -> int:
    """Parse, build or list, print."""
    parser = Parser(prog="harness images", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    build = commands.add_parser("build", help="build the images that changed (the default)")
    build.add_argument("stacks", nargs="*", metavar="STACK", help="folders of images/ (all)")
    commands.add_parser("list", help="list the images this engine has")
    args = parser.parse_args(argv)
    if args.command == "list":
        images = installed()
    else:
        stacks = getattr(args, "stacks", None) or known_stacks()
        images = list(ensure(stacks, _say).values())
    rows = [(i.stack, i.reference, i.id[7:19], f"{i.size_bytes / 1e6:.0f} MB") for i in images]
    print(tabulate(rows, headers=("stack", "image", "id", "size")))
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
