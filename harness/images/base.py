"""The base image: the one named, one made from Debian packages, or else an official one."""

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
from harness.images import docker_cli
from harness.images.archive import canonical_tar
from harness.images.oci import ImageConfig, Layer, OciImage, assemble, write_archive
from harness.images.packages import LocalRepository
from harness.images.recipe import EPOCH, REPOSITORY, BaseRecipe, base_labels

_ANSWER_S = 10.0
_TRANSFER_S = 900.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RELEASE_FILE = re.compile(r"'(?P<mirror>[^']+)/dists/(?P<suite>[^/']+)/InRelease'")


def find_base(recipe: BaseRecipe) -> tuple[str, docker_cli.LocalImage] | None:
    """Return the reference and image of the base, if the engine has it already.

    ``BASE_IMAGE`` comes first. Without it, it is the one made from Debian packages, which is the
    same on every machine; an official image only where that one cannot be made.
    """
    named = os.environ.get("BASE_IMAGE")
    reference = named or recipe.local_reference
    image = docker_cli.find(reference)
    if not image and not named and not can_make():
        reference = recipe.reference
        image = docker_cli.find(reference)
    return (reference, image) if image else None


def ensure_base(
    recipe: BaseRecipe,
    work: Path,
    say: Callable[[str], None],
    packages: LocalRepository | None = None,
) -> tuple[str, docker_cli.LocalImage]:
    """Return the base's reference and image; make or pull it if it is not there.

    Args:
        recipe: what to make or pull.
        work: directory for logs and intermediate files.
        say: told what is being done.
        packages: Debian packages to make it from, instead of a mirror's.

    Raises:
        InfrastructureError: if it cannot be had.
    """
    found = find_base(recipe)
    if found:
        return found
    named = os.environ.get("BASE_IMAGE")
    if not named and (packages or can_make()):
        say(f"base image: making it from Debian packages ({recipe.suite}), once, in half a minute")
        with tempfile.TemporaryDirectory(dir=work, prefix="base-") as directory:
            load([make_base(recipe, Path(directory), work, say, packages)], work)
        docker_cli.tag(recipe.local_reference, f"{REPOSITORY}/base:latest")
    else:
        _pull(named or recipe.reference, named, work, say)
    found = find_base(recipe)
    if not found:
        raise InfrastructureError("the base image is gone right after it was made")
    return found


def make_base(
    recipe: BaseRecipe,
    directory: Path,
    work: Path,
    say: Callable[[str], None],
    packages: LocalRepository | None = None,
) -> OciImage:
    """Make the base from Debian packages; nothing is loaded.

    Args:
        recipe: what to make.
        directory: where its layer is written.
        work: directory for logs.
        say: told what is being installed on the machine for it.
        packages: Debian packages to make it from, instead of a mirror's.

    Raises:
        InfrastructureError: if it cannot be made.
    """
    mirror = packages.source(recipe.suite) if packages else debian_mirror()
    if not mirror:
        raise InfrastructureError(
            "this machine knows no Debian mirror to make a base image from: name one with"
            " DEBIAN_MIRROR=<URL>, or an image that is here with BASE_IMAGE=<reference>"
        )
    _need_mmdebstrap(work, say)
    raw, layer = directory / "base-raw.tar", directory / "base.tar"
    docker_cli.run_logged(
        mmdebstrap_command(recipe, mirror, raw),
        work / "base-build.log",
        "making the base image from Debian packages failed",
        environment={"SOURCE_DATE_EPOCH": str(EPOCH)},
    )
    with raw.open("rb") as source, layer.open("wb") as target:
        canonical_tar(source, target, EPOCH)
    raw.unlink()
    config = ImageConfig(
        architecture=recipe.architecture,
        environment={"PATH": _PATH},
        labels=base_labels(),
        command=["python3"],
    )
    created_by = f"Debian {recipe.suite} packages"
    return assemble(recipe.local_reference, [Layer.of(layer, created_by)], config, EPOCH, [])


def load(images: list[OciImage], work: Path) -> None:
    """Load images into the engine.

    Args:
        images: what to load.
        work: directory for the archive, which is removed again.

    Raises:
        InfrastructureError: if the engine refuses.
    """
    with tempfile.NamedTemporaryFile(dir=work, prefix="load-", suffix=".tar") as archive:
        write_archive(archive.file, images, EPOCH)
        archive.flush()
        docker_cli.load(Path(archive.name))


def can_make() -> bool:
    """Tell whether this machine can make a base image from Debian packages."""
    installs = os.geteuid() == 0 and shutil.which("apt-get") is not None
    return (shutil.which("mmdebstrap") is not None or installs) and debian_mirror() is not None


def _pull(reference: str, named: str | None, work: Path, say: Callable[[str], None]) -> None:
    log = work / "base-pull.log"
    if docker_cli.pull(reference, log, _ANSWER_S, _TRANSFER_S):
        say(f"base image: pulled {reference}")
    elif named:
        raise InfrastructureError(
            f"BASE_IMAGE={named} is neither on this machine nor to be had from a registry "
            f"(log: {log})"
        )
    else:
        raise InfrastructureError(
            f"{reference} cannot be pulled (log: {log}), and this machine cannot make its like:"
            " that needs a Debian mirror (Debian has one; else DEBIAN_MIRROR=<URL>), and root or"
            " mmdebstrap (`apt-get install mmdebstrap`)"
        )


def debian_mirror() -> str | None:
    """Return the URL of the Debian mirror to use.

    ``DEBIAN_MIRROR`` comes first: where a mirror has moved on to other versions, a dated archive
    still has the old ones. Then the mirror this machine's apt uses, if it is a Debian machine.
    """
    if os.environ.get("DEBIAN_MIRROR"):
        return os.environ["DEBIAN_MIRROR"].rstrip("/")
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
    # The list of a release that is still being made is valid for a week only. That of a dated
    # archive is older, and so may a mirror's be. Whose list it is is checked all the same.
    command += ['--aptopt=Acquire::Check-Valid-Until "false"']
    command += ['--customize-hook=rm "$1/etc/apt/apt.conf.d/99mmdebstrap"']
    return [*command, recipe.suite, str(target), mirror]


def _need_mmdebstrap(work: Path, say: Callable[[str], None]) -> None:
    if shutil.which("mmdebstrap"):
        return
    if os.geteuid() != 0:
        raise InfrastructureError(
            "mmdebstrap is needed to make the base image from Debian packages: "
            "`sudo apt-get install mmdebstrap debian-archive-keyring`, or name an image with "
            "BASE_IMAGE=<reference>"
        )
    say("base image: installing mmdebstrap with apt-get")
    log = work / "mmdebstrap-install.log"
    # Another apt may be at work, the one that installs the engine for instance.
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120"]
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    failure = "installing mmdebstrap failed"
    docker_cli.run_logged([*apt, "update"], log, failure, environment=environment)
    install = [*apt, "install", "-y", "--no-install-recommends"]
    install += ["mmdebstrap", "debian-archive-keyring"]
    docker_cli.run_logged(install, log, failure, environment=environment)
