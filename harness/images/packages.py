"""Building from packages that are at hand, without a mirror or an index."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import InfrastructureError, UsageError
from harness.images.recipe import BaseRecipe


@dataclass(frozen=True)
class LocalRepository:
    """A package source on this machine's disk, made by :func:`make_repository`."""

    path: Path

    def source(self, suite: str) -> str:
        """Return the line for an apt source list."""
        # Checked by the hashes in the bundle, or the user's own: there is nobody to sign it.
        return f"deb [trusted=yes] copy:{self.path} {suite} main"


def make_repository(
    debs: list[Path], directory: Path, suite: str, architecture: str
) -> LocalRepository:
    """Write the index files apt needs; packages are linked in, not copied.

    Args:
        debs: the packages.
        directory: where the repository is made.
        suite: name of the release; without one, no package counts as essential.
        architecture: of the packages, as Debian spells it.

    Raises:
        UsageError: if there are no packages, or one is not one.
        InfrastructureError: if there is no dpkg-deb.
    """
    if not debs:
        raise UsageError("no Debian packages (*.deb) given to build from")
    pool = directory / "pool"
    pool.mkdir(parents=True)
    stanzas = []
    for deb in sorted(debs, key=lambda path: path.name):
        target = pool / deb.name
        target.symlink_to(deb.resolve())
        data = deb.read_bytes()
        stanzas.append(
            f"{_control(deb)}\nFilename: pool/{deb.name}\nSize: {len(data)}\n"
            f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
        )
    index = "\n".join(stanzas).encode()
    folder = directory / "dists" / suite / "main" / f"binary-{architecture}"
    folder.mkdir(parents=True)
    files = {"Packages": index, "Packages.gz": gzip.compress(index, mtime=0)}
    sums = []
    for name, data in files.items():
        (folder / name).write_bytes(data)
        path = f"main/binary-{architecture}/{name}"
        sums.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {path}")
    release = [f"Suite: {suite}", f"Codename: {suite}", f"Architectures: {architecture}"]
    release += ["Components: main", "SHA256:", *sums]
    (directory / "dists" / suite / "Release").write_text(
        "\n".join(release) + "\n", encoding="utf-8"
    )
    return LocalRepository(directory.resolve())


def _control(deb: Path) -> str:
    try:
        done = subprocess.run(
            ["dpkg-deb", "--field", str(deb)], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise InfrastructureError("dpkg-deb: command not found: install dpkg") from error
    if done.returncode:
        raise UsageError(f"{deb}: is not a Debian package")
    return done.stdout.rstrip("\n")


DEBIAN = "debian"
WHEELS = "wheels"


@dataclass(frozen=True)
class Packages:
    """Packages in a directory: ``debian/*.deb`` and ``wheels/*.whl``."""

    path: Path
    scratch: Path
    """Directory for index files, which goes with the packages' use."""

    @property
    def debs(self) -> list[Path]:
        """The Debian packages."""
        return sorted((self.path / DEBIAN).glob("*.deb"))

    @property
    def wheels(self) -> list[Path]:
        """The wheels."""
        return sorted((self.path / WHEELS).glob("*.whl"))

    def repository(self, recipe: BaseRecipe) -> LocalRepository:
        """Return the Debian packages as a source for apt.

        Raises:
            UsageError: if there are none, or one is not one.
        """
        made = self.scratch / DEBIAN
        if made.exists():
            return LocalRepository(made)
        return make_repository(self.debs, made, recipe.suite, recipe.architecture)

    def context(self, recipe: BaseRecipe) -> dict[str, bytes]:
        """Return what a build is given of them: path to content."""
        repository = self.repository(recipe).path
        found = {
            f"{DEBIAN}/{path.relative_to(repository).as_posix()}": path.read_bytes()
            for path in repository.rglob("*")
            if path.is_file()
        }
        return found | {f"{WHEELS}/{path.name}": path.read_bytes() for path in self.wheels}


@contextmanager
def packages_in(path: Path | None) -> Iterator[Packages | None]:
    """Provide the packages in a directory; None for none.

    Raises:
        UsageError: if there are no packages in it.
    """
    if path is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="harness-packages-") as scratch:
        # apt reads the packages as a user of its own.
        Path(scratch).chmod(0o755)
        packages = Packages(path.resolve(), Path(scratch))
        if not packages.debs or not packages.wheels:
            raise UsageError(
                f"--packages {path}: has no {DEBIAN}/*.deb or no {WHEELS}/*.whl; `harness images"
                " fetch DIR` makes such a directory, and so does a bundle packed with --packages"
            )
        yield packages
