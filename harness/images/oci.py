"""Images as documents: configuration, manifest and archives, the same bytes for the same content.

An image is assembled here and not by the engine, because every engine would add something of its
own: the time, the tar headers of its version, an attestation. What is loaded from these archives
has the same ids in every image store.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class ImageConfig:
    """What an image's configuration says besides its layers."""

    architecture: str
    """As Go spells it: ``amd64``, ``arm64``."""
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    command: Sequence[str] = ()


@dataclass(frozen=True)
class Layer:
    """A canonical, uncompressed layer tar; its digest is its diff id."""

    path: Path
    digest: str
    created_by: str
    """What the image's history says of it."""

    @classmethod
    def of(cls, path: Path, created_by: str) -> Layer:
        """Return the layer that a file is."""
        return cls(path, file_digest(path), created_by)


@dataclass(frozen=True)
class OciImage:
    """An image with its layers on disk."""

    reference: str
    """``name:tag`` the image is loaded as."""
    config: bytes
    layers: tuple[Layer, ...]

    @property
    def id(self) -> str:
        """Digest of the configuration: the image id in an engine's classic store."""
        return digest(self.config)

    @property
    def manifest(self) -> bytes:
        """The OCI manifest."""
        return canonical_json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": _descriptor(CONFIG_TYPE, self.id, len(self.config)),
                "layers": [
                    _descriptor(LAYER_TYPE, layer.digest, layer.path.stat().st_size)
                    for layer in self.layers
                ],
            }
        )

    @property
    def manifest_digest(self) -> str:
        """Digest of the manifest: the image id in containerd's store, and in registries."""
        return digest(self.manifest)

    @property
    def layer_digests(self) -> tuple[str, ...]:
        """Digests of the layers, lowest first."""
        return tuple(layer.digest for layer in self.layers)

    @property
    def document(self) -> dict[str, Any]:
        """The configuration, parsed."""
        found = json.loads(self.config)
        assert isinstance(found, dict)
        return found


def assemble(
    reference: str, layers: Sequence[Layer], config: ImageConfig, epoch: int, base: Sequence[Layer]
) -> OciImage:
    """Put an image together; ``created`` is the epoch.

    Args:
        reference: ``name:tag`` it will be loaded as; not part of the image.
        layers: its own layers, lowest first.
        config: architecture, environment, labels, user, command.
        epoch: creation time, seconds since 1970.
        base: the layers below.
    """
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    everything = (*base, *layers)
    settings: dict[str, Any] = {
        "Env": [f"{name}={value}" for name, value in sorted(config.environment.items())],
        "Labels": dict(config.labels),
    }
    if config.user:
        settings["User"] = config.user
    if config.command:
        settings["Cmd"] = list(config.command)
    document = {
        "architecture": config.architecture,
        "os": "linux",
        "created": created,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in everything]},
        "history": [{"created": created, "created_by": layer.created_by} for layer in everything],
    }
    return OciImage(reference, canonical_json(document), everything)


def layout_documents(images: Sequence[OciImage]) -> dict[str, bytes]:
    """Return the small files of an OCI layout of these images: path to content.

    ``manifest.json`` is what ``docker load`` reads in classic stores, the rest is the layout. The
    layers are missing: they are at :func:`blob_path` of their digests.
    """
    files = {
        "oci-layout": canonical_json({"imageLayoutVersion": "1.0.0"}),
        "index.json": canonical_json(
            {
                "schemaVersion": 2,
                "mediaType": _INDEX_TYPE,
                "manifests": [
                    _descriptor(MANIFEST_TYPE, image.manifest_digest, len(image.manifest))
                    | {
                        "annotations": {
                            "io.containerd.image.name": f"docker.io/{image.reference}",
                            "org.opencontainers.image.ref.name": image.reference,
                        }
                    }
                    for image in images
                ],
            }
        ),
        "manifest.json": canonical_json(
            [
                {
                    "Config": blob_path(image.id),
                    "RepoTags": [image.reference],
                    "Layers": [blob_path(layer.digest) for layer in image.layers],
                }
                for image in images
            ]
        ),
    }
    for image in images:
        files[blob_path(image.id)] = image.config
        files[blob_path(image.manifest_digest)] = image.manifest
    return files


def write_archive(target: IO[bytes], images: Sequence[OciImage], epoch: int) -> None:
    """Write images as one archive that ``docker load`` and OCI tools both read.

    Layers stay uncompressed, and one that several images share is in it once.

    Args:
        target: where the archive is written; need not be seekable.
        images: what goes in.
        epoch: modification time of every entry, seconds since 1970.
    """
    small = layout_documents(images)
    large = {blob_path(layer.digest): layer.path for image in images for layer in image.layers}
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted({*small, *large}):
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


def distinct_layers(images: Iterable[OciImage]) -> dict[str, Layer]:
    """Return digest -> layer for all layers, each once."""
    return {layer.digest: layer for image in images for layer in image.layers}


def canonical_json(value: Any) -> bytes:
    """Return the one JSON text of a value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest(blob: bytes) -> str:
    """Return ``sha256:`` and the hex digits."""
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def file_digest(path: Path) -> str:
    """Return the digest of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def blob_path(blob_digest: str) -> str:
    """Return where an OCI layout keeps a blob."""
    return f"blobs/{blob_digest.replace(':', '/')}"


def _descriptor(media_type: str, blob_digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": blob_digest, "size": size}
