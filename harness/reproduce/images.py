"""The images in a bundle: into it, and out of it after they were checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import InfrastructureError
from harness.images.archive import save
from harness.images.oci import (
    Layer,
    OciImage,
    blob_path,
    digest,
    distinct_layers,
    layout_documents,
)
from harness.images.recipe import REPOSITORY
from harness.reproduce.format import IMAGES, BundleIndex, ImageEntry, Refused
from harness.reproduce.reader import Bundle

_REFERENCE = re.compile(rf"{REPOSITORY}/(?P<stack>[a-z0-9_]+):[A-Za-z0-9_.-]{{1,128}}")


def recorded(manifest: Mapping[str, Any]) -> list[ImageEntry]:
    """Return the images that a run's manifest names."""
    found = manifest.get("images") or {}
    return [
        ImageEntry(
            stack=stack,
            reference=str(image["reference"]),
            ids=[str(image["id"])],
            layers=[str(layer) for layer in image.get("layers") or ()],
        )
        for stack, image in sorted(found.items())
    ]


def take(entries: Sequence[ImageEntry], directory: Path) -> list[OciImage]:
    """Take a run's images out of the engine.

    Args:
        entries: what the run's manifest says.
        directory: where layers are written.

    Raises:
        InfrastructureError: if the engine has one no more, or another under its name.
    """
    images = save([entry.reference for entry in entries], directory)
    for entry, image in zip(entries, images, strict=True):
        if not {image.id, image.manifest_digest} & set(entry.ids):
            raise InfrastructureError(
                f"image {entry.reference} is not the one the run was made on ({entry.ids[0]}):"
                " load that one, or pack with --no-images"
            )
    return images


def entry_of(entry: ImageEntry, image: OciImage) -> ImageEntry:
    """Return the entry of an image that is at hand, with both of its ids."""
    ids = [image.id, image.manifest_digest]
    return ImageEntry(
        stack=entry.stack,
        reference=entry.reference,
        ids=ids,
        layers=[layer.digest for layer in image.layers],
    )


def layout(images: Sequence[OciImage]) -> dict[str, bytes | Path]:
    """Return the files of the images in a bundle: path to content."""
    files: dict[str, bytes | Path] = dict(layout_documents(images))
    files |= {blob_path(name): layer.path for name, layer in distinct_layers(images).items()}
    return {f"{IMAGES}/{path}": content for path, content in files.items()}


def check(bundle: Bundle, manifest: Mapping[str, Any]) -> list[OciImage]:
    """Return the images of a bundle, if they are what it and its run say.

    Nothing in the layout's own documents is believed: they must be those that follow from the
    configurations and layers.

    Args:
        bundle: with all of its images unpacked.
        manifest: the run's manifest.

    Raises:
        Refused: if an id, a name or a file is not what it should be.
    """
    index = bundle.index
    images = [_image(bundle, entry) for entry in index.images]
    named = {entry.stack: set(entry.ids) for entry in recorded(manifest)}
    for entry in index.images:
        if not named.get(entry.stack, set()) <= set(entry.ids) or entry.stack not in named:
            raise Refused(f"image {entry.stack} is not the one its run was made on")
    found = {path: entry for path, entry in index.paths.items() if path.startswith(f"{IMAGES}/")}
    for path, content in layout(images).items():
        entry_there = found.pop(path, None)
        hashed = digest(content) if isinstance(content, bytes) else f"sha256:{content.name}"
        if entry_there is None or f"sha256:{entry_there.sha256}" != hashed:
            raise Refused(f"{path} is not what follows from the images in it")
    if found:
        raise Refused(f"{min(found)} belongs to no image")
    return images


def _image(bundle: Bundle, entry: ImageEntry) -> OciImage:
    named = _REFERENCE.fullmatch(entry.reference)
    if not named or named["stack"] != entry.stack or len(entry.ids) != 2:
        raise Refused(f"image {entry.reference!r} is not one of this harness")
    config = _blob(bundle.index, bundle.path, entry.ids[0], entry.stack).read_bytes()
    try:
        document = json.loads(config)
        diff_ids = [str(diff_id) for diff_id in document["rootfs"]["diff_ids"]]
        history = [str(step["created_by"]) for step in document["history"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refused(f"image {entry.stack} has no valid configuration") from None
    layers = tuple(
        Layer(_blob(bundle.index, bundle.path, diff_id, entry.stack), diff_id, created_by)
        for diff_id, created_by in zip(diff_ids, [*history, *diff_ids], strict=False)
    )
    image = OciImage(entry.reference, config, layers)
    if [image.id, image.manifest_digest] != entry.ids or diff_ids != entry.layers:
        raise Refused(f"image {entry.stack} does not have the id that it is said to have")
    return image


def _blob(index: BundleIndex, path: Path, name: str, stack: str) -> Path:
    """Return a blob's file; its content was checked against the index, its name is here."""
    found = index.paths.get(f"{IMAGES}/{blob_path(name)}") if name.startswith("sha256:") else None
    if found is None or name != f"sha256:{found.sha256}":
        raise Refused(f"image {stack} does not have the id that it is said to have")
    return path / found.path


def required(index: BundleIndex) -> None:
    """Refuse a bundle of a run without containers.

    Raises:
        InfrastructureError: if it names no images.
    """
    if not index.images:
        raise InfrastructureError(
            "its run was made without containers ('harness run'): nothing says on what, so nothing"
            " can be reproduced; 'harness report' and 'harness compare' read it"
        )
