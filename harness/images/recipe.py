"""What an image is made of, as files, and the hash that names it.

A stack's build context is assembled here, in memory, from its folder, the steps all stacks
share, and the part of the package that runs in containers. The hash is taken over exactly the
bytes the build is given: a file that is not in the context can change neither.

What a checkout has beside the package, and a wheel in it: compose files, images' recipes.

The labels of images, as the OCI image specification names them.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import harness
from harness.core.environment import home_directory
from harness.core.errors import InfrastructureError, UsageError
from harness.images.archive import files_tar
from harness.images.docker_cli import STACK_LABEL

EPOCH = 1760000000
"""Time of everything built, 2025-10-09: any fixed moment will do, as long as it stays."""

FORMAT = b"2"
"""How images are put together; another one makes other images of the same files."""

REPOSITORY = "workflow-memory-harness"

PACKAGE = "harness/"
"""Where the package is in a build context."""

_HOST_ROOMS = ("topology", "processes", "images", "analysis", "report", "reproduce")
_CONTAINER_COMMANDS = ("__init__.py", "main.py", "run.py")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class ImageSettings:
    """What a stack's image is configured with, besides its layers (``image.toml``)."""

    user: str
    command: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class BaseRecipe:
    """The base image: a reference, and how to make its like from Debian packages."""

    reference: str
    suite: str
    packages: tuple[str, ...]
    path_exclude: tuple[str, ...]
    path_include: tuple[str, ...]
    customize: Path
    """Script run on the finished root directory."""
    architecture: str
    hash: str
    """First 12 hex digits of the SHA-256 over the recipe's files."""

    @property
    def local_reference(self) -> str:
        """The tag of the base built from this recipe."""
        return f"{REPOSITORY}/base:{self.hash}"


def repository_root() -> Path:
    """Return the folder that has the recipes: the checkout, or what the wheel brought along.

    Raises:
        InfrastructureError: if there is no ``images/`` in it.
    """
    if not (CHECKOUT / "images" / "Dockerfile").is_file():
        raise InfrastructureError(
            f"{CHECKOUT}: no images/ folder, of what the package brings along or lies beside: take"
            " a whole checkout, or a wheel made from one"
        )
    return CHECKOUT


def known_stacks(root: Path) -> list[str]:
    """Return the names of all stacks: the folders with a lock file."""
    return sorted(lock.parent.name for lock in (root / "images").glob("*/requirements.lock"))


def pythons(root: Path) -> dict[str, str]:
    """Return Python version -> the Debian release that has it; the first is the images' own."""
    table = tomllib.loads((root / "images" / "base" / "base.toml").read_text(encoding="utf-8"))
    return dict(table["python"])


def base_recipe(root: Path, python: str = "") -> BaseRecipe:
    """Read the base's recipe.

    Args:
        root: the checkout.
        python: the Python it shall have, one of :func:`pythons`; its own by default.

    Raises:
        InfrastructureError: on a processor no base is described for.
        UsageError: if no base has that Python.
    """
    folder = root / "images" / "base"
    text = (folder / "base.toml").read_bytes()
    customize = folder / "customize.sh"
    table = tomllib.loads(text.decode())
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise InfrastructureError(
            f"no base image is described for {machine} processors: "
            "name one with BASE_IMAGE=<reference>"
        )
    architecture = _ARCHITECTURES[machine]
    epoch = str(EPOCH).encode()
    own, *_ = table["python"]
    if python and python not in table["python"]:
        raise UsageError(
            f"Python {python[:20]!r}: images can have {', '.join(sorted(table['python']))}"
        )
    suite = table["python"][python or own]
    other = [suite.encode()] if suite != table["python"][own] else []
    digest = _hash([FORMAT, text, customize.read_bytes(), epoch, architecture.encode(), *other])
    return BaseRecipe(
        reference=table["reference"].format(python=python or own, suite=suite),
        suite=suite,
        packages=tuple(table["packages"]),
        path_exclude=tuple(table["path_exclude"]),
        path_include=tuple(table["path_include"]),
        customize=customize,
        architecture=architecture,
        hash=digest,
    )


def stack_files(root: Path, stack: str) -> dict[str, bytes]:
    """Return everything that goes into a stack's build: path in the context to content.

    Raises:
        UsageError: if there is no such stack.
    """
    known = known_stacks(root)
    if stack not in known:
        raise UsageError(f"unknown image {stack!r}: one of {', '.join(known)}")
    images = root / "images"
    folder = images / stack
    packages = folder / "packages.txt"
    files = {
        "Dockerfile": _own_or_shared(root, stack, "Dockerfile").read_bytes(),
        "requirements.lock": (folder / "requirements.lock").read_bytes(),
        "packages.txt": packages.read_bytes() if packages.is_file() else b"",
        "image.toml": _own_or_shared(root, stack, "image.toml").read_bytes(),
    }
    for step in (images / "steps").glob("*.sh"):
        files[f"steps/{step.name}"] = step.read_bytes()
    package = package_sources(root)
    for source in package.rglob("*.py"):
        path = source.relative_to(package)
        if _runs_in_containers(path):
            files[f"{PACKAGE}{path.as_posix()}"] = source.read_bytes()
    return files


