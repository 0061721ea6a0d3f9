"""Building from packages that are at hand, without a mirror or an index."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import UsageError
from harness.topology.images.debs import LocalRepository, make_repository
from harness.topology.images.recipe import BaseRecipe

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
