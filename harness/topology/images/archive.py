"""Archives that are the same bytes for the same content.

Three pure functions: a tar of given files, a tar rewritten in canonical form, and an image
archive that is a ``docker save`` archive and an OCI layout at once. Nothing in them depends on
the clock, the order of a directory, the user, or the version of tar.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class ImageConfig:
    """What an image's configuration says besides its layers."""

    architecture: str
    """As Go spells it: ``amd64``, ``arm64``."""
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    created_by: str = ""
    """The history entry of each layer."""


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


def canonical_tar(source: BinaryIO, target: BinaryIO, epoch: int) -> None:
    """Rewrite a tar of a root file system in one canonical form.

    Entries are sorted by path, times later than ``epoch`` become ``epoch``, owners are numbers
    without names, paths have no leading ``./``, and of several hard links the first path holds
    the data. GNU tar 1.34 and 1.35 write different header bytes for the same tree; after this
    they are equal. Modes, owners and extended attributes are kept.

    Args:
        source: a seekable, uncompressed tar.
        target: where the result is written.
        epoch: seconds since 1970.
    """
    with (
        tarfile.open(fileobj=source, mode="r:") as read,
        tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as write,
    ):
        # A later entry of the same name replaces the earlier one, as when unpacking.
        members = {_path(member.name): member for member in read if _path(member.name)}
        first_link = _first_links(members)
        for path in sorted(members, key=lambda name: name.split("/")):
            member = members[path]
            data = members[_path(member.linkname)] if member.islnk() else member
            carrier = first_link.get(path, path)
            info = _canonical_info(path, data, epoch)
            if carrier != path:
                info.type, info.linkname, info.size = tarfile.LNKTYPE, carrier, 0
                write.addfile(info)
            elif data.isreg():
                write.addfile(info, read.extractfile(data))
            else:
                write.addfile(info)


def write_image_archive(
    target: BinaryIO, reference: str, layers: Sequence[Path], config: ImageConfig, epoch: int
) -> str:
    """Write an image as one archive that ``docker load`` and OCI tools both read.

    Layers stay uncompressed, so a layer's blob digest is its diff id, and every image store
    computes the same image from the archive. ``created`` is the epoch: ``docker import`` would
    stamp the current time and give another image id each time.

    Args:
        target: where the archive is written.
        reference: ``name:tag`` the image is loaded as.
        layers: canonical layer tars, lowest first.
        config: architecture, environment, labels.
        epoch: creation time, seconds since 1970.

    Returns:
        The digest of the configuration, ``sha256:...``: the image id in the classic store.
    """
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    digests = [_file_digest(layer) for layer in layers]
    config_blob = _json(
        {
            "architecture": config.architecture,
            "os": "linux",
            "created": created,
            "config": {
                "Env": [f"{name}={value}" for name, value in sorted(config.environment.items())],
                "Labels": dict(config.labels),
            },
            "rootfs": {"type": "layers", "diff_ids": digests},
            "history": [{"created": created, "created_by": config.created_by} for _ in layers],
        }
    )
    manifest_blob = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, _digest(config_blob), len(config_blob)),
            "layers": [
                _descriptor(_LAYER, digest, layer.stat().st_size)
                for digest, layer in zip(digests, layers, strict=True)
            ],
        }
    )
    index = {
        "schemaVersion": 2,
        "manifests": [
            _descriptor(_MANIFEST, _digest(manifest_blob), len(manifest_blob))
            | {
                "annotations": {
                    "io.containerd.image.name": f"docker.io/{reference}",
                    "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
                }
            }
        ],
    }
    docker_manifest = [
        {
            "Config": _blob_path(_digest(config_blob)),
            "RepoTags": [reference],
            "Layers": [_blob_path(digest) for digest in digests],
        }
    ]
    small = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json(index),
        "manifest.json": _json(docker_manifest),
        _blob_path(_digest(config_blob)): config_blob,
        _blob_path(_digest(manifest_blob)): manifest_blob,
    }
    large = {_blob_path(digest): layer for digest, layer in zip(digests, layers, strict=True)}
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted([*small, *large]):
            info = tarfile.TarInfo(name)
            info.mode = 0o644
            info.mtime = epoch
            if name in small:
                info.size = len(small[name])
                tar.addfile(info, io.BytesIO(small[name]))
            else:
                info.size = large[name].stat().st_size
                with large[name].open("rb") as blob:
                    tar.addfile(info, blob)
    return _digest(config_blob)


def _path(name: str) -> str:
    """Return an entry's path without ``./`` and slashes around it; the root's is empty."""
    path = name.strip("/")
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    return "" if path == "." else path


def _first_links(members: Mapping[str, tarfile.TarInfo]) -> dict[str, str]:
    """Map each path of a group of hard links to the group's first path."""
    groups: dict[str, list[str]] = {}
    for path, member in members.items():
        if member.islnk():
            origin = _path(member.linkname)
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


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _blob_path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}
