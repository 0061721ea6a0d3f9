"""Read a bundle that anybody may have made: all is checked before any of it is used.

A run directory, or a bundle of one: commands that read either.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from pydantic import ValidationError

from harness.reproduce.format import (
    BLOCK,
    FREE_BYTES,
    INDEX,
    MAX_FILES,
    MAX_INDEX_BYTES,
    MAX_RATIO,
    RUN,
    SUMS,
    TOP,
    TRAILER_BYTES,
    BundleIndex,
    FileEntry,
    Refused,
    check_paths,
    check_version,
    end_of_tar,
    header,
    padding,
    read_trailer,
    sums,
)

if TYPE_CHECKING:
    import zstandard


_COPY_BYTES = 1 << 20
_MAX_WINDOW = 1 << 27
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.DIRTYPE: "a directory entry",
}


@dataclass(frozen=True)
class Bundle:
    """A bundle whose every byte was checked.

    Attributes:
        index: what is in it.
        path: where the selected files are unpacked.
        sha256: of the bundle, hexadecimal: the name to publish.
        size_bytes: of the bundle.
    """

    index: BundleIndex
    path: Path
    sha256: str
    size_bytes: int

    def file(self, name: str) -> Path:
        """Return where a file was unpacked."""
        return self.path / name


@contextmanager
def opened_bundle(path: Path, select: Callable[[str], bool]) -> Iterator[Bundle]:
    """Check a whole bundle and unpack some of its files while in this context.

    Args:
        path: the bundle.
        select: which files to unpack; the others are checked without being written.

    Raises:
        Refused: one line that says what is wrong with it; nothing is left on disk.
    """
    try:
        with (
            path.open("rb") as file,
            tempfile.TemporaryDirectory(prefix="harness-bundle-") as place,
        ):
            try:
                bundle = _read(file, Path(place), select)
            except Refused as refusal:
                raise Refused(f"{path}: {refusal}") from None
            yield bundle
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        if error.filename != str(path):
            raise
        raise Refused(f"{path}: {error.strerror}; name a bundle made by 'harness pack'") from None


def _read(file: IO[bytes], place: Path, select: Callable[[str], bool]) -> Bundle:
    size = file.seek(0, io.SEEK_END)
    if size <= TRAILER_BYTES:
        raise Refused("is not a bundle, or not all of one: its end is missing")
    length = size - TRAILER_BYTES
    file.seek(length)
    end = file.read(TRAILER_BYTES)
    claimed = read_trailer(end)
    file.seek(0)
    digest = hashlib.sha256()
    for block in _limited(file, length):
        digest.update(block)
    if digest.digest() != claimed:
        raise Refused("is damaged: its content does not have the SHA-256 it ends with")
    digest.update(end)
    file.seek(0)
    # Of the extra `reproduce`: reports of run directories do without.
    import zstandard  # noqa: PLC0415

    # No frame may ask for more memory than the largest window that pack uses.
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    try:
        with decompressor.stream_reader(
            cast(IO[bytes], _LimitedFile(file, length)), read_across_frames=True, closefd=False
        ) as stream:
            index = _read_tar(_Source(stream), place, select, length)
    except zstandard.ZstdError as error:
        raise Refused(f"its compressed data is broken: {error}") from None
    return Bundle(index, place, digest.hexdigest(), size)


def _read_tar(
    source: _Source, place: Path, select: Callable[[str], bool], compressed_bytes: int
) -> BundleIndex:
    document = _read_index(source)
    index = _parse(document, compressed_bytes, place)
    listed = sums(document, index.files, hashlib.sha256(document).hexdigest())
    _expect_header(source, SUMS, len(listed))
    if source.take(len(listed)) != listed:
        raise Refused(f"{SUMS} is not what {INDEX} says")
    _expect_padding(source, SUMS, len(listed))
    for entry in index.files:
        _expect_header(source, entry.path, entry.size)
        _unpack(source, entry, place / entry.path if select(entry.path) else None)
        _expect_padding(source, entry.path, entry.size)
    if source.take(2 * BLOCK) != end_of_tar() or source.take(1):
        raise Refused("has more in it than its index lists")
    return index


def _read_index(source: _Source) -> bytes:
    first = source.take(BLOCK)
    try:
        info = tarfile.TarInfo.frombuf(first, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeError):
        raise Refused("is compressed data, but no bundle: it is not a tar") from None
    if info.name == f"{TOP}/{INDEX}" and info.size > MAX_INDEX_BYTES:
        raise Refused(f"has an index of {info.size} bytes; at most {MAX_INDEX_BYTES} are read")
    if info.name != f"{TOP}/{INDEX}" or first != header(INDEX, info.size):
        raise Refused(f"is no bundle: its first entry is not {INDEX}")
    document = source.take(info.size)
    _expect_padding(source, INDEX, info.size)
    return document


def _parse(document: bytes, compressed_bytes: int, place: Path) -> BundleIndex:
    try:
        index = BundleIndex.model_validate_json(document)
    except ValidationError as error:
        check_version(_version(document))
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise Refused(f"{INDEX} is wrong at {where or 'its beginning'}") from None
    check_version(index.version)
    if index.to_json() != document:
        raise Refused(f"{INDEX} is not written as pack writes it")
    if len(index.files) > MAX_FILES:
        raise Refused(f"has {len(index.files)} files; at most {MAX_FILES} are unpacked")
    check_paths([entry.path for entry in index.files])
    if index.total_bytes > max(MAX_RATIO * compressed_bytes, FREE_BYTES):
        raise Refused(
            f"would unpack to {index.total_bytes} bytes, more than {MAX_RATIO} times its size"
        )
    free = shutil.disk_usage(place).free
    if index.total_bytes > free:
        raise Refused(
            f"unpacks to {index.total_bytes} bytes, and {place.parent} has {free} free:"
            " name another directory with TMPDIR"
        )
    return index


def _version(document: bytes) -> int:
    """Return the version of an index that does not fit ours in other ways."""
    try:
        found = json.loads(document)
        version = found.get("version") if isinstance(found, dict) else None
    except (ValueError, RecursionError):
        version = None
    return version if isinstance(version, int) and version > 1 else 1


def _expect_header(source: _Source, path: str, size: int) -> None:
    expected = header(path, size)
    found = source.take(len(expected))
    if found == expected:
        return
    try:
        info = tarfile.TarInfo.frombuf(found[:BLOCK], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise Refused(f"ends, or is broken, where {path} should begin") from None
    if info.type in _KINDS:
        raise Refused(f"has {_KINDS[info.type]}, {info.name!r}: only files are unpacked")
    raise Refused(f"has {info.name!r} ({info.size} bytes) where its index lists {path!r}")


def _expect_padding(source: _Source, path: str, size: int) -> None:
    if source.take(-size % BLOCK) != padding(size):
        raise Refused(f"has something behind the end of {path}")


def _unpack(source: _Source, entry: FileEntry, target: Path | None) -> None:
    digest = hashlib.sha256()
    left = entry.size
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") if target is not None else io.BytesIO() as file:
        while left:
            block = source.take(min(left, _COPY_BYTES))
            if not block:
                raise Refused(f"ends inside of {entry.path}")
            digest.update(block)
            left -= len(block)
            if target is not None:
                file.write(block)
    if digest.hexdigest() != entry.sha256:
        raise Refused(f"{entry.path} does not have the SHA-256 that the index lists")


def _limited(file: IO[bytes], length: int) -> Iterator[bytes]:
    while length and (block := file.read(min(length, _COPY_BYTES))):
        length -= len(block)
        yield block


class _LimitedFile:
    """The part of a file before the trailer."""

    def __init__(self, file: IO[bytes], length: int) -> None:
        self._file = file
        self._left = length

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(block)
        return block


class _Source:
    """Decompressed data, taken in pieces of known size."""

    def __init__(self, stream: zstandard.ZstdDecompressionReader) -> None:
        self._stream = stream

    def take(self, size: int) -> bytes:
        """Return so many bytes, or fewer at the end."""
        parts = []
        while size and (part := self._stream.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Give the run directory behind a path: itself, or unpacked from a bundle while it is used.

    The bundle is checked as a whole; its images are not written to disk.

    Raises:
        UsageError: if a file is no bundle, or something is wrong with it.
    """
    if not path.is_file():
        yield path
        return
    with opened_bundle(path, lambda name: name.startswith(f"{RUN}/")) as bundle:
        directory = bundle.file(RUN)
        # Reports call a session by its directory; a name that anybody may have made up is no path.
        name = re.sub(r"[^A-Za-z0-9_-]", "_", bundle.index.run.name)[:100]
        yield directory.rename(directory.with_name(name or RUN))
