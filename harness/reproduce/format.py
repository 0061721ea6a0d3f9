"""The format of a bundle, and everything that is refused about one.

A bundle is a tar, compressed with Zstandard, that any tar unpacks. ``bundle.json`` comes first and
lists every other file with size and SHA-256, in the order in which they follow. Nothing but regular
files is in it, each with a header that follows from its path and size alone: there is exactly one
tar for given files, and a reader needs no tar library to trust. After the compressed data comes
the SHA-256 of all bytes before, in a frame that decompressors skip.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.core.errors import UsageError
from harness.images.oci import canonical_json
from harness.images.recipe import EPOCH

KIND = "workflow-memory-harness bundle"
VERSION = 1
TOP = "workflow-memory-bundle"
"""The one directory a bundle unpacks to."""

INDEX = "bundle.json"
SUMS = "SHA256SUMS"
CRATE = "ro-crate-metadata.json"
RUN = "run"
IMAGES = "images"
LOCKS = "locks"
SBOM = "sbom"
PACKAGES = "packages"

BLOCK = 512
MAX_INDEX_BYTES = 32 << 20
MAX_FILES = 100_000
MAX_RATIO = 200
"""A bundle that unpacks to more than so many times its size is a bomb: real ones are at 3 to 20."""
FREE_BYTES = 16 << 20
"""Up to here the ratio does not matter."""

# Magic number of a frame to skip, its length, a word of ours; then 32 bytes of SHA-256.
_SKIPPED = bytes.fromhex("5a2a4d18")
_WORD = b"wmh-bundle-"
_DIGEST_BYTES = 32
TRAILER_BYTES = len(_SKIPPED) + 4 + len(_WORD) + 1 + _DIGEST_BYTES

_SEGMENT = re.compile(r"[A-Za-z0-9_.@+=,~#%:{}()\[\] -]+")
COMPARTMENTS = {
    RUN: "run directory",
    IMAGES: "images (OCI layout)",
    SBOM: "bills of materials (CycloneDX)",
    LOCKS: "locks",
    PACKAGES: "packages for building offline",
    CRATE: "provenance (RO-Crate)",
}
"""First part of a path -> what is in there."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileEntry(_Model):
    """One file."""

    path: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ImageEntry(_Model):
    """One image, in the bundle or not."""

    stack: str = Field(pattern=r"^[a-z0-9_]+$")
    reference: str
    """What it was called where the run was made."""
    ids: list[str]
    """Its id in a classic image store, in containerd's, or the one that is known."""
    layers: list[str] = []
    """Digests of its layers, lowest first."""


class Claims(_Model):
    """What the run says of itself, in short."""

    name: str
    executor: str
    connector: str
    modes: list[str]
    repeat: int
    seed: int
    harness_version: str
    git_revision: str | None
    started: str
    ended: str


class BundleIndex(_Model):
    """``bundle.json``."""

    kind: Literal["workflow-memory-harness bundle"] = "workflow-memory-harness bundle"
    version: int = VERSION
    run: Claims
    images: list[ImageEntry]
    has_images: bool
    files: list[FileEntry]

    @property
    def paths(self) -> dict[str, FileEntry]:
        """Path to entry."""
        return {entry.path: entry for entry in self.files}

    @property
    def total_bytes(self) -> int:
        """Size of all files, unpacked."""
        return sum(entry.size for entry in self.files)

    def to_json(self) -> bytes:
        """Return the file's content."""
        return canonical_json(self.model_dump(mode="json")) + b"\n"


class Refused(UsageError):  # noqa: N818
    """A bundle that is not used, and why."""


def check_paths(paths: Sequence[str]) -> None:
    """Refuse paths that leave their directory, come twice, or are of no part of a bundle.

    Raises:
        Refused: with the first that is wrong.
    """
    seen: set[str] = set()
    directories: set[str] = set()
    for path in paths:
        parts = path.split("/")
        if path.startswith("/") or ".." in parts or "\0" in path or "\\" in path:
            raise Refused(f"the path {path!r} leaves the bundle's directory")
        if any(part in ("", ".") or not _SEGMENT.fullmatch(part) for part in parts):
            raise Refused(f"the path {path!r} is not one that a bundle can have")
        if path != CRATE and (len(parts) < 2 or parts[0] not in COMPARTMENTS):
            raise Refused(f"{path!r} is no part of a bundle")
        if path in seen:
            raise Refused(f"the path {path!r} comes twice")
        seen.add(path)
        directories.update(str(parent) for parent in PurePosixPath(path).parents)
    both = seen & directories
    if both:
        raise Refused(f"the path {min(both)!r} is a file and a directory")


def printable(text: str) -> str:
    """Return text from a bundle as a terminal may see it: nothing in it moves the cursor."""
    return "".join(c if c.isprintable() else "?" for c in text)


def header(path: str, size: int) -> bytes:
    """Return the tar header of a file: all that is not path and size is fixed."""
    info = tarfile.TarInfo(f"{TOP}/{path}")
    info.size = size
    info.mode = 0o644
    info.mtime = EPOCH
    return info.tobuf(format=tarfile.PAX_FORMAT)


def padding(size: int) -> bytes:
    """Return the zeros that fill a file's last block."""
    return bytes(-size % BLOCK)


def end_of_tar() -> bytes:
    """Return what a tar ends with."""
    return bytes(2 * BLOCK)


def sums(index: bytes, files: Sequence[FileEntry], digest_of_index: str) -> bytes:
    """Return the content of ``SHA256SUMS``, which ``sha256sum -c`` reads.

    Args:
        index: content of ``bundle.json``.
        files: the files it lists.
        digest_of_index: SHA-256 of ``index``, hexadecimal.
    """
    assert index, "an index is never empty"
    lines = [f"{digest_of_index}  {INDEX}", *(f"{entry.sha256}  {entry.path}" for entry in files)]
    return ("\n".join(lines) + "\n").encode()


def trailer(digest: bytes) -> bytes:
    """Return what follows the compressed data, from the SHA-256 of all of it."""
    body = _WORD + bytes([VERSION]) + digest
    return _SKIPPED + len(body).to_bytes(4, "little") + body


def read_trailer(data: bytes) -> bytes:
    """Return the SHA-256 that a bundle ends with.

    Raises:
        Refused: if it does not end as a bundle does, or is of a newer format.
    """
    begin = _SKIPPED + (len(_WORD) + 1 + _DIGEST_BYTES).to_bytes(4, "little") + _WORD
    if len(data) != TRAILER_BYTES or not data.startswith(begin):
        raise Refused("is not a bundle, or not all of one: its end is missing")
    check_version(data[len(begin)])
    return data[-_DIGEST_BYTES:]


def check_version(version: int) -> None:
    """Refuse a format that is not known here.

    Raises:
        Refused: if it is newer.
    """
    if version != VERSION:
        raise Refused(
            f"has format version {version}, and this harness reads {VERSION}: use a newer harness"
        )
