"""Write a bundle: the same files give the same bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import zstandard

from harness.core.errors import UsageError
from harness.reproduce.format import (
    INDEX,
    SUMS,
    BundleIndex,
    Claims,
    FileEntry,
    ImageEntry,
    check_paths,
    end_of_tar,
    header,
    padding,
    sums,
    trailer,
)

_COPY_BYTES = 1 << 20
# Fast enough for 200 MB in ten seconds on two cores. A window of 128 MB is the largest that every
# decompressor takes without being asked to.
_LEVEL = 9
_WINDOW_LOG = 27

Content = bytes | Path


def write_bundle(
    target: Path,
    files: Mapping[str, Content],
    claims: Claims,
    images: list[ImageEntry],
    *,
    has_images: bool,
) -> str:
    """Write a bundle whole or not at all.

    Args:
        target: the file to make.
        files: path in the bundle to content.
        claims: what the run says of itself.
        images: the images it ran on.
        has_images: whether they are among the files.

    Returns:
        The SHA-256 of the file, hexadecimal.

    Raises:
        UsageError: if it cannot be written, or a file changes meanwhile.
    """
    check_paths(list(files))
    entries = [_entry(path, files[path]) for path in sorted(files)]
    index = BundleIndex(run=claims, images=images, has_images=has_images, files=entries)
    draft = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with draft.open("w+b") as file:
            _compress(_tar(index, files), file)
            file.seek(0)
            file.write(trailer(_digest(file).digest()))
            file.seek(0)
            digest = _digest(file).hexdigest()
        draft.replace(target)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)
    return digest


def _entry(path: str, content: Content) -> FileEntry:
    if isinstance(content, bytes):
        return FileEntry(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    with content.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(path=path, size=file.tell(), sha256=digest)


def _compress(blocks: Iterator[bytes], target: IO[bytes]) -> None:
    # With threads, the result does not depend on how many there are.
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, window_log=_WINDOW_LOG, enable_ldm=True, write_checksum=True, threads=2
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    with compressor.stream_writer(target, closefd=False) as stream:
        for block in blocks:
            stream.write(block)


def _tar(index: BundleIndex, files: Mapping[str, Content]) -> Iterator[bytes]:
    document = index.to_json()
    listed = sums(document, index.files, hashlib.sha256(document).hexdigest())
    for path, data in ((INDEX, document), (SUMS, listed)):
        yield header(path, len(data)) + data + padding(len(data))
    for entry in index.files:
        yield header(entry.path, entry.size)
        yield from _blocks(files[entry.path], entry)
        yield padding(entry.size)
    yield end_of_tar()


def _blocks(content: Content, entry: FileEntry) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    digest = hashlib.sha256()
    with content.open("rb") as file:
        while block := file.read(_COPY_BYTES):
            digest.update(block)
            yield block
    if digest.hexdigest() != entry.sha256:
        raise UsageError(f"{content}: changed while it was packed; pack again when it is finished")


def _digest(file: IO[bytes]) -> hashlib._Hash:
    digest = hashlib.sha256()
    while block := file.read(_COPY_BYTES):
        digest.update(block)
    return digest
