"""``images.lock``: which bits the images of this checkout are.

For every architecture it has the base and each stack: the hash of the files it is made from, the
digests of its layers, its id in both kinds of image store, and the Debian packages in it. Layers
and packages of a stack are locked by its own files. The package's sources are in a layer of their
own and locked by their hash: after a change of the package the other layers must still be as
locked, while that layer and the ids are others until ``harness images lock`` writes them anew.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.core.errors import UsageError
from harness.core.files import write_whole
from harness.images import recipe
from harness.images.oci import Layer, OciImage

FILE = "images.lock"
FORMAT = 1
PACKAGE_LAYER = "harness"
_PACKAGE_LISTS = ("usr/share/base-packages.txt", "usr/share/harness/debian-packages.txt")

AS_LOCKED = "as locked"
PACKAGE_CHANGED = "as locked, but the package, which has changed"
NOT_LOCKED = "not locked: its files have changed"
OTHER_PACKAGES = "other Debian packages"
DIFFERS = "DIFFERS from images.lock"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LockedLayer(_Model):
    """One layer."""

    name: str
    digest: str


class LockedImage(_Model):
    """One image of one architecture."""

    recipe: str
    """Hash of all files it is made from, the package's sources excepted."""
    sources: str = ""
    """Hash of the package's sources in it."""
    requirements: str = ""
    """SHA-256 of its requirements.lock, which has the hashes of all wheels."""
    id: str
    """Digest of the configuration: the id in a classic image store."""
    manifest: str
    """Digest of the manifest: the id in containerd's image store and in registries."""
    layers: tuple[LockedLayer, ...]
    """Its own, without the base's."""
    packages: dict[str, str]
    """Debian packages in its own layers, with their versions."""


class ArchitectureLock(_Model):
    """All images of one architecture."""

    base: LockedImage
    stacks: dict[str, LockedImage]
    """By name: ``dask``, and ``psbench/dask`` for an image of a kept variant."""


class ImagesLock(_Model):
    """The file."""

    format: int = FORMAT
    epoch: int = recipe.EPOCH
    architectures: dict[str, ArchitectureLock] = {}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file; one that is not there is empty.

        Raises:
            UsageError: if it is not such a file.
        """
        if not path.exists():
            return cls()
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, ValueError, OSError):
            raise UsageError(
                f"{path}: is not a lock of images; `harness images lock` writes it anew"
            ) from None

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        write_whole(path, self.model_dump_json(indent=1) + "\n")

    def with_architecture(self, name: str, lock: ArchitectureLock) -> ImagesLock:
        """Return the lock with one architecture's images replaced."""
        found = self.architectures | {name: lock}
        return ImagesLock(architectures=dict(sorted(found.items())))


def lock_base(image: OciImage, base_recipe: recipe.BaseRecipe) -> LockedImage:
    """Return what is to be locked of the base."""
    return LockedImage(
        recipe=base_recipe.hash,
        id=image.id,
        manifest=image.manifest_digest,
        layers=_layers(image.layers),
        packages=debian_packages(image.layers),
    )


def lock_stack(image: OciImage, files: Mapping[str, bytes], base_layers: int) -> LockedImage:
    """Return what is to be locked of a stack's image.

    Args:
        image: the image.
        files: what it was made from.
        base_layers: how many of its layers are the base's.
    """
    own = image.layers[base_layers:]
    return LockedImage(
        recipe=recipe.recipe_hash(files),
        sources=recipe.sources_hash(files),
        requirements=hashlib.sha256(files["requirements.lock"]).hexdigest(),
        id=image.id,
        manifest=image.manifest_digest,
        layers=_layers(own),
        packages=debian_packages(own),
    )


def judge(made: LockedImage, locked: LockedImage | None, base_as_locked: bool = True) -> str:
    """Compare an image with the lock, as far as both are made from the same files.

    Args:
        made: the image.
        locked: its entry, if there is one.
        base_as_locked: whether the base below it is; its id follows from the base's.

    Returns:
        One of the words of this module. Only :data:`DIFFERS` means that the same files gave other
        bits.
    """
    if locked is None or locked.recipe != made.recipe:
        return NOT_LOCKED
    if made.packages != locked.packages:
        return OTHER_PACKAGES
    if made.sources != locked.sources:
        same = _without_package(made) == _without_package(locked)
        return PACKAGE_CHANGED if same else DIFFERS
    if made.layers != locked.layers or (base_as_locked and made.id != locked.id):
        return DIFFERS
    return AS_LOCKED


def changed_packages(made: LockedImage, locked: LockedImage) -> list[str]:
    """Return a line for each Debian package that has another version than is locked."""
    names = sorted({*made.packages, *locked.packages})
    pairs = [(n, locked.packages.get(n, "absent"), made.packages.get(n, "absent")) for n in names]
    return [f"{name} {was} -> {now}" for name, was, now in pairs if was != now]


def debian_packages(layers: tuple[Layer, ...]) -> dict[str, str]:
    """Return the packages that layers list, with their versions."""
    found: dict[str, str] = {}
    for layer in layers:
        with tarfile.open(layer.path, "r:") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.name in _PACKAGE_LISTS else None
                if file is not None:
                    lines = file.read().decode().splitlines()
                    found |= dict(line.split() for line in lines)
    return dict(sorted(found.items()))


def _layers(layers: tuple[Layer, ...]) -> tuple[LockedLayer, ...]:
    return tuple(LockedLayer(name=layer.created_by, digest=layer.digest) for layer in layers)


def _without_package(image: LockedImage) -> list[LockedLayer]:
    return [layer for layer in image.layers if layer.name != PACKAGE_LAYER]
