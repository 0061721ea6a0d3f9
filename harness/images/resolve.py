"""From ``--stack`` words to a variant: all that images get is resolved and locked, once."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from harness.core.errors import UsageError
from harness.core.files import write_whole
from harness.images import recipe
from harness.images.variant import ENTRY, WHEELS, Variant, kept, kept_words, normal, versions
from harness.images.words import Say, Source, keep, requirements_of, source, uv, uv_failure

# Another one resolves anew.
_FORMAT = "2"
_RESOLVE_TIMEOUT_S = 300
_SCREENS = frozenset(
    {
        "linkify-it-py",
        "markdown-it-py",
        "mdit-py-plugins",
        "mdurl",
        "platformdirs",
        "pygments",
        "textual",
        "uc-micro-py",
    }
)
_PLATFORMS = {"x86_64": "x86_64-manylinux_2_36", "aarch64": "aarch64-manylinux_2_36"}
# As uv writes a package that it was given as a file.
_FILE_ENTRY = re.compile(r"(?P<name>[A-Za-z0-9._-]+) @ ")
HOST_EXTRAS = frozenset({"bench", "report", "reproduce", "stacks", "history", "dev"})
"""Extras of this package of which nothing is in images."""


def resolve(words: Sequence[str], python: str | None, stacks: Sequence[str], say: Say) -> Variant:
    """Find what ``--stack`` and ``--python`` ask for, and lock it.

    All that was not asked for stays at the version that an image's own lock has, as far as that
    fits. What was resolved once is taken from the cache.

    Args:
        words: requirements, wheels, checkouts (``NAME @ DIR`` or ``DIR``) and ``git+URL@REF``,
            files of these (``requirements.txt``), or names of kept variants.
        python: such as ``3.11``; None for the base's own.
        stacks: images that may be concerned, the executor's first.
        say: told, one line each, what is being done.

    Raises:
        UsageError: one line that names the requirement that cannot be had, or built, or that this
            package does not run with.
        InfrastructureError: if an index does not answer, or another program fails.
    """
    root = recipe.repository_root()
    known = recipe.pythons(root)
    if python is not None and python not in known:
        raise UsageError(f"--python {python}: images can have {', '.join(sorted(known))}")
    own, *_ = known
    if python not in (None, own) and "BASE_IMAGE" in os.environ:
        raise UsageError(f"--python {python}: BASE_IMAGE has one of its own; leave out either")
    if len(words) == 1 and python in (None, own):
        there = kept(root, words[0], own)
        if there is not None and stacks[0] not in there.locks:
            raise UsageError(
                f"--stack {words[0]}: has no image {stacks[0]}, only {', '.join(there.locks)}"
            )
        if there is not None:
            return replace(there, locks={s: t for s, t in there.locks.items() if s in stacks})
    files = {word: requirements_of(word) for word in words if word.endswith(".txt")}
    spelled = {word: files.get(word) or kept_words(root, word) for word in words}
    named = {word: [source(each, say) for each in spelled[word]] for word in words}
    sources = [each for word in words for each in named[word]]
    names = [each.name for each in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"--stack: {twice} is named twice; name it once")
    if _project(root)["name"] in names:
        raise UsageError("--stack: images have this checkout's harness; leave it out")
    is_kept = {word: word not in files and spelled[word] != [word] for word in words}
    public = {word: [word] if is_kept[word] else [n.word for n in named[word]] for word in words}
    given = {word: Path(word).name if word in files else public[word][0] for word in words}
    asked = tuple(each for word in words for each in public[word])
    variant = _Locks(root, asked, given, python or own, say).of(stacks, sources)
    _check_floors(root, variant)
    return variant


# --- what images get --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Locks:
    """Resolves the images of a variant, or takes what was resolved before."""

    root: Path
    words: tuple[str, ...]
    given: Mapping[str, str]
    python: str
    say: Say

    def of(self, stacks: Sequence[str], sources: Sequence[Source]) -> Variant:
        own = {stack: self._file(stack, "lock").read_bytes() for stack in stacks}
        # Another Python is for the executor's image, and so is what no image has, such as a codec.
        other = self.python != next(iter(recipe.pythons(self.root)))
        wanted: dict[str, list[Source]] = {stacks[0]: []} if other else {}
        for each in sources:
            having = [stack for stack in stacks if each.name in versions(own[stack])]
            for stack in having or stacks[:1]:
                wanted.setdefault(stack, []).append(each)
        cache = recipe.cache_directory() / "stacks" / "locks"
        directory = cache / self._key(wanted)
        wheels = directory / WHEELS
        wheels.mkdir(parents=True, exist_ok=True)
        locks = {}
        for stack, asked in wanted.items():
            path = directory / f"{stack}.lock"
            if not path.exists():
                self.say(f"stack: resolving {stack}: {self._asked}")
                write_whole(path, self._resolved(stack, asked))
            locks[stack] = path.read_bytes()
        for each in sources:
            if each.path is not None:
                keep(each.path, wheels)
        built = tuple(each.wheel for each in sources if each.wheel is not None)
        return Variant(self.words, self.python, locks, built, directory, given=self.given)

    @property
    def _asked(self) -> str:
        return " ".join(self.words) or f"(Python {self.python})"

    def _file(self, stack: str, kind: str) -> Path:
        return self.root / "images" / stack / f"requirements.{kind}"

    def _key(self, wanted: Mapping[str, Sequence[Source]]) -> str:
        parts = [_FORMAT, self.python, platform.machine()]
        for stack, sources in sorted(wanted.items()):
            parts += [
                stack,
                *(self._file(stack, kind).read_text("utf-8") for kind in ("in", "lock")),
            ]
            parts += [f"{each.requirement} {each.wheel and each.wheel.sha256}" for each in sources]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def _resolved(self, stack: str, sources: Sequence[Source]) -> str:
        asked = {each.name for each in sources}
        lines = [each.line for each in sources]
        for line in self._file(stack, "in").read_text("utf-8").splitlines():
            if text := line.partition("#")[0].strip():
                requirement = Requirement(text)
                if normal(requirement.name) in asked:
                    # Its extras are still needed.
                    requirement.specifier = SpecifierSet()
                lines.append(str(requirement))
        machine = platform.machine()
        with tempfile.TemporaryDirectory(prefix="resolve-") as scratch:
            given, lock = Path(scratch) / "requirements.in", Path(scratch) / "requirements.lock"
            given.write_text("\n".join(lines) + "\n", encoding="utf-8")
            # uv prefers the versions that the file has already: only what must change does.
            lock.write_bytes(self._file(stack, "lock").read_bytes())
            command = ["pip", "compile", "--quiet", "--no-annotate", "--no-header"]
            command += ["--generate-hashes", "--only-binary", ":all:", "--no-emit-index-url"]
            # Without a Python that runs, uv looks for one in all of the machine: for ten seconds.
            command += ["--python", sys.executable, "--python-version", self.python]
            command += ["--python-platform", _PLATFORMS.get(machine, machine)]
            # Of what is asked for by a range, or by its name alone, the newest is meant.
            command += [word for name in sorted(asked) for word in ("--upgrade-package", name)]
            # An image's lock leaves out what only memray's screens need; so do its variants'.
            own = versions(self._file(stack, "lock").read_bytes())
            left_out = sorted(_SCREENS - own.keys())
            command += [word for name in left_out for word in ("--no-emit-package", name)]
            command += ["--output-file", str(lock), str(given)]
            done = uv(command, _RESOLVE_TIMEOUT_S, {}, Path(scratch))
            if done.returncode:
                raise uv_failure(f"--stack {self._asked}: image {stack}", done.stderr)
            text = lock.read_text("utf-8")
        for each in sources:
            if each.wheel is not None:
                text = _with_own(text, each)
        return text


def _with_own(lock: str, own: Source) -> str:
    """Return a lock in which a package is a wheel of ours, by version and hash and not by path."""
    assert own.wheel is not None
    found, inside = [], False
    for line in lock.splitlines():
        if entry := ENTRY.match(line) or _FILE_ENTRY.match(line):
            inside = normal(entry["name"]) == own.name
            if inside:
                version = str(own.requirement.specifier)
                found.append(f"{own.name}{version} \\\n    --hash=sha256:{own.wheel.sha256}")
        if not inside:
            found.append(line)
    return "\n".join(found) + "\n"


def _project(root: Path) -> dict[str, Any]:
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    found: dict[str, Any] = tomllib.loads(text)["project"]
    return found


def supported(name: str) -> SpecifierSet:
    """Return the versions of a package that the harness runs with: all, if it does not say."""
    found = SpecifierSet()
    for requirement in _needs(recipe.repository_root()):
        if normal(requirement.name) == normal(name):
            found &= requirement.specifier
    return found


def _needs(root: Path) -> list[Requirement]:
    """Return what this package needs in images: its pyproject.toml says it."""
    project = _project(root)
    extras = project["optional-dependencies"]
    needs = [*project["dependencies"]]
    needs += [need for extra in extras if extra not in HOST_EXTRAS for need in extras[extra]]
    return [Requirement(need) for need in needs]


def _check_floors(root: Path, variant: Variant) -> None:
    """Refuse what this package is known not to run with."""
    ours = {normal(wheel.name) for wheel in variant.wheels}
    for requirement in _needs(root):
        name = normal(requirement.name)
        for stack, lock in variant.locks.items():
            version = versions(lock).get(name)
            if version and not requirement.specifier.contains(version, prereleases=True):
                # What takes its version from tags has a low one in a clone without them.
                hint = "; if that commit is newer, fetch the tags of its repository"
                raise UsageError(
                    f"--stack: {requirement.name}=={version} (image {stack}): the harness runs with"
                    f" {requirement.name}{requirement.specifier}{hint if name in ours else ''}"
                )
