"""Gather a run directory and what it ran on, and write it as one file."""

from __future__ import annotations

import stat
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import UsageError
from harness.images import recipe
from harness.images.lock import FILE as IMAGES_LOCK
from harness.images.oci import OciImage
from harness.images.packages import DEBIAN, WHEELS
from harness.images.variant import saved
from harness.reproduce import packed_images as bundled
from harness.reproduce.crate import Publication, claims, crate, read_manifest, sbom
from harness.reproduce.format import (
    CRATE,
    LOCKS,
    PACKAGES,
    RUN,
    SBOM,
    ImageEntry,
    check_paths,
)
from harness.reproduce.writer import Content, write_bundle
from harness.results.directory import RunDirectory
from harness.results.rows import OutcomeRow, read_table

_REQUIREMENTS = "opt/venv/requirements.lock"


@dataclass(frozen=True)
class Packed:
    """A bundle that was written."""

    path: Path
    sha256: str
    size_bytes: int
    files: int
    images: int


def pack(
    directory: Path,
    target: Path,
    say: Callable[[str], None],
    *,
    with_images: bool = True,
    packages: Path | None = None,
    publication: Publication | None = None,
) -> Packed:
    """Write a bundle of a run directory; the same inputs give the same bytes.

    Args:
        directory: the run directory.
        target: the file to make.
        say: told, one line each, what is being done.
        with_images: whether the images it ran on go in.
        packages: a directory of packages (``harness images fetch``) that goes in.
        publication: what the author says.

    Raises:
        UsageError: if the directory is none, or the file exists or cannot be written.
        InfrastructureError: if the engine does not have the images any more.
    """
    if target.exists():
        raise UsageError(f"--output {target}: exists; name a new file, or remove it first")
    if directory.resolve() in target.resolve().parents:
        raise UsageError(f"--output {target}: is in the run directory; name a file elsewhere")
    manifest = read_manifest(directory)
    name = directory.resolve().name
    claimed = claims(name, directory, manifest)
    files: dict[str, Content] = dict(_tree(directory, RUN))
    # Readers of a run directory look for it here first, and then where `calibrate` puts it.
    calibration = RunDirectory(directory.resolve().parent).calibration
    if calibration.is_file():
        files.setdefault(f"{RUN}/{calibration.name}", calibration)
    entries = bundled.recorded(manifest)
    taken: list[OciImage] = []
    with tempfile.TemporaryDirectory(prefix="harness-pack-") as scratch:
        if with_images and entries:
            say(f"taking {len(entries)} images out of the engine")
            taken = bundled.take(entries, Path(scratch))
            entries = [
                bundled.entry_of(entry, image) for entry, image in zip(entries, taken, strict=True)
            ]
            files |= bundled.layout(taken)
            for entry, image in zip(entries, taken, strict=True):
                files[f"{SBOM}/{entry.stack}.cdx.json"] = sbom(entry.stack, image)
        variant = saved(directory)
        files |= _locks(entries, taken, variant.locks if variant is not None else {})
        if packages is not None:
            files |= _packages(packages)
        sizes = {path: _size(content) for path, content in files.items()}
        files[CRATE] = crate(
            claimed, entries, sizes, _succeeded(directory), publication or Publication()
        )
        say(f"packing {len(files)} files, {sum(sizes.values()) / 1e6:.0f} MB")
        digest = write_bundle(target, files, claimed, entries, has_images=bool(taken))
    return Packed(target, digest, target.stat().st_size, len(files), len(taken))


def _tree(directory: Path, room: str) -> dict[str, Path]:
    """Return the files of a directory: path in the bundle to file.

    Raises:
        UsageError: if something in it is neither file nor directory, or cannot be in a bundle.
    """
    found = {}
    for path in sorted(directory.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            found[f"{room}/{path.relative_to(directory).as_posix()}"] = path
        elif not stat.S_ISDIR(mode):
            raise UsageError(f"{path}: is neither a file nor a directory; remove it and pack again")
    check_paths(list(found))
    return found


def _locks(
    entries: Sequence[ImageEntry], taken: Sequence[OciImage], others: Mapping[str, bytes]
) -> dict[str, Content]:
    """Return the locks the images were built from.

    Each image holds its own; without images, this checkout's are those, if its images have the
    same names, which are hashes of what they are made from.
    """
    found: dict[str, Content] = {
        f"{LOCKS}/{stack}/requirements.lock": lock for stack, lock in others.items()
    }
    for entry, image in zip(entries, taken, strict=False):
        text = _from_layers(image, _REQUIREMENTS)
        if text is not None:
            found[f"{LOCKS}/{entry.stack}/requirements.lock"] = text
    lock = recipe.repository_root() / IMAGES_LOCK
    text = lock.read_bytes() if lock.exists() else b""
    if any(name.encode() in text for entry in entries for name in entry.ids):
        found[f"{LOCKS}/{IMAGES_LOCK}"] = text
        for entry in entries:
            own = lock.parent / "images" / entry.stack / "requirements.lock"
            if own.exists():
                found.setdefault(f"{LOCKS}/{entry.stack}/requirements.lock", own.read_bytes())
    return found


def _from_layers(image: OciImage, name: str) -> bytes | None:
    for layer in reversed(image.layers):
        with tarfile.open(layer.path, "r:") as tar:
            member = next((member for member in tar if member.name == name), None)
            file = tar.extractfile(member) if member is not None else None
            if file is not None:
                return file.read()
    return None


def _packages(directory: Path) -> dict[str, Path]:
    found = {
        f"{PACKAGES}/{folder}/{path.name}": path
        for folder in (DEBIAN, WHEELS)
        for path in sorted((directory / folder).glob("*"))
    }
    if not found:
        raise UsageError(
            f"--packages {directory}: has no {DEBIAN}/ or {WHEELS}/ with packages;"
            " 'harness images fetch' makes such a directory"
        )
    return found


def _size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _succeeded(directory: Path) -> bool:
    outcomes = read_table(RunDirectory(directory).outcomes, OutcomeRow)
    ended = [row.outcome for row in outcomes.rows]
    return bool(ended) and not outcomes.problems and all(outcome == "ok" for outcome in ended)
