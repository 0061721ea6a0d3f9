"""Images that are there are used, the others are built: nothing is built twice."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import harness
from harness.core.errors import InfrastructureError
from harness.topology.images import docker_cli, recipe
from harness.topology.images.base import debian_mirror, ensure_base, find_base
from harness.topology.images.recipe import EPOCH, REPOSITORY


@dataclass(frozen=True)
class Image:
    """A stack's image, present in the engine."""

    stack: str
    reference: str
    """``workflow-memory-harness/<stack>:<input hash>``."""
    id: str
    size_bytes: int


@dataclass(frozen=True)
class _Wanted:
    """An image that should exist: its name follows from what it is made of."""

    stack: str
    reference: str
    context: bytes
    build_args: dict[str, str]

    @property
    def latest(self) -> str:
        return f"{REPOSITORY}/{self.stack}:latest"


def known_stacks() -> list[str]:
    """Return the names of all stacks of this checkout."""
    return recipe.known_stacks(recipe.repository_root())


def ensure(stacks: Sequence[str], say: Callable[[str], None]) -> dict[str, Image]:
    """Return the images of these stacks; those that do not exist are built first.

    An image is named by the hash of what it is made of (Dockerfile, lock, the package's
    sources, base image), so an existing tag is an unchanged image. ``:latest`` follows.

    Args:
        stacks: folder names below ``images/``.
        say: told, one line each, what is being built.

    Raises:
        UsageError: if there is no such stack.
        InfrastructureError: if the engine does not answer or a build fails.
    """
    root = recipe.repository_root()
    contexts = {s: recipe.stack_context(recipe.stack_files(root, s)) for s in dict.fromkeys(stacks)}
    base_recipe = recipe.base_recipe(root)

    base = find_base(base_recipe)
    if base:
        images = _present(_wanted(contexts, *base))
        if len(images) == len(contexts):
            return images

    work = _work_directory(root)
    with _lock(work / "lock", say):
        base = ensure_base(base_recipe, work, say)
        wanted = _wanted(contexts, *base)
        # Another invocation may have built some while this one waited for the lock.
        present = _present(wanted)
        for item in wanted:
            if item.stack not in present:
                _build(item, work, say)
        images = _present(wanted)
    missing = sorted(set(contexts) - set(images))
    if missing:
        raise InfrastructureError(f"image {missing[0]}: built, but the engine does not have it")
    return images


def installed() -> list[Image]:
    """Return all images of ours that the engine has, the base and older ones included.

    Raises:
        InfrastructureError: if the engine does not answer.
    """
    images = []
    for local in docker_cli.labelled():
        stack = local.labels[docker_cli.STACK_LABEL]
        hashed = [tag for tag in local.tags if not tag.endswith(":latest")]
        reference = next(iter([*hashed, *local.tags]), local.id)
        images.append(Image(stack, reference, local.id, local.size_bytes))
    return sorted(images, key=lambda image: (image.stack, image.reference))


def _wanted(
    contexts: dict[str, bytes], base_reference: str, base: docker_cli.LocalImage
) -> list[_Wanted]:
    wanted = []
    for stack, context in contexts.items():
        # The version is part of the labels, and so of the image.
        fixed = {"SOURCE_DATE_EPOCH": str(EPOCH), "VERSION": harness.__version__}
        digest = recipe.input_hash(context, base.id, fixed)
        args = {"BASE_IMAGE": base_reference, "SOURCE_DATE_EPOCH": str(EPOCH)}
        wanted.append(_Wanted(stack, f"{REPOSITORY}/{stack}:{digest}", context, args))
    return wanted


def _present(wanted: Sequence[_Wanted]) -> dict[str, Image]:
    """Return those images the engine has, with ``:latest`` on each."""
    found = docker_cli.inspect([item.reference for item in wanted])
    images = {}
    for item in wanted:
        local = next((image for image in found if item.reference in image.tags), None)
        if local is None:
            continue
        if item.latest not in local.tags:
            docker_cli.tag(item.reference, item.latest)
        images[item.stack] = Image(item.stack, item.reference, local.id, local.size_bytes)
    return images


def _build(item: _Wanted, work: Path, say: Callable[[str], None]) -> None:
    log = work / f"{item.stack}.log"
    say(f"image {item.stack}: building (log: {log})")
    begin = time.monotonic()
    with build_secrets(work) as secrets:
        docker_cli.build(
            item.context,
            tags=[item.reference, item.latest],
            build_args=item.build_args,
            labels=image_labels(item.stack),
            secrets=secrets,
            log=log,
        )
    say(f"image {item.stack}: built in {time.monotonic() - begin:.0f} s")


def image_labels(stack: str) -> dict[str, str]:
    """Return the labels of a stack's image."""
    return {
        docker_cli.STACK_LABEL: stack,
        "org.opencontainers.image.title": f"{REPOSITORY} {stack}",
        "org.opencontainers.image.version": harness.__version__,
        "org.opencontainers.image.created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH)),
    }


@contextmanager
def build_secrets(work: Path) -> Iterator[list[str]]:
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


def _work_directory(root: Path) -> Path:
    work = root / "build" / "images"
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InfrastructureError(f"{work}: cannot be created: {error.strerror}") from error
    return work


@contextmanager
def _lock(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock between processes; the kernel releases it if this one dies."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("images: waiting for another invocation that is building them")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
