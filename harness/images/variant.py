"""A variant of the images: other releases, wheels or commits of their packages, locked.

It replaces the lock of every image that has one of those packages. How one is found from
``--stack`` words is in ``resolve``, which needs more packages than what is here.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.core.errors import UsageError
from harness.core.files import write_whole
from harness.core.text import one_line

DIRECTORY = "variant"
"""Where a run directory has its variant."""

WHEELS = "wheels"
"""Folder beside the locks."""

ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)", re.MULTILINE)
"""First line of a package in a lock."""

_FILE = "variant.json"
_WHEEL = re.compile(
    r"(?P<name>[A-Za-z0-9_.]+)-(?P<version>[A-Za-z0-9_.+!]+)(-[A-Za-z0-9_.]+){3,4}\.whl"
)
# A lock is pip's, which takes other indexes and files from it, too.
_LINE = re.compile(
    r"|#.*| +--hash=sha256:[0-9a-f]{64}( \\)?"
    r"|[A-Za-z0-9._-]+==[A-Za-z0-9._+!]+( *;[ A-Za-z0-9._'\"<>=!()]+)? *\\"
)
_STACK = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True)
class Wheel:
    """A wheel that no index has.

    Attributes:
        file: its name.
        sha256: of its bytes, hexadecimal.
        origin: what ``--stack`` named.
        commit: what it was built from, empty for a wheel that was given.
        dirty: whether the checkout had changes beside that commit.
    """

    file: str
    sha256: str
    origin: str
    commit: str = ""
    dirty: bool = False

    def __str__(self) -> str:
        """Return it for people: ``distributed==2025.4.0+1.g3f17 (3f17ddbab2)``."""
        found = _WHEEL.fullmatch(self.file)
        name = f"{found['name']}=={found['version']}" if found else self.file
        changed = ", with changes" if self.dirty else ""
        return f"{name} ({self.commit[:10]}{changed})" if self.commit else name


@dataclass(frozen=True)
class Variant:
    """What replaces the locks of some images.

    Attributes:
        words: what was asked for.
        python: the Python that images get, such as ``3.11``.
        locks: image stack -> its ``requirements.lock``.
        wheels: those in it that no index has.
        directory: where the wheels are.
    """

    words: tuple[str, ...]
    python: str
    locks: Mapping[str, bytes]
    wheels: tuple[Wheel, ...]
    directory: Path

    def __str__(self) -> str:
        """Return it for people, each word with the commit that it came to."""
        built = {wheel.origin: str(wheel) for wheel in self.wheels}
        words = [built.get(word, word) for word in self.words]
        return ", ".join([*words, f"Python {self.python}"])

    def wheel_files(self) -> dict[str, bytes]:
        """Return name -> content of the wheels."""
        return {wheel.file: self._wheel(wheel).read_bytes() for wheel in self.wheels}

    def _wheel(self, wheel: Wheel) -> Path:
        return self.directory / WHEELS / wheel.file

    def save(self, directory: Path) -> None:
        """Write it into a run directory, from which :func:`saved` reads it."""
        target = directory / DIRECTORY
        target.mkdir(exist_ok=True)
        for wheel in self.wheels:
            copy = target / WHEELS / wheel.file
            copy.parent.mkdir(exist_ok=True)
            # A bench that is resumed has it from there.
            if copy.resolve() != self._wheel(wheel).resolve():
                shutil.copyfile(self._wheel(wheel), copy)
        for stack, lock in self.locks.items():
            write_whole(target / f"{stack}.lock", lock.decode())
        write_whole(target / _FILE, json.dumps(self.facts(), indent=2) + "\n")

    def facts(self) -> dict[str, object]:
        """Return it as the manifest and ``variant.json`` have it."""
        return {
            "words": list(self.words),
            "python": self.python,
            "images": sorted(self.locks),
            "wheels": [asdict(wheel) for wheel in self.wheels],
        }


def saved(directory: Path) -> Variant | None:
    """Return the variant that a run directory was made with, None if there is none.

    Raises:
        UsageError: if its files are not what they say they are.
    """
    folder = directory / DIRECTORY
    if not (folder / _FILE).is_file():
        return None
    try:
        facts = json.loads((folder / _FILE).read_bytes())
        wheels = tuple(Wheel(**wheel) for wheel in facts["wheels"])
        # Names come from a file that may be a stranger's.
        strange = [w.file for w in wheels if not _WHEEL.fullmatch(w.file)]
        strange += [stack for stack in facts["images"] if not _STACK.fullmatch(stack)]
        if strange:
            raise ValueError(f"{strange[0]!r} is no name of a wheel or an image")
        for wheel in wheels:
            if sha256_of(folder / WHEELS / wheel.file) != wheel.sha256:
                raise ValueError(f"{wheel.file} is not the wheel that it was")
        locks = {stack: (folder / f"{stack}.lock").read_bytes() for stack in facts["images"]}
        for stack, lock in locks.items():
            odd = next(
                (line for line in lock.decode().splitlines() if not _LINE.fullmatch(line)), ""
            )
            if odd:
                raise ValueError(f"{stack}.lock: {odd[:80]!r} is no version or hash")
        return Variant(tuple(facts["words"]), str(facts["python"]), locks, wheels, folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder}: is no variant of images: {one_line(str(error))}") from None


def kept(root: Path, name: str, python: str) -> Variant | None:
    """Return a variant that ``images/stacks/`` has with its locks, None if there is none.

    Args:
        root: the checkout.
        name: of its folder.
        python: what its images get.
    """
    folder = root / "images" / "stacks" / name
    if not _STACK.fullmatch(name) or not folder.is_dir():
        return None
    locks = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.lock"))}
    return Variant((name,), python, locks, (), folder)


def kept_words(root: Path, word: str) -> list[str]:
    """Return what a word stands for if it names a variant in ``images/stacks/``, else itself."""
    path = root / "images" / "stacks" / word / "words.txt"
    if not _STACK.fullmatch(word) or not path.is_file():
        return [word]
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line]


def versions(lock: bytes) -> dict[str, str]:
    """Return package -> version of a lock, names normalised."""
    return {normal(entry["name"]): entry["version"] for entry in ENTRY.finditer(lock.decode())}


def normal(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def sha256_of(path: Path) -> str:
    """Return the hash of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
