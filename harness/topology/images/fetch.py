"""Download what images are made of, so that they can be built where nothing is reachable."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.core.errors import UsageError
from harness.topology.images import recipe
from harness.topology.images.base import ensure_base
from harness.topology.images.build import fetch_packages, wanted
from harness.topology.images.offline import DEBIAN, WHEELS
from harness.topology.images.store import build_lock, saved_base, stacks_files

_SUFFIXES = {DEBIAN: ".deb", WHEELS: ".whl"}


def fetch(stacks: Sequence[str], directory: Path, say: Callable[[str], None]) -> None:
    """Download the Debian packages and wheels of stacks and their base.

    Args:
        stacks: folder names below ``images/``.
        directory: where they are written; must not exist.
        say: told, one line each, what is being fetched.

    Raises:
        UsageError: if the directory exists or cannot be made.
        InfrastructureError: if something cannot be had any more.
    """
    root = recipe.repository_root()
    files = stacks_files(stacks)
    try:
        directory.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"{directory}: {error.strerror}; name a directory to be made") from None
    for name in _SUFFIXES:
        (directory / name).mkdir()
    with build_lock(root, say) as work, tempfile.TemporaryDirectory(dir=work) as scratch:
        reference, local = ensure_base(recipe.base_recipe(root), work, say)
        base = saved_base(reference, Path(scratch))
        for item in wanted(root, files, reference, local.layers):
            say(f"image {item.stack}: fetching its packages")
            tree = Path(scratch) / f"{item.stack}.tar"
            fetch_packages(item, base, tree, work / f"fetch-{item.stack}.log")
            _take(tree, directory)
            tree.unlink()


def _take(tree: Path, directory: Path) -> None:
    with tarfile.open(tree, "r:") as tar:
        for member in tar:
            folder, _, name = member.name.strip("/").partition("/")
            if member.isreg() and name.endswith(_SUFFIXES.get(folder, "/")) and "/" not in name:
                file = tar.extractfile(member)
                assert file is not None
                (directory / folder / name).write_bytes(file.read())
