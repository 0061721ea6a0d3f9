"""Images to and from a registry, with the digests they have here.

Pushing needs skopeo: an engine with a classic image store compresses layers as it pushes them,
which gives the image another manifest and so another digest than ``images.lock`` has. Pulling needs
the engine alone: it asks for the locked digest, and both it and the registry check the content.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.core.errors import InfrastructureError, UsageError
from harness.images import docker_cli, recipe
from harness.images.archive import save
from harness.images.build import wanted
from harness.images.lock import FILE, ImagesLock
from harness.images.oci import write_archive
from harness.images.programs import last_line, run
from harness.images.recipe import EPOCH
from harness.images.store import Image, build_lock, ensure, present, stacks_files

_REGISTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(:\d+)?(/[a-z0-9]+([._/-]+[a-z0-9]+)*)?")
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3})(:\d+)?(/.*)?")
_ANSWER_S = 30.0
_TRANSFER_S = 900.0


def push(registry: str, stacks: Sequence[str], say: Callable[[str], None]) -> dict[str, str]:
    """Push the images of stacks; those that are not there are built first.

    Args:
        registry: host, port and path before our own names: ``registry.example/group``.
        stacks: folder names below ``images/``.
        say: told, one line each, what is being pushed.

    Returns:
        Stack to its name in the registry, by digest.

    Raises:
        UsageError: if the registry's name is none.
        InfrastructureError: without skopeo, or if the registry refuses.
    """
    _check_name(registry)
    if not shutil.which("skopeo"):
        raise InfrastructureError(
            "skopeo: command not found: `apt-get install skopeo` (an engine alone would push other"
            " digests)"
        )
    root = recipe.repository_root()
    there = ensure(stacks, say)
    names = {}
    with build_lock(root, say) as work, tempfile.TemporaryDirectory(dir=work) as directory:
        images = save([there[stack].reference for stack in stacks], Path(directory))
        for stack, image in zip(stacks, images, strict=True):
            say(f"image {stack}: pushing")
            archive = Path(directory) / f"{stack}.tar"
            with archive.open("wb") as file:
                write_archive(file, [image], EPOCH)
            # skopeo would unpack it, too, but with its owner, which only root may.
            layout = Path(directory) / stack
            layout.mkdir()
            unpack = ["tar", "-x", "--no-same-owner", "-f", str(archive), "-C", str(layout)]
            unpacked = run(unpack, _TRANSFER_S)
            if unpacked.returncode:
                raise InfrastructureError(f"{archive}: {last_line(unpacked.stderr)}")
            archive.unlink()
            target = f"{registry}/{image.reference}"
            _skopeo(
                "copy",
                "--preserve-digests",
                f"--dest-tls-verify={_verified(registry)}",
                f"oci:{layout}",
                f"docker://{target}",
            )
            shutil.rmtree(layout)
            names[stack] = f"{target.rpartition(':')[0]}@{image.manifest_digest}"
    return names


def pull(registry: str, stacks: Sequence[str], say: Callable[[str], None]) -> dict[str, Image]:
    """Pull the images that ``images.lock`` names, by digest, and call them as this checkout does.

    Args:
        registry: as for :func:`push`.
        stacks: folder names below ``images/``.
        say: told, one line each, what is being pulled.

    Raises:
        UsageError: if the registry's name is none, or the lock is of other sources.
        InfrastructureError: if the registry does not have one.
    """
    _check_name(registry)
    root = recipe.repository_root()
    base_recipe = recipe.base_recipe(root)
    locked = ImagesLock.read(root / FILE).architectures.get(base_recipe.architecture)
    files = stacks_files(stacks)
    for stack, own in files.items():
        entry = locked.stacks.get(stack) if locked else None
        hashes = (recipe.recipe_hash(own), recipe.sources_hash(own))
        if entry is None or (entry.recipe, entry.sources) != hashes:
            raise UsageError(
                f"{FILE}: image {stack} is not locked as this checkout has it, so its digest is not"
                " known: check out what was pushed, or build it"
            )
    assert locked is not None, "there are stacks in it"
    layers = tuple(layer.digest for layer in locked.base.layers)
    items = wanted(root, files, base_recipe.local_reference, layers)
    with build_lock(root, say) as work:
        for item in items:
            entry = locked.stacks[item.stack]
            name = f"{registry}/{item.reference.rpartition(':')[0]}@{entry.manifest}"
            say(f"image {item.stack}: pulling {name}")
            log = work / f"pull-{item.stack}.log"
            if not docker_cli.pull(name, log, _ANSWER_S, _TRANSFER_S):
                reason = docker_cli.last_error(log.read_text(encoding="utf-8", errors="replace"))
                raise InfrastructureError(f"{name} cannot be pulled: {reason} (log: {log})")
            found = docker_cli.find(name)
            if found is None or found.id not in (entry.id, entry.manifest):
                raise InfrastructureError(f"{name}: pulled as {found.id if found else 'nothing'}")
            docker_cli.tag(name, item.reference)
    return present(items)


def _check_name(registry: str) -> None:
    if not _REGISTRY.fullmatch(registry):
        raise UsageError(f"{registry!r} is not a registry: write host, host:port or host/path")


def _verified(registry: str) -> str:
    """Engines, too, talk to a registry on this machine without TLS."""
    return "false" if _LOOPBACK.fullmatch(registry) else "true"


def _skopeo(*arguments: str) -> None:
    variables = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        # Without a session's folder skopeo looks for logins in one that may be root's, and gives up
        # there. Those of `docker login` it takes all the same.
        variables.setdefault("XDG_RUNTIME_DIR", folder)
        done = run(["skopeo", *arguments], _TRANSFER_S, variables)
    if done.returncode:
        said = last_line(done.stderr)
        raise InfrastructureError(f"skopeo could not copy to {arguments[-1]}: {said}")
