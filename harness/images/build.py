"""From a stack's files to its image, on disk; nothing here is loaded into the engine."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.images import docker_cli, recipe
from harness.images.archive import canonical_tar, files_tar, top_level
from harness.images.base import debian_mirror
from harness.images.oci import ImageConfig, Layer, OciImage, assemble
from harness.images.recipe import EPOCH, REPOSITORY, stack_labels

OFFLINE = "offline"
"""Folder of the build context with packages that are not to be fetched."""

_LAYER_DIRECTORY = re.compile(r"^\d+-(?P<name>[a-z]+)$")


@dataclass(frozen=True)
class Base:
    """The base the stacks are built on."""

    reference: str
    """Tag the engine has it under: in the classic store, BuildKit finds it by nothing else."""
    image: OciImage
    name: str
    """What the images' labels call it."""


@dataclass(frozen=True)
class Wanted:
    """An image that should exist: its name follows from what it is made of."""

    stack: str
    files: Mapping[str, bytes]
    reference: str
    wheels: Mapping[str, bytes] = field(default_factory=dict)
    """Name to content of those in its lock that no index has."""
    is_variant: bool = False

    @property
    def latest(self) -> str | None:
        """Its name without a hash, for compose alone; a variant has none."""
        return None if self.is_variant else f"{REPOSITORY}/{self.stack}:latest"


def wanted(
    root: Path,
    files: Mapping[str, Mapping[str, bytes]],
    base_name: str,
    base_layers: tuple[str, ...],
) -> list[Wanted]:
    """Return what the images of some stacks are called.

    Args:
        root: the checkout.
        files: stack to its files.
        base_name: what the base is called.
        base_layers: digests of the base's layers.
    """
    found = []
    for stack, own in files.items():
        # The labels are part of the image; of the base's digest they have, its layers stand in.
        labels = stack_labels(stack, root, recipe.sources_hash(own), base_name, "")
        args = {"SOURCE_DATE_EPOCH": str(EPOCH), **labels}
        name = recipe.input_hash(recipe.stack_context(own), base_layers, args)
        found.append(Wanted(stack, own, f"{REPOSITORY}/{stack}:{name}"))
    return found


def build_image(
    item: Wanted,
    base: Base,
    root: Path,
    directory: Path,
    log: Path,
    *,
    no_cache: bool = False,
    offline: Mapping[str, bytes] | None = None,
) -> OciImage:
    """Build one stack's layers and put its image together.

    Args:
        item: what to build.
        base: what it stands on.
        root: the checkout.
        directory: where layers are written.
        log: file the build's output is written to.
        no_cache: run every step again.
        offline: packages that are not to be fetched: path below :data:`OFFLINE` to content.

    Raises:
        InfrastructureError: if the build fails.
    """
    tree = directory / f"{item.stack}.tar"
    _export(item, base, tree, log, no_cache=no_cache, offline=offline or {})
    layers = _split(tree, directory)
    tree.unlink()
    settings = recipe.settings(item.files)
    document = base.image.document
    below = dict(entry.split("=", 1) for entry in document["config"].get("Env") or ())
    config = ImageConfig(
        architecture=document["architecture"],
        environment=below | dict(settings.environment),
        labels=stack_labels(
            item.stack,
            root,
            recipe.sources_hash(item.files),
            base.name,
            base.image.manifest_digest,
        ),
        user=settings.user,
        command=settings.command,
    )
    return assemble(item.reference, layers, config, EPOCH, base.image.layers)


def fetch_packages(item: Wanted, base: Base, target: Path, log: Path) -> None:
    """Fetch the Debian packages and wheels a stack and its base are made of, as a tar.

    Raises:
        InfrastructureError: if one cannot be had any more.
    """
    _export(item, base, target, log, no_cache=False, offline={}, stage=OFFLINE)


def _export(
    item: Wanted,
    base: Base,
    target: Path,
    log: Path,
    *,
    no_cache: bool,
    offline: Mapping[str, bytes],
    stage: str = "",
) -> None:
    # A folder must be there to be copied.
    own = {f"own/{name}": data for name, data in item.wheels.items()}
    more = {f"{OFFLINE}/{path}": data for path, data in {"README": b"", **offline, **own}.items()}
    with _build_secrets(log.parent) as secrets:
        docker_cli.build(
            files_tar({**item.files, **more}, EPOCH),
            output=target,
            target=stage,
            build_args={"BASE_IMAGE": base.reference, "SOURCE_DATE_EPOCH": str(EPOCH)},
            secrets=secrets,
            log=log,
            no_cache=no_cache,
        )


def _split(tree: Path, directory: Path) -> list[Layer]:
    """Make each top-level directory of a tree a layer, in the order of their names."""
    layers = []
    with tree.open("rb") as source:
        for top, anything in top_level(source).items():
            found = _LAYER_DIRECTORY.match(top)
            if not found or not anything:
                continue
            path = directory / f"{tree.stem}-{top}.tar"
            with path.open("wb") as target:
                canonical_tar(source, target, EPOCH, below=top)
            layers.append(Layer.of(path, found["name"]))
    return layers


@contextmanager
def _build_secrets(work: Path) -> Iterator[list[str]]:
    """Hand the build what is this machine's: its CA, package index and Debian mirror.

    None of it may end up in an image, so none of it is a build argument or in the context.

    Args:
        work: directory for a file that exists only meanwhile.

    Yields:
        Secrets as ``docker buildx build --secret`` takes them.
    """
    secrets = []
    authority = os.environ.get("SSL_CERT_FILE")
    if authority and Path(authority).is_file():
        secrets.append(f"id=ca,src={authority}")
    if os.environ.get("PIP_INDEX_URL"):
        secrets.append("id=pip_index_url,env=PIP_INDEX_URL")
    mirror = debian_mirror()
    if mirror is None:
        yield secrets
        return
    with tempfile.NamedTemporaryFile("w", dir=work, prefix="mirror-") as file:
        file.write(mirror)
        file.flush()
        yield [*secrets, f"id=debian_mirror,src={file.name}"]
