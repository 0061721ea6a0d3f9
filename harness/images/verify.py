"""Build again, from nothing, and compare: with what the engine has, and with the lock."""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.images import docker_cli, recipe
from harness.images.archive import save
from harness.images.base import ensure_base, load, make_base
from harness.images.build import Base, build_image
from harness.images.lock import (
    AS_LOCKED,
    FILE,
    OTHER_PACKAGES,
    ArchitectureLock,
    ImagesLock,
    LockedImage,
    changed_packages,
    judge,
    lock_base,
    lock_stack,
)
from harness.images.oci import OciImage
from harness.images.packages import Packages
from harness.images.recipe import REPOSITORY
from harness.images.store import build_lock, ensure_images, known_images, wanted_images

BASE = "base"


@dataclass(frozen=True)
class Verified:
    """What became of one image.

    Attributes:
        stack: the image's name, or ``base``.
        image: the image as the engine has it.
        difference: the first file in which the new build differs from it, or None.
        lock: what :func:`~harness.images.lock.judge` says of the new build.
        moved: Debian packages with another version than is locked, one line each.
    """

    stack: str
    image: LockedImage
    difference: str | None
    lock: str
    moved: tuple[str, ...]


def verify(
    names: Sequence[str], say: Callable[[str], None], packages: Packages | None = None
) -> list[Verified]:
    """Build base and images again without any cache, and compare with the engine's and the lock.

    Args:
        names: folders below ``images/``, or images of kept variants as ``psbench/dask``.
        say: told, one line each, what is being done.
        packages: packages to build from, instead of what mirror and index have.

    Raises:
        UsageError: if there is no such image, or the lock is none.
        InfrastructureError: if something cannot be built.
    """
    root = recipe.repository_root()
    base_recipe = recipe.base_recipe(root)
    there = ensure_images(names, say, packages)
    repository = packages.repository(base_recipe) if packages else None
    with build_lock(root, say) as work, tempfile.TemporaryDirectory(dir=work) as directory:
        old, new = (Path(directory) / name for name in ("old", "new"))
        old.mkdir()
        new.mkdir()
        # Images that were pulled come without it.
        reference, _ = ensure_base(base_recipe, work, say, repository)
        saved = save([reference, *(image.reference for image in there.values())], old)
        if reference == base_recipe.local_reference:
            say("base image: making it again")
            image = make_base(base_recipe, new, work, say, repository)
            locked = ImagesLock.read(root / FILE).architectures.get(base_recipe.architecture)
        else:
            say(f"base image: {reference} was not made here and is not made again")
            image, locked = saved[0], None
        made = lock_base(image, base_recipe)
        entry = locked.base if locked else None
        results = [_verified(BASE, made, first_difference(saved[0], image), entry)]
        offline = packages.context(base_recipe) if packages else {}
        with _loaded(image, reference, results[0].difference, work) as base:
            items = wanted_images(root, names, reference, image.layer_digests)
            for (name, item), before in zip(items.items(), saved[1:], strict=True):
                say(f"image {name}: building it again")
                log = work / f"verify-{name.replace('/', '-')}.log"
                again = build_image(item, base, root, new, log, no_cache=True, offline=offline)
                made = lock_stack(again, item.files, len(image.layers))
                entry = locked.stacks.get(name) if locked else None
                same_base = results[0].lock == AS_LOCKED
                difference = first_difference(before, again)
                results.append(_verified(name, made, difference, entry, same_base))
    return results


@contextmanager
def _loaded(image: OciImage, reference: str, difference: str | None, work: Path) -> Iterator[Base]:
    """Provide the new base; where it is another than the engine's, loaded beside that."""
    if difference is None:
        yield Base(reference, image, reference)
        return
    name = f"{REPOSITORY}/base:verify-{os.getpid()}"
    load([replace(image, reference=name)], work)
    try:
        yield Base(name, image, reference)
    finally:
        docker_cli.remove([name])


