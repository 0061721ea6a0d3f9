"""Images taken out of an engine, as the documents and layers they were loaded from."""

from __future__ import annotations

import gzip
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from harness.core.errors import InfrastructureError
from harness.images.oci import Layer, OciImage, file_digest

_GZIP = b"\x1f\x8b"
_COPY_BYTES = 1 << 20


def save(references: Sequence[str], directory: Path) -> list[OciImage]:
    """Take images out of the engine; a layer that several share is written once.

    Args:
        references: ``name:tag`` of each.
        directory: where layers are written, one file each, named by digest.

    Raises:
        InfrastructureError: if the engine does not have one, or a layer's content is not what its
            configuration says.
    """
    with tempfile.NamedTemporaryFile(dir=directory, prefix="save-", suffix=".tar") as archive:
        done = subprocess.run(
            ["docker", "save", "--output", archive.name, *references],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise InfrastructureError(f"docker could not save {', '.join(references)}: {lines[-1]}")
        return read_docker_archive(Path(archive.name), references, directory)


def read_docker_archive(
    archive: Path, references: Sequence[str], directory: Path
) -> list[OciImage]:
    """Read images from a ``docker save`` archive; as :func:`save`.

    Engines before 25 and after, and both image stores, write different archives; what they have in
    common is ``manifest.json``.
    """
    with tarfile.open(archive, "r:") as tar:
        entries = {
            tag: entry
            for entry in json.load(_open(tar, "manifest.json"))
            for tag in entry["RepoTags"]
        }
        return [
            _read_image(tar, reference, _entry(entries, reference), directory)
            for reference in references
        ]


def _entry(entries: dict[str, dict[str, Any]], reference: str) -> dict[str, Any]:
    for name in (reference, f"docker.io/{reference}"):
        if name in entries:
            return entries[name]
    raise InfrastructureError(f"docker saved {', '.join(entries)} instead of {reference}")


def _read_image(
    tar: tarfile.TarFile, reference: str, entry: dict[str, Any], directory: Path
) -> OciImage:
    config = _open(tar, entry["Config"]).read()
    document = json.loads(config)
    history = [
        str(step.get("created_by", ""))
        for step in document.get("history", [])
        if not step.get("empty_layer")
    ]
    layers = []
    for number, diff_id in enumerate(document["rootfs"]["diff_ids"]):
        path = directory / f"{diff_id.replace(':', '-')}.tar"
        if not path.exists():
            _write_layer(_open(tar, entry["Layers"][number]), path)
            if file_digest(path) != diff_id:
                path.unlink()
                raise InfrastructureError(
                    f"image {reference}: the engine's layer {diff_id} has other content than its"
                    " name says; remove the image and build or load it again"
                )
        layers.append(Layer(path, diff_id, history[number] if number < len(history) else ""))
    return OciImage(reference, config, tuple(layers))


def _write_layer(source: IO[bytes], path: Path) -> None:
    """Write a layer uncompressed: the store of an image that was pulled has it compressed."""
    begin = source.read(len(_GZIP))
    source.seek(0)
    stream = gzip.GzipFile(fileobj=source) if begin == _GZIP else source
    with path.open("wb") as target:
        while block := stream.read(_COPY_BYTES):
            target.write(block)


def _open(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    # Older engines write a layer once and links to it.
    file = tar.extractfile(name)
    if file is None:
        raise InfrastructureError(f"docker saved an archive in which {name} is no file")
    return file
