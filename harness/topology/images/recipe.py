"""What an image is made of, as files, and the hash that names it.

A stack's build context is assembled here, in memory, from its folder, the steps all stacks
share, and the part of the package that runs in containers. The hash is taken over exactly the
bytes the build is given: a file that is not in the context can change neither.
"""

from __future__ import annotations

import hashlib
import platform
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import harness
from harness.core.errors import InfrastructureError, UsageError
from harness.topology.images.archive import files_tar

EPOCH = 1760000000
"""Time of everything built, 2025-10-09: any fixed moment will do, as long as it stays."""

REPOSITORY = "workflow-memory-harness"

_HOST_ROOMS = ("topology", "analysis", "report", "reproduce")
_CONTAINER_COMMANDS = ("__init__.py", "main.py", "run.py")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


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
    """Return the checkout the package is imported from.

    Raises:
        InfrastructureError: if there is no ``images/`` beside the package.
    """
    root = Path(harness.__file__).resolve().parent.parent
    if not (root / "images" / "Dockerfile").is_file():
        raise InfrastructureError(
            f"no images/ folder beside the package in {root}: images are built from a checkout "
            "(git clone, then `make bench` there)"
        )
    return root


def known_stacks(root: Path) -> list[str]:
    """Return the names of all stacks: the folders with a lock file."""
    return sorted(lock.parent.name for lock in (root / "images").glob("*/requirements.lock"))


def base_recipe(root: Path) -> BaseRecipe:
    """Read the base's recipe.

    Raises:
        InfrastructureError: on a processor no base is described for.
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
    digest = _hash([text, customize.read_bytes(), str(EPOCH).encode(), architecture.encode()])
    return BaseRecipe(
        reference=table["reference"],
        suite=table["suite"],
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
    # A stack that needs other steps than the shared ones brings a Dockerfile of its own.
    dockerfile = folder / "Dockerfile"
    packages = folder / "packages.txt"
    files = {
        "Dockerfile": (dockerfile if dockerfile.is_file() else images / "Dockerfile").read_bytes(),
        "requirements.lock": (folder / "requirements.lock").read_bytes(),
        "packages.txt": packages.read_bytes() if packages.is_file() else b"",
    }
    for step in (images / "steps").glob("*.sh"):
        files[f"steps/{step.name}"] = step.read_bytes()
    package = root / "harness"
    for source in package.rglob("*.py"):
        path = source.relative_to(package)
        if _runs_in_containers(path):
            files[f"harness/{path.as_posix()}"] = source.read_bytes()
    return files


def stack_context(files: Mapping[str, bytes]) -> bytes:
    """Return the build context as a tar whose bytes depend on the files' content alone."""
    return files_tar(files, EPOCH)


def input_hash(context: bytes, base_id: str, build_args: Mapping[str, str]) -> str:
    """Return the 12 hex digits that name an image made from these inputs."""
    args = [f"{name}={value}".encode() for name, value in sorted(build_args.items())]
    return _hash([context, base_id.encode(), *args])


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