def lock(names: Sequence[str], say: Callable[[str], None]) -> Path:
    """Write ``images.lock`` from the images of this checkout; those that are not there are built.

    Entries of other architectures, and of images that are not named, stay.

    Args:
        names: folders below ``images/``, or images of kept variants as ``psbench/dask``.
        say: told, one line each, what is being built.

    Returns:
        The file.
    """
    root = recipe.repository_root()
    base_recipe = recipe.base_recipe(root)
    there = ensure_images(names, say)
    with build_lock(root, say) as work, tempfile.TemporaryDirectory(dir=work) as directory:
        references = [image.reference for image in there.values()]
        reference, _ = ensure_base(base_recipe, work, say)
        base, *images = save([reference, *references], Path(directory))
        items = wanted_images(root, names, reference, base.layer_digests)
        made = {
            name: lock_stack(image, item.files, len(base.layers))
            for (name, item), image in zip(items.items(), images, strict=True)
        }
        found = ImagesLock.read(root / FILE)
        old = found.architectures.get(base_recipe.architecture)
        known = known_images()
        kept = {name: e for name, e in (old.stacks if old else {}).items() if name in known}
        entry = ArchitectureLock(
            base=lock_base(base, base_recipe), stacks=dict(sorted((kept | made).items()))
        )
    found.with_architecture(base_recipe.architecture, entry).write(root / FILE)
    return root / FILE


def _verified(
    stack: str,
    made: LockedImage,
    difference: str | None,
    entry: LockedImage | None,
    base_as_locked: bool = True,
) -> Verified:
    word = judge(made, entry, base_as_locked)
    moved = changed_packages(made, entry) if entry and word == OTHER_PACKAGES else []
    return Verified(stack, made, difference, word, tuple(moved))


def first_difference(one: OciImage, other: OciImage) -> str | None:
    """Return a line that names the first file in which two builds of an image differ.

    Args:
        one: an image.
        other: another build of it.

    Returns:
        None if all layers and the configuration are the same.
    """
    for mine, theirs in zip(one.layers, other.layers, strict=False):
        if mine.digest != theirs.digest:
            found = first_different_entry(mine.path, theirs.path)
            return f"layer {mine.created_by}: {found}"
    if len(one.layers) != len(other.layers):
        return f"{len(one.layers)} layers and {len(other.layers)}"
    if one.config != other.config:
        mine_document, theirs_document = one.document, other.document
        keys = sorted({*mine_document, *theirs_document})
        key = next(k for k in keys if mine_document.get(k) != theirs_document.get(k))
        return f"configuration: {key}: {mine_document.get(key)} and {theirs_document.get(key)}"
    return None


def first_different_entry(one: Path, other: Path) -> str:
    """Return what is different about the first entry in which two layer tars differ."""
    with tarfile.open(one, "r:") as mine, tarfile.open(other, "r:") as theirs:
        entries = {member.name: member for member in mine}
        others = {member.name: member for member in theirs}
        for name in sorted({*entries, *others}):
            if name not in others:
                return f"/{name} is in one only"
            if name not in entries:
                return f"/{name} is in the other only"
            what = _what_differs(mine, entries[name], theirs, others[name])
            if what:
                return f"/{name}: {what}"
    return "the same files in other headers or another order"


def _what_differs(
    mine: tarfile.TarFile, one: tarfile.TarInfo, theirs: tarfile.TarFile, other: tarfile.TarInfo
) -> str | None:
    for field in ("type", "linkname", "mode", "uid", "gid", "size", "mtime", "pax_headers"):
        values = getattr(one, field), getattr(other, field)
        if values[0] != values[1]:
            shown = [f"{value:o}" if field == "mode" else f"{value!r}" for value in values]
            return f"{field} {shown[0]} and {shown[1]}"
    if _content(mine, one) != _content(theirs, other):
        return "other content"
    return None


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member) if member.isreg() else None
    return hashlib.sha256(file.read()).digest() if file is not None else b""
