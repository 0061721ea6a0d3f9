"""Tars that are the same bytes for the same content.

Nothing in them depends on the clock, the order of a directory, the user, or the version of tar.

Images taken out of an engine, as the documents and layers they were loaded from.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

from harness.core.errors import InfrastructureError
from harness.images.oci import Layer, OciImage, file_digest
from harness.images.programs import last_line, run


def files_tar(files: Mapping[str, bytes], epoch: int) -> bytes:
    """Return a tar of regular files, mode 0644, owner 0:0, all with one time.

    Args:
        files: relative path to content.
        epoch: modification time of every file, seconds since 1970.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(files):
            info = tarfile.TarInfo(name)
            info.size = len(files[name])
            info.mode = 0o644
            info.mtime = epoch
            tar.addfile(info, io.BytesIO(files[name]))
    return buffer.getvalue()


def top_level(source: BinaryIO) -> dict[str, bool]:
    """Return the top-level directories of a tar, sorted, and whether anything is in each.

    Args:
        source: a seekable, uncompressed tar.
    """
    found: dict[str, bool] = {}
    source.seek(0)
    with tarfile.open(fileobj=source, mode="r:") as tar:
        for member in tar:
            top, _, below = _path(member.name).partition("/")
            if top and (below or member.isdir()):
                found[top] = found.get(top, False) or bool(below)
    return dict(sorted(found.items()))


def canonical_tar(source: BinaryIO, target: BinaryIO, epoch: int, below: str = "") -> None:
    """Rewrite a tar of a root file system in one canonical form.

    Entries are sorted by path, times later than ``epoch`` become ``epoch``, owners are numbers
    without names, paths have no leading ``./``, and of several hard links the first path holds
    the data. GNU tar 1.34 and 1.35 write different header bytes for the same tree; after this
    they are equal. Modes, owners and extended attributes are kept.

    Args:
        source: a seekable, uncompressed tar.
        target: where the result is written.
        epoch: seconds since 1970.
        below: take only what is in this top-level directory, as a root of its own.
    """
    source.seek(0)
    with (
        tarfile.open(fileobj=source, mode="r:") as read,
        tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as write,
    ):
        # A later entry of the same name replaces the earlier one, as when unpacking.
        members = {_path(member.name, below): member for member in read}
        members.pop("", None)
        first_link = _first_links(members, below)
        for path in sorted(members, key=lambda name: name.split("/")):
            member = members[path]
            data = members[_path(member.linkname, below)] if member.islnk() else member
            carrier = first_link.get(path, path)
            info = _canonical_info(path, data, epoch)
            if carrier != path:
                info.type, info.linkname, info.size = tarfile.LNKTYPE, carrier, 0
                write.addfile(info)
            elif data.isreg():
                write.addfile(info, read.extractfile(data))
            else:
                write.addfile(info)


def _path(name: str, below: str = "") -> str:
    """Return an entry's path without ``./`` and slashes around it.

    Empty for the root itself, and for what is not in the directory ``below``.
    """
    path = name.strip("/")
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    if path == ".":
        return ""
    if below:
        return path.removeprefix(f"{below}/") if path.startswith(f"{below}/") else ""
    return path


def _first_links(members: Mapping[str, tarfile.TarInfo], below: str) -> dict[str, str]:
    """Map each path of a group of hard links to the group's first path."""
    groups: dict[str, list[str]] = {}
    for path, member in members.items():
        if member.islnk():
            origin = _path(member.linkname, below)
            groups.setdefault(origin, [origin]).append(path)
    return {
        path: min(group, key=lambda name: name.split("/"))
        for group in groups.values()
        for path in group
    }


def _canonical_info(path: str, member: tarfile.TarInfo, epoch: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type = member.type if not member.isreg() else tarfile.REGTYPE
    info.size = member.size if member.isreg() else 0
    info.mode = member.mode & 0o7777
    info.uid, info.gid = member.uid, member.gid
    info.mtime = min(int(member.mtime), epoch)
    info.linkname = member.linkname if member.issym() else ""
    info.devmajor, info.devminor = member.devmajor, member.devminor
    info.pax_headers = {
        name: value
        for name, value in sorted(member.pax_headers.items())
        if name.startswith("SCHILY.xattr.")
    }
    return info


_GZIP = b"\x1f\x8b"
_COPY_BYTES = 1 << 20
_SAVE_S = 3600


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
        done = run(["docker", "save", "--output", archive.name, *references], _SAVE_S)
        if done.returncode:
            said = last_line(done.stderr)
            raise InfrastructureError(f"docker could not save {', '.join(references)}: {said}")
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
