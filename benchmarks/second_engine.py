"""The same bits from another engine, and a published run reproduced where there is no network.

    .venv/bin/python benchmarks/second_engine.py [--stores overlay2 containerd] [--no-example]

Needs root and mmdebstrap (``scripts/second-engine``), a quarter of an hour and 3 GB of disk. The
second engine is Debian 13's (26.1), with an image store of its own and nothing but a loopback
device.

1. All images are built on this machine's engine and, from fetched packages, on the second one: from
   another copy of the sources at another path, with another umask, time zone and file times, no
   network. The ids are printed side by side; a classic store's is the configuration's digest,
   containerd's the manifest's, and ``images.lock`` has both.
2. The documented example is run here, packed, and reproduced on a second engine that has no images.

Exit code 1 if an id differs or the example is not reproduced.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.images.lock import FILE, ImagesLock
from harness.images.recipe import REPOSITORY, base_recipe, repository_root
from harness.report.terminal import columns

ROOT = repository_root()
ENGINE = str(ROOT / "scripts" / "second-engine")
HARNESS = [sys.executable, "-m", "harness"]
EXAMPLE = [
    *("--executor", "dask", "--dask-workers", "4", "--ps-connector", "file"),
    *("--data-management", "none", "default-proxy", "owned-proxy"),
    *("--stage-task-counts", "1", "3", "1", "1"),
    *("--stage-bytes-sizes", "1000", "10000", "10000", "10000", "1000"),
    *("--task-sleep", "1.0", "--repeat", "5"),
]


def run(*command: str, check: bool = True, **more: object) -> subprocess.CompletedProcess[str]:
    """Run a command and show it."""
    print("$", shlex.join(command), flush=True)
    return subprocess.run(command, text=True, check=check, **more)  # type: ignore[call-overload,no-any-return]


@contextmanager
def second_engine(store: str) -> Iterator[None]:
    """Provide a second engine without images."""
    run(ENGINE, "up", store)
    try:
        yield
    finally:
        run(ENGINE, "down")


def copied_sources(target: Path) -> None:
    """Copy the checkout as somebody with other habits would have it."""
    names = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(names, capture_output=True, text=True, check=True).stdout
    previous = os.umask(0o077)
    try:
        for name in listed.splitlines():
            source, copy = ROOT / name, target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
            if os.access(source, os.X_OK):
                copy.chmod(0o700)
            os.utime(copy, (978307200, 978307200))
    finally:
        os.umask(previous)


def image_ids(prefix: list[str]) -> dict[str, str]:
    """Return name -> id of an engine's images of ours, ``latest`` excepted."""
    shown = subprocess.run(
        [
            *prefix,
            "docker",
            "image",
            "ls",
            "--no-trunc",
            "--format",
            "{{.Repository}}:{{.Tag}} {{.ID}}",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    pairs = (line.split() for line in shown.splitlines() if line.startswith(REPOSITORY))
    return {name: image for name, image in pairs if not name.endswith(":latest")}


def compare(stores: list[str], work: Path) -> bool:
    """Build everywhere and print the ids side by side."""
    run(*HARNESS, "images", "build")
    run(*HARNESS, "images", "fetch", str(work / "packages"))
    copied_sources(work / "copy")
    first = image_ids([])
    found: dict[str, Mapping[str, str]] = {}
    for store in stores:
        with second_engine(store):
            build = shlex.join([*HARNESS, "images", "build", "--packages", str(work / "packages")])
            environment = ["env", "TZ=Asia/Tokyo", f"PYTHONPATH={work / 'copy'}"]
            begin = time.monotonic()
            run(ENGINE, "run", "--", *environment, "sh", "-c", f"umask 077; cd {work}; {build}")
            print(f"built in {time.monotonic() - begin:.0f} s")
            found[store] = image_ids([ENGINE, "run", "--"])
    return table(first, found)


def table(first: Mapping[str, str], found: Mapping[str, Mapping[str, str]]) -> bool:
    """Print the ids; tell whether all are the same."""
    locked = ImagesLock.read(ROOT / FILE).architectures[base_recipe(ROOT).architecture]
    entries = {"base": locked.base, **locked.stacks}
    manifests = {entry.id: entry.manifest for entry in entries.values()}
    rows, same = [], True
    names = {name for images in found.values() for name in images}
    for name in sorted(names):
        here = first.get(name, "missing")
        row = [name.removeprefix(f"{REPOSITORY}/"), here[7:23]]
        for store, images in found.items():
            there = images.get(name, "missing")
            expected = manifests.get(here, "not in images.lock") if store == "containerd" else here
            same = same and there == expected
            row.append(f"{there[7:23]} {'=' if there == expected else 'DIFFERS'}")
        rows.append(row)
    headers = ["image", "this engine", *(f"26.1 {store}" for store in found)]
    print(columns(headers, rows))
    return same


def reproduce_example(work: Path) -> bool:
    """Publish the documented example here, and reproduce it on the second engine."""
    run(*HARNESS, "bench", *EXAMPLE, "--run-dir", str(work / "runs"))
    (directory,) = (work / "runs").iterdir()
    bundle = work / "example.tar.zst"
    begin = time.monotonic()
    run(*HARNESS, "pack", str(directory), "-o", str(bundle))
    print(f"packed in {time.monotonic() - begin:.1f} s")
    with second_engine("overlay2"):
        shown = run(ENGINE, "run", "--", "docker", "image", "ls", "--quiet", capture_output=True)
        assert not shown.stdout, "the second engine has images already"
        command = shlex.join([*HARNESS, "reproduce", str(bundle)])
        inner = f"{command} --run-dir $SECOND_ENGINE_SHARED/runs"
        return run(ENGINE, "run", "--", "sh", "-c", inner, check=False).returncode == 0


def main() -> int:
    """Parse, do, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stores", nargs="*", default=["overlay2", "containerd"])
    parser.add_argument("--no-example", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="second-engine-") as directory:
        Path(directory).chmod(0o755)
        work = Path(directory)
        good = compare(args.stores, work) if args.stores else True
        if not args.no_example:
            good = reproduce_example(work) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
