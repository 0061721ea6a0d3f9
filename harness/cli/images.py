"""Build, verify, lock, list and exchange the images that topologies start."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.cli._parser import Parser
from harness.images import Image, ensure, installed, known_stacks
from harness.images.lock import AS_LOCKED, DIFFERS
from harness.images.packages import packages_in
from harness.images.registry import pull, push
from harness.images.store import ensure_images, fetch, known_images, purposes
from harness.images.variant import find
from harness.images.verify import Verified, lock, verify
from harness.report.terminal import columns, screen_of


def main(argv: Sequence[str]) -> int:
    """Parse, do, print."""
    args = _parser().parse_args(argv)
    named = getattr(args, "stacks", None)
    stacks = named or known_stacks()
    match args.command:
        case "list":
            _print_images(installed(), purposes())
        case "verify":
            # What is fetched for building offline is for this checkout's own.
            names = named or (known_images() if args.packages is None else stacks)
            with packages_in(args.packages) as packages:
                return _print_verified(verify(names, _say, packages), args.locked)
        case "lock":
            print(lock(named or known_images(), _say))
        case "push":
            names = push(args.registry, stacks, _say)
            print(columns(("stack", "image"), list(names.items()), screen_of(sys.stdout)))
        case "pull":
            _print_images(list(pull(args.registry, stacks, _say).values()))
        case "fetch":
            fetch(stacks, args.directory, _say)
        case _:
            words, python = getattr(args, "stack", []), getattr(args, "python", None)
            with packages_in(getattr(args, "packages", None)) as packages:
                if words or python is not None:
                    variant = find(words, python, stacks, _say)
                    _say(f"stack: {variant}")
                    chosen = named or sorted(variant.locks)
                    _print_images(list(ensure(chosen, _say, packages, variant).values()))
                else:
                    _print_images(list(ensure_images(stacks, _say, packages).values()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="harness images",
        description=__doc__,
        example="harness images build dask",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, text: str, *, stacks: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        if stacks:
            command.add_argument(
                "stacks",
                nargs="*",
                metavar="STACK",
                help="folders of images/ (all), or such as psbench/dask of images/stacks/",
            )
        return command

    offline = (
        "build from the packages in DIR (`harness images fetch`, or a bundle's), without network"
    )
    build = add("build", "build the images that changed (the default)")
    build.add_argument("--packages", type=Path, metavar="DIR", help=offline)
    build.add_argument(
        "--stack",
        nargs="+",
        action="extend",
        default=[],
        metavar="WORD",
        help="build those that have these packages, as for `harness bench --stack`",
    )
    build.add_argument("--python", metavar="VERSION", help="as for `harness bench --python`")
    check = add("verify", "build again without cache; compare with what is there and images.lock")
    check.add_argument("--packages", type=Path, metavar="DIR", help=offline)
    check.add_argument(
        "--locked", action="store_true", help="also fail where images.lock is out of date"
    )
    add("lock", "write images.lock: layers, ids and Debian packages of this checkout's images")
    add("list", "list the images this engine has", stacks=False)
    get = commands.add_parser(
        "fetch", help="download what images are made of, for building offline"
    )
    get.add_argument("directory", type=Path, metavar="DIR", help="a new directory")
    get.add_argument("stacks", nargs="*", metavar="STACK", help="folders of images/ (all)")
    for name, text in (
        ("push", "push images to a registry, with the digests they have here (needs skopeo)"),
        ("pull", "pull the images of images.lock from a registry, by digest"),
    ):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.add_argument("registry", metavar="REGISTRY", help="host, host:port or host/path")
        command.add_argument("stacks", nargs="*", metavar="STACK", help="folders of images/ (all)")
    return parser


def _print_images(images: Sequence[Image], purposes: Mapping[str, str] | None = None) -> None:
    headers = ["stack", "image", "id", " size"]
    rows = [[i.stack, i.reference, i.id[7:19], f"{i.size_bytes / 1e6:.0f} MB"] for i in images]
    if purposes is not None:
        headers.append("of")
        # Of another commit, or other words of --stack.
        for row, image in zip(rows, images, strict=True):
            row.append(purposes.get(image.reference, "another"))
    print(columns(headers, rows, screen_of(sys.stdout)))


def _print_verified(results: Sequence[Verified], locked: bool) -> int:
    """Print what became of each image; return the exit code."""
    rows = [
        (r.stack, r.image.id[7:19], "same" if r.difference is None else "DIFFERS", r.lock)
        for r in results
    ]
    header = ("image", "id", "built again", "images.lock")
    print(columns(header, rows, screen_of(sys.stdout)))
    for result in results:
        if result.difference is not None:
            print(f"\n{result.stack}: two builds differ: {result.difference}")
        for line in result.moved:
            print(f"{result.stack}: the mirror has another version than is locked: {line}")
    bad = any(result.difference is not None or result.lock == DIFFERS for result in results)
    out_of_date = any(result.lock != AS_LOCKED for result in results)
    return int(bad or (locked and out_of_date))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
