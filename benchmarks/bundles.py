"""How long bundles take, how large they are, and whether damaged ones are refused.

    .venv/bin/python benchmarks/bundles.py RUN_DIR [--changes 1000]

Packs a run directory with and without its images, checks the bundle, and loads its images into the
engine as ``reproduce`` does before it starts anything. Then makes random changes of one byte and
truncations of the bundle without images: each must be refused. Times are wall-clock times of this
machine.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from harness.images import docker_cli
from harness.reproduce import images as bundled
from harness.reproduce.crate import read_manifest
from harness.reproduce.format import Refused
from harness.reproduce.inspection import check, inspect
from harness.reproduce.pack import pack
from harness.reproduce.reader import opened_bundle
from harness.reproduce.rerun import load_images

T = TypeVar("T")


def timed(what: str, do: Callable[[], T]) -> T:
    """Print how long something takes."""
    begin = time.monotonic()
    result = do()
    print(f"{what}: {time.monotonic() - begin:.1f} s")
    return result


def set_up(bundle: Path) -> None:
    """Do what reproduce does before it starts the topology, on an engine without the images."""
    with opened_bundle(bundle, lambda _: True) as found:
        check(bundle, found)
        images = bundled.check(found, read_manifest(found.file("run")))
        loaded = load_images(found.index.images, images, lambda _: None)
    docker_cli.remove([image.reference for image in loaded.values()])


def refused(bundle: Path, work: Path, changes: int) -> int:
    """Return how many of so many random changes are refused, and that leave nothing."""
    data = bundle.read_bytes()
    random_ = random.Random(changes)
    file = work / "changed.tar.zst"
    count = 0
    for number in range(changes):
        changed = bytearray(data)
        if number % 4 == 3:
            del changed[random_.randrange(len(data)) :]
        else:
            changed[random_.randrange(len(data))] ^= random_.randrange(1, 256)
        file.write_bytes(changed)
        before = set(Path(tempfile.gettempdir()).glob("harness-bundle-*"))
        try:
            inspect(file)
        except Refused:
            left = set(Path(tempfile.gettempdir()).glob("harness-bundle-*")) - before
            count += not left
    return count


def main() -> int:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--changes", type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        whole, small = work / "whole.tar.zst", work / "small.tar.zst"
        packed = timed("pack", lambda: pack(args.directory, whole, lambda _: None))
        print(f"size: {packed.size_bytes / 1e6:.1f} MB with {packed.images} images")
        timed(
            "pack --no-images",
            lambda: pack(args.directory, small, lambda _: None, with_images=False),
        )
        print(f"size: {small.stat().st_size / 1e6:.2f} MB")
        timed("inspect", lambda: inspect(whole))
        timed("reproduce's set-up: check, load, verify", lambda: set_up(whole))
        count = timed("damaged", lambda: refused(small, work, args.changes))
        print(f"refused: {count} of {args.changes}")
    return 0 if count == args.changes else 1


if __name__ == "__main__":
    sys.exit(main())
