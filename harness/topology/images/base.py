"""The base image: the one named, an official one, or one made from Debian packages."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness.core.errors import InfrastructureError
from harness.topology.images import docker_cli
from harness.topology.images.archive import ImageConfig, canonical_tar, write_image_archive
from harness.topology.images.recipe import EPOCH, REPOSITORY, BaseRecipe

_ANSWER_S = 10.0
_TRANSFER_S = 900.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RELEASE_FILE = re.compile(r"'(?P<mirror>[^']+)/dists/(?P<suite>[^/']+)/InRelease'")


def find_base(recipe: BaseRecipe) -> tuple[str, docker_cli.LocalImage] | None:
    """Return the reference and image of the base, if the engine has one already.

    ``BASE_IMAGE`` comes first. Then the base made on this machine: once it exists, a registry
    is not asked again, and images keep standing on what they were built on.
    """
    named = os.environ.get("BASE_IMAGE")
    for reference in [named] if named else [recipe.local_reference, recipe.reference]:
        image = docker_cli.find(reference)
        if image:
            return reference, image
    return None


def ensure_base(
    recipe: BaseRecipe, work: Path, say: Callable[[str], None]
) -> tuple[str, docker_cli.LocalImage]:
    """Return the base's reference and image; pull or build it if it is not there.

    Args:
        recipe: what to pull or build.
        work: directory for logs and intermediate files.
        say: told what is being done.

    Raises:
        InfrastructureError: if it cannot be had.
    """
    found = find_base(recipe)
    if found:
        return found
    named = os.environ.get("BASE_IMAGE")
    reference = named or recipe.reference
    log = work / "base-pull.log"
    if docker_cli.pull(reference, log, _ANSWER_S, _TRANSFER_S):
        say(f"base image: pulled {reference}")
    elif named:
        raise InfrastructureError(
            f"BASE_IMAGE={named} is neither on this machine nor to be had from a registry "
            f"(log: {log})"
        )
    else:
        say(
            f"base image: {reference} cannot be pulled (log: {log}); making its like from Debian "
            f"packages ({recipe.suite}), once, in about half a minute"
        )
        _build(recipe, work, say)
    found = find_base(recipe)
    if not found:
        raise InfrastructureError(f"the base image {reference} is gone right after it was made")
    return found


def debian_mirror() -> str | None:
    """Return the URL of the Debian mirror this machine's apt uses, if it is a Debian machine."""
    system = platform.freedesktop_os_release()
    if system.get("ID") != "debian" or not shutil.which("apt-get"):
        return None
    done = subprocess.run(
        ["apt-get", "update", "--print-uris"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return parse_mirror(done.stdout, system.get("VERSION_CODENAME", ""))


def parse_mirror(print_uris: str, suite: str) -> str | None:
    """Return the mirror of a suite from what ``apt-get update --print-uris`` prints."""
    for match in _RELEASE_FILE.finditer(print_uris):
        if match["suite"] == suite:
            return match["mirror"]
    return None


def mmdebstrap_command(recipe: BaseRecipe, mirror: str, target: Path) -> list[str]:
    """Return the command that makes the base's root file system as a tar."""
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(recipe.packages)}"]
    command += [f"--architectures={recipe.architecture}"]
    command += [f"--dpkgopt=path-exclude={path}" for path in recipe.path_exclude]
    command += [f"--dpkgopt=path-include={path}" for path in recipe.path_include]
    # Device nodes: a container's /dev is made by the engine, and rootless engines refuse them.
    command += ["--skip=output/dev", f"--customize-hook={recipe.customize}"]
    return [*command, recipe.suite, str(target), mirror]


def _build(recipe: BaseRecipe, work: Path, say: Callable[[str], None]) -> None:
    mirror = debian_mirror()
    if not mirror:
        raise InfrastructureError(
            f"{recipe.reference} cannot be pulled, and this machine has no Debian mirror "
            "to make a base image from: name one that is here with BASE_IMAGE=<reference>"
        )
    _need_mmdebstrap(work, say)
    with tempfile.TemporaryDirectory(dir=work, prefix="base-") as directory:
        raw, layer, archive = (Path(directory) / n for n in ("raw.tar", "layer.tar", "image.tar"))
        docker_cli.run_logged(
            mmdebstrap_command(recipe, mirror, raw),
            work / "base-build.log",
            "making the base image from Debian packages failed",
            environment={"SOURCE_DATE_EPOCH": str(EPOCH)},
        )
        with raw.open("rb") as source, layer.open("wb") as target:
            canonical_tar(source, target, EPOCH)
        config = ImageConfig(
            architecture=recipe.architecture,
            environment={"PATH": _PATH},
            labels={
                docker_cli.STACK_LABEL: "base",
                "org.opencontainers.image.title": f"{REPOSITORY} base",
            },
            created_by=f"Debian {recipe.suite} packages",
        )
        with archive.open("wb") as target:
            write_image_archive(target, recipe.local_reference, [layer], config, EPOCH)
        docker_cli.load(archive)
    docker_cli.tag(recipe.local_reference, f"{REPOSITORY}/base:latest")


def _need_mmdebstrap(work: Path, say: Callable[[str], None]) -> None:
    if shutil.which("mmdebstrap"):
        return
    if os.geteuid() != 0:
        raise InfrastructureError(
            "mmdebstrap is needed to make the base image from Debian packages: "
            "`sudo apt-get install mmdebstrap`, or name an image with BASE_IMAGE=<reference>"
        )
    say("base image: installing mmdebstrap with apt-get")
    log = work / "mmdebstrap-install.log"
    # Another apt may be at work, the one that installs the engine for instance.
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120"]
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    failure = "installing mmdebstrap failed"
    docker_cli.run_logged([*apt, "update"], log, failure, environment=environment)
    install = [*apt, "install", "-y", "--no-install-recommends", "mmdebstrap"]
    docker_cli.run_logged(install, log, failure, environment=environment)
