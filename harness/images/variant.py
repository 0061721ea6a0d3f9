"""A variant of the images: other releases, wheels or commits of their packages, locked.

It replaces the lock of every image that has one of those packages. How one is found from
``--stack`` words is in ``resolve``, which needs more packages than what is here.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.core.errors import UsageError, missing_package
from harness.core.files import write_whole
from harness.core.text import one_line

DIRECTORY = "variant"
"""Where a run directory has its variant."""

WHEELS = "wheels"
"""Folder beside the locks."""

ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)", re.MULTILINE)
"""First line of a package in a lock."""

# Words of this process's command line, of all variants that it asks for.
_given: dict[str, str] = {}
_FILE = "variant.json"
_WHEEL = re.compile(
    r"(?P<name>[A-Za-z0-9_.]+)-(?P<version>[A-Za-z0-9_.+!]+)(-[A-Za-z0-9_.]+){3,4}\.whl"
)
# A lock is pip's, which takes other indexes, files and even another encoding from it, the last
# from a comment.
_LINE = re.compile(
    r"| +--hash=sha256:[0-9a-f]{64}( \\)?"
    r"|[A-Za-z0-9._-]+==[A-Za-z0-9._+!]+( *;[ A-Za-z0-9._'\"<>=!()]+)? *\\"
)
_LONGEST_NAME = 200
_MOST_BYTES = 1 << 20
_MOST_WHEEL_BYTES = 1 << 31
_STACK = re.compile(r"[a-z0-9_]{1,60}")


@dataclass(frozen=True)
class Wheel:
    """A wheel that no index has.

    Attributes:
        file: its name.
        sha256: of its bytes, hexadecimal.
        origin: what ``--stack`` named, as :attr:`Variant.words` has it.
        commit: what it was built from, empty for a wheel that was given.
        dirty: whether the checkout had changes beside that commit.
    """

    file: str
    sha256: str
    origin: str
    commit: str = ""
    dirty: bool = False

    @property
    def name(self) -> str:
        """The package's name, as the file has it."""
        return self.file.partition("-")[0]

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
        words: what was asked for, as others may read it: a wheel by its file's name, a checkout as
            ``NAME @ COMMIT``.
        python: the Python that images get, such as ``3.11``.
        locks: image stack -> its ``requirements.lock``.
        wheels: those in it that no index has.
        directory: where the wheels are.
        given: word as it was given -> the one in ``words``; in no file.
    """

    words: tuple[str, ...]
    python: str
    locks: Mapping[str, bytes]
    wheels: tuple[Wheel, ...]
    directory: Path
    given: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        """Return it for people, each word with the commit that it came to."""
        built = {wheel.origin: str(wheel) for wheel in self.wheels}
        words = [built.get(word, word) for word in self.words]
        return one_line(", ".join([*words, f"Python {self.python}"]))

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
            # A bench that goes on has it there already.
            if self._wheel(wheel).resolve() != copy.resolve():
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


class _Facts(BaseModel):
    """``variant.json``, which may be a stranger's."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    words: list[str]
    python: str
    images: list[str]
    wheels: list[Wheel]


def saved(directory: Path) -> Variant | None:
    """Return the variant that a run directory was made with, None if there is none.

    Raises:
        UsageError: if its files are not what they say they are.
    """
    folder = directory / DIRECTORY
    if not (folder / _FILE).exists():
        return None
    try:
        facts = _Facts.model_validate_json(_read(folder / _FILE))
        for stack in facts.images:
            if not _STACK.fullmatch(stack):
                raise ValueError(f"{stack[:80]!r} is no name of an image")
        for wheel in facts.wheels:
            _check_wheel(folder, wheel)
        locks = {stack: _checked_lock(folder / f"{stack}.lock") for stack in facts.images}
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _no_variant(folder, f"{_FILE}: {where} {first['msg']}".replace(":  ", ": ")) from None
    except OSError as error:
        raise _no_variant(folder, f"{Path(str(error.filename)).name}: {error.strerror}") from None
    except ValueError as error:
        raise _no_variant(folder, str(error)) from None
    return Variant(tuple(facts.words), facts.python, locks, tuple(facts.wheels), folder)


def _no_variant(folder: Path, why: str) -> UsageError:
    return UsageError(f"{folder}: is no variant of images: {one_line(why)[:200]}")


def _read(path: Path) -> bytes:
    if not _is_plain(path):
        raise ValueError(f"{path.name} is no plain file")
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"{path.name} has more than {_MOST_BYTES} bytes")
    return data


def _is_plain(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _check_wheel(folder: Path, wheel: Wheel) -> None:
    if not is_wheel_name(wheel.file):
        raise ValueError(f"{wheel.file[:80]!r} is no name of a wheel")
    path = folder / WHEELS / wheel.file
    if not _is_plain(path) or path.stat().st_size > _MOST_WHEEL_BYTES:
        raise ValueError(f"{wheel.file} is no plain file of at most {_MOST_WHEEL_BYTES} bytes")
    if sha256_of(path) != wheel.sha256:
        raise ValueError(f"{wheel.file} is not the wheel that it was")


def _checked_lock(path: Path) -> bytes:
    data = _read(path)
    lines = data.decode("ascii").splitlines()
    odd = next((line for line in lines if not _LINE.fullmatch(line)), None)
    if odd is not None:
        raise ValueError(f"{path.name}: {odd[:80]!r} is no version or hash")
    return data


def is_wheel_name(name: str) -> bool:
    """Say whether a file's name is that of a wheel, and nothing but a name."""
    return len(name) <= _LONGEST_NAME and _WHEEL.fullmatch(name) is not None


def find(
    words: Sequence[str], python: str | None, stacks: Sequence[str], say: Callable[[str], None]
) -> Variant:
    """Return what ``--stack`` and ``--python`` ask for, as ``resolve`` does.

    Raises:
        UsageError, InfrastructureError: as there; and without the packages that it needs.
    """
    # It needs packages that few benches do.
    try:
        from harness.images.resolve import resolve  # noqa: PLC0415
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("packaging", "uv"):
            raise
        raise missing_package("--stack", package, "stacks") from None
    found = resolve(words, python, stacks, say)
    _given.update(found.given)
    return found


def published(command: Sequence[str]) -> list[str]:
    """Return this process's command line with the words of all variants as others may read them.

    One of several sides has the words of the others in its command line, too.
    """

    def word(given: str) -> str:
        flag, equals, value = given.partition("=")
        if flag.startswith("--") and value in _given:
            return f"{flag}{equals}{_given[value]}"
        return _given.get(given, given)

    return [word(given) for given in command]


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


def kept_names(root: Path) -> list[str]:
    """Return the names of the variants in ``images/stacks/``."""
    folders = sorted((root / "images" / "stacks").glob("*/words.txt"))
    return [path.parent.name for path in folders if _STACK.fullmatch(path.parent.name)]


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