def stack_context(files: Mapping[str, bytes]) -> bytes:
    """Return the build context as a tar whose bytes depend on the files' content alone."""
    return files_tar(files, EPOCH)


def settings(files: Mapping[str, bytes]) -> ImageSettings:
    """Return the settings in a stack's files."""
    table = tomllib.loads(files["image.toml"].decode())
    return ImageSettings(table["user"], tuple(table["command"]), table["environment"])


def sources_hash(files: Mapping[str, bytes]) -> str:
    """Return the hash of the part of the package that is in a stack's image."""
    return _hash([part for item in _package(files) for part in item])


def recipe_hash(files: Mapping[str, bytes]) -> str:
    """Return the hash of everything else a stack's image is made of, but the base."""
    own = sorted((name, data) for name, data in files.items() if not name.startswith(PACKAGE))
    return _hash([part for name, data in own for part in (name.encode(), data)])


def input_hash(context: bytes, base: Sequence[str], build_args: Mapping[str, str]) -> str:
    """Return the 12 hex digits that name an image made from these inputs.

    Args:
        context: the build context.
        base: digests of the base's layers, which are the same in every image store.
        build_args: what else is put into the image.
    """
    args = [f"{name}={value}".encode() for name, value in sorted(build_args.items())]
    return _hash([FORMAT, context, *(layer.encode() for layer in base), *args])


def _package(files: Mapping[str, bytes]) -> list[tuple[bytes, bytes]]:
    return sorted((n.encode(), data) for n, data in files.items() if n.startswith(PACKAGE))


def _own_or_shared(root: Path, stack: str, name: str) -> Path:
    """Return a stack's own file, where the shared one does not do for it."""
    own = root / "images" / stack / name
    return own if own.is_file() else root / "images" / name


def _runs_in_containers(path: Path) -> bool:
    room = path.parts[0]
    if room == "cli":
        return path.name in _CONTAINER_COMMANDS
    return room not in _HOST_ROOMS


def _hash(parts: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        # The length keeps neighbours apart: "ab" + "c" is not "a" + "bc".
        digest.update(f"{len(part)}:".encode())
        digest.update(part)
    return digest.hexdigest()[:12]


_PACKAGE = Path(harness.__file__).resolve().parent
_CARRIED = "_checkout"

CHECKOUT = _PACKAGE / _CARRIED if (_PACKAGE / _CARRIED).is_dir() else _PACKAGE.parent
"""The folder that has ``compose/``, ``images/``, ``images.lock`` and ``pyproject.toml``."""


def package_sources(checkout: Path) -> Path:
    """Return the package that belongs to such a folder: what goes into images."""
    return checkout.parent if checkout.name == _CARRIED else checkout / "harness"


def build_directory(checkout: Path) -> Path:
    """Return where images are put together: the user's cache where the package is installed."""
    if checkout.name == _CARRIED:
        return cache_directory() / "images"
    return checkout / "build" / "images"


def cache_directory() -> Path:
    """Return the user's cache of what takes long to make again."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path(home_directory(), ".cache")
    return Path(cache) / "workflow-memory-harness"


_OCI = "org.opencontainers.image."


def base_labels() -> dict[str, str]:
    """Return the labels of the base image."""
    return {STACK_LABEL: "base", f"{_OCI}title": f"{REPOSITORY} base", f"{_OCI}created": _CREATED}


def stack_labels(
    stack: str, root: Path, revision: str, base_name: str, base_digest: str
) -> dict[str, str]:
    """Return the labels of a stack's image.

    Args:
        stack: its name.
        root: the checkout.
        revision: hash of the package's sources in it. A commit would give the same image another
            id with each change of, say, the documentation.
        base_name: reference of the image it stands on.
        base_digest: that one's manifest digest.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    labels = {
        STACK_LABEL: stack,
        f"{_OCI}title": f"{REPOSITORY} {stack}",
        f"{_OCI}version": harness.__version__,
        f"{_OCI}revision": revision,
        f"{_OCI}created": _CREATED,
        f"{_OCI}licenses": project["license"],
        f"{_OCI}base.name": base_name,
        f"{_OCI}base.digest": base_digest,
    }
    source = project.get("urls", {}).get("Source")
    return labels | ({f"{_OCI}source": source} if source else {})


_CREATED = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH))
