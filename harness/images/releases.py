"""The releases of a package that the index has, and which of them a history is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import requests
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version
from pypi_simple import (
    PYPI_SIMPLE_ENDPOINT,
    DistributionPackage,
    NoSuchProjectError,
    PyPISimple,
    UnsupportedContentTypeError,
    UnsupportedRepoVersionError,
)

from harness.core.errors import InfrastructureError, UsageError
from harness.core.text import one_line
from harness.images.words import authorities, index_url

LATEST = "latest"
_TIMEOUT_S = 60


class Every(StrEnum):
    """Which releases of a range are taken."""

    MINOR = "minor"
    """The newest patch release of each minor version."""
    RELEASE = "release"


@dataclass(frozen=True)
class Chosen:
    """What a range comes to.

    Attributes:
        versions: those to measure, from the oldest.
        left_out: those in the range that the harness does not run with, from the oldest.
    """

    versions: tuple[Version, ...]
    left_out: tuple[Version, ...]


def released(name: str) -> list[Version]:
    """Return the releases of a package, from the oldest: no pre-releases, and no yanked ones.

    Raises:
        UsageError: if the index has no such package.
        InfrastructureError: if it does not answer, or with something else.
    """
    try:
        with requests.Session() as session:
            bundle = authorities()
            if bundle:
                session.verify = bundle
            with PyPISimple(index_url() or PYPI_SIMPLE_ENDPOINT, session=session) as index:
                files = index.get_project_page(name, timeout=_TIMEOUT_S).packages
    except NoSuchProjectError:
        raise UsageError(f"--stack {name}: the package index has no such package") from None
    except (UnsupportedContentTypeError, UnsupportedRepoVersionError, ValueError) as error:
        # What is no URL is a ValueError of requests', too.
        raise InfrastructureError(
            f"--stack {name}: the package index gives no list of releases: {_brief(error)}"
        ) from None
    except (requests.RequestException, OSError) as error:
        raise InfrastructureError(
            f"--stack {name}: the package index does not answer: {_brief(error)}; PIP_INDEX_URL"
            " names another"
        ) from None
    return _releases(files)


def _brief(error: Exception) -> str:
    return one_line(str(error))[:300] or type(error).__name__


def _releases(files: Iterable[DistributionPackage]) -> list[Version]:
    found = set()
    for file in files:
        try:
            version = Version(file.version or "")
        except InvalidVersion:
            continue
        # A release is yanked file by file: one that is left can be had.
        if not file.is_yanked and not version.is_prerelease:
            found.add(version)
    return sorted(found)


def choose(
    name: str,
    found: Sequence[Version],
    ends: tuple[str, str],
    every: Every,
    supported: SpecifierSet,
) -> Chosen:
    """Return the releases between two, both included.

    Args:
        name: of the package.
        found: its releases, from the oldest.
        ends: the oldest, such as ``2024.3``, and the newest: ``2024.3`` is the newest patch release
            of that, too; or ``latest``.
        every: which of them.
        supported: what the harness runs with.

    Raises:
        UsageError: one line that names the flag: not a version, an empty range.
    """
    first, last = ends
    low, high = _parsed("--from", first), None if last == LATEST else _parsed("--to", last)
    if high is not None and high < low and not _within(low, high):
        raise UsageError(f"--from {first}: is newer than --to {last}: swap them")
    inside = [
        version
        for version in found
        if version >= low and (high is None or version <= high or _within(version, high))
    ]
    has = f"it has {found[0]} to {found[-1]}" if found else "it has none at all"
    if not inside:
        raise UsageError(f"--from {first} --to {last}: no release of {name} in this range; {has}")
    runs = [version for version in inside if supported.contains(version)]
    if not runs:
        raise UsageError(
            f"--from {first} --to {last}: the harness runs with {name}{supported} and with no"
            f" release in this range; {has}"
        )
    return Chosen(
        tuple(_newest_patches(runs) if every is Every.MINOR else runs),
        tuple(version for version in inside if version not in runs),
    )


def _parsed(flag: str, text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        also = f" or {LATEST}" if flag == "--to" else ""
        raise UsageError(f"{flag} {text}: is no version: write one such as 2024.3{also}") from None


def _within(version: Version, prefix: Version) -> bool:
    """Return whether a version is a patch release of another, as 2024.3.1 is of 2024.3."""
    return (
        version.epoch == prefix.epoch
        and version.release[: len(prefix.release)] == prefix.release
        and prefix.post is None
    )


def _newest_patches(versions: Sequence[Version]) -> list[Version]:
    newest = {(version.epoch, version.major, version.minor): version for version in versions}
    return sorted(newest.values())
