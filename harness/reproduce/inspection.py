"""Look at a bundle, or unpack it, without an engine."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.core.errors import UsageError
from harness.reproduce import images as bundled
from harness.reproduce.crate import claims, read_manifest
from harness.reproduce.format import IMAGES, RUN, Refused
from harness.reproduce.reader import Bundle, opened_bundle


def inspect(path: Path) -> Bundle:
    """Check every byte of a bundle, its images' ids and its claims, and return what is in it.

    Raises:
        Refused: if something is wrong with it.
    """
    with opened_bundle(path, lambda name: name.startswith((f"{RUN}/", f"{IMAGES}/"))) as bundle:
        check(path, bundle)
        return bundle


def check(path: Path, bundle: Bundle) -> None:
    """Refuse a bundle whose index says something else than its run and its images.

    Raises:
        Refused: if it does.
    """
    try:
        manifest = read_manifest(bundle.file(RUN))
        if claims(bundle.index.run.name, bundle.file(RUN), manifest) != bundle.index.run:
            raise Refused("its index says something else of its run than the run directory")
        if bundle.index.has_images:
            bundled.check(bundle, manifest)
        elif any(entry.path.startswith(f"{IMAGES}/") for entry in bundle.index.files):
            raise Refused("has images, but says that it has none")
    except Refused as refusal:
        raise Refused(f"{path}: {refusal}") from None
    except UsageError as error:
        raise Refused(f"{path}: its run directory cannot be used: {error}") from None


def extract(path: Path, directory: Path) -> None:
    """Unpack a bundle that was checked.

    Args:
        path: the bundle.
        directory: where to; must not exist.

    Raises:
        UsageError: if the directory exists or cannot be made, or the bundle is refused.
    """
    if directory.exists():
        raise UsageError(f"--extract {directory}: exists; name a new directory")
    with opened_bundle(path, lambda _: True) as bundle:
        check(path, bundle)
        try:
            shutil.copytree(bundle.path, directory)
        except OSError as error:
            raise UsageError(f"--extract {directory}: {error.strerror}") from None
