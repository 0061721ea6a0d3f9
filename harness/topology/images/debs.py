"""A folder of Debian packages as a package source, where a mirror has moved on."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import InfrastructureError, UsageError


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
    (directory / "dists" / suite / "Release").write_text("\n".join(release) + "\n")
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
