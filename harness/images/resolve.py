"""From ``--stack`` words to a variant: versions resolved, wheels built, all of it locked, once."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from uv import find_uv_bin

from harness.core.errors import InfrastructureError, UsageError
from harness.core.files import write_whole
from harness.core.text import one_line
from harness.images import recipe
from harness.images.variant import (
    ENTRY,
    WHEELS,
    Variant,
    Wheel,
    kept,
    kept_words,
    normal,
    sha256_of,
    versions,
)

# Another one resolves anew.
_FORMAT = "1"
_GIT_TIMEOUT_S = 600
_PIP_TIMEOUT_S = 30
_RESOLVE_TIMEOUT_S = 300
_BUILD_TIMEOUT_S = 600
_PLATFORMS = {"x86_64": "x86_64-manylinux_2_36", "aarch64": "aarch64-manylinux_2_36"}

Say = Callable[[str], None]


def resolve(words: Sequence[str], python: str, stacks: Sequence[str], say: Say) -> Variant:
    """Find what ``--stack`` and ``--python`` ask for, and lock it.

    All that was not asked for stays at the version that an image's own lock has, as far as that
    fits. What was resolved once is taken from the cache.

    Args:
        words: requirements, wheels, checkouts (``NAME @ DIR`` or ``DIR``) and ``git+URL@REF``.
        python: such as ``3.11``; empty for the base's own.
        stacks: images that may be concerned, the executor's first.
        say: told, one line each, what is being done.

    Raises:
        UsageError: one line that names the requirement that cannot be had, or that this package
            does not run with.
        InfrastructureError: if a wheel cannot be built.
    """
    root = recipe.repository_root()
    known = recipe.pythons(root)
    if python and python not in known:
        raise UsageError(f"--python {python}: images can have {', '.join(sorted(known))}")
    own, *_ = known
    if len(words) == 1 and python in ("", own):
        there = kept(root, words[0], own)
        if there is not None and stacks[0] not in there.locks:
            raise UsageError(
                f"--stack {words[0]}: has no image {stacks[0]}, only {', '.join(there.locks)}"
            )
        if there is not None:
            return there
    spelled = [each for word in words for each in kept_words(root, word)]
    with tempfile.TemporaryDirectory(prefix="stack-") as scratch:
        sources = [_source(word, Path(scratch), say) for word in spelled]
    names = [source.name for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"--stack: {twice} is named twice; name it once")
    variant = _Locks(root, tuple(words), python or own, say).of(stacks, sources)
    _check_floors(root, variant)
    return variant


# --- what a word names ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """One word of ``--stack``, as a requirement; with the wheel that fulfils it, if it is ours."""

    requirement: Requirement
    wheel: Wheel | None = None
    path: Path | None = None

    @property
    def name(self) -> str:
        return normal(self.requirement.name)


def _source(word: str, scratch: Path, say: Say) -> _Source:
    name, at, place = (part.strip() for part in word.partition("@"))
    if word.endswith(".whl"):
        if not Path(word).is_file():
            raise UsageError(f"--stack {word}: there is no such wheel")
        return _of_wheel(Path(word), word)
    if word.startswith("git+"):
        return _Project(word, "", say).at_url(word, scratch)
    if at and place.startswith("git+"):
        return _Project(word, name, say).at_url(place, scratch)
    if at and "://" not in place:
        return _Project(word, name, say).in_folder(Path(place))
    if not at and ("/" in word or word.startswith(".")):
        return _Project(word, "", say).in_folder(Path(word))
    try:
        return _Source(Requirement(word))
    except InvalidRequirement:
        raise UsageError(
            f"--stack {word!r}: is no requirement: write NAME==VERSION, a wheel, 'NAME @ DIR' or"
            " git+URL@REF"
        ) from None


def _of_wheel(path: Path, word: str, commit: str = "", dirty: bool = False) -> _Source:
    try:
        name, version, _, _ = parse_wheel_filename(path.name)
    except InvalidWheelFilename:
        raise UsageError(f"--stack {word}: {path.name} is not the name of a wheel") from None
    wheel = Wheel(path.name, sha256_of(path), word, commit, dirty)
    return _Source(Requirement(f"{name}=={version}"), wheel, path)


@dataclass(frozen=True)
class _Project:
    """A project that a wheel is built of.

    Args:
        word: what ``--stack`` says.
        name: what it must be called; empty if that was not said.
        say: told what is being built.
    """

    word: str
    name: str
    say: Say

    def in_folder(self, path: Path) -> _Source:
        """Return the wheel of a checkout: its commit, and what was changed since."""
        if not path.is_dir():
            raise self._wrong(f"{path} is no directory")
        if not any((path / file).is_file() for file in ("pyproject.toml", "setup.py")):
            raise self._wrong(f"{path} has no pyproject.toml: it is no Python project")
        if _run(["git", "-C", str(path), "rev-parse", "HEAD"]).returncode:
            raise self._wrong(f"{path} is no git checkout; build a wheel and name that")
        commit = _git(path, "rev-parse", "HEAD").strip()
        changes = _git(path, "diff", "--binary", "HEAD")
        listed = _git(path, "ls-files", "--others", "--exclude-standard", "-z")
        new = sorted(filter(None, listed.split("\0")))
        with tempfile.TemporaryDirectory(prefix="checkout-") as scratch:
            # In a copy: a build may write into its source.
            copy = Path(scratch) / "source"
            self._clone(str(path.resolve()), copy)
            self._check_out(copy, commit)
            if changes:
                _git(copy, "apply", "--binary", "--whitespace=nowarn", "-", given=changes)
            digest = hashlib.sha256(changes.encode("utf-8", "surrogateescape"))
            for file in new:
                target = copy / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path / file, target)
                digest.update(file.encode("utf-8", "surrogateescape") + target.read_bytes())
            changed = digest.hexdigest()[:12] if changes or new else ""
            return self._built(copy, commit, changed)

    def at_url(self, url: str, scratch: Path) -> _Source:
        """Return the wheel of ``git+URL[@REF][#egg=NAME]``; REF is the newest commit by default."""
        address, _, _ = url.removeprefix("git+").partition("#")
        scheme, _, rest = address.partition("://")
        head, at, ref = rest.rpartition("@")
        # user@host has no path before it.
        place, ref = (head, ref) if at and "/" in head else (rest, "HEAD")
        copy = scratch / f"git-{len(list(scratch.iterdir()))}"
        source = f"{scheme}://{place}"
        self._clone(unquote(urlsplit(source).path) if scheme == "file" else source, copy)
        return self._built(copy, self._check_out(copy, ref))

    def _wrong(self, why: str) -> UsageError:
        return UsageError(f"--stack {self.word!r}: {why}")

    def _clone(self, place: str, copy: Path) -> None:
        done = _run(["git", "clone", "--quiet", "--no-checkout", place, str(copy)])
        if done.returncode:
            raise self._wrong(f"git cannot clone {place}: {_last(done.stderr)}")

    def _check_out(self, copy: Path, ref: str) -> str:
        for name in (ref, f"origin/{ref}"):
            command = ["git", "-C", str(copy), "checkout", "--quiet", "--detach", name]
            if not _run(command).returncode:
                return _git(copy, "rev-parse", "HEAD").strip()
        raise self._wrong(f"the repository has no commit, tag or branch {ref}")

    def _built(self, source: Path, commit: str, changed: str = "") -> _Source:
        folder = recipe.cache_directory() / "stacks" / WHEELS / f"{commit}{changed}"
        if not list(folder.glob("*.whl")):
            with_changes = " with changes" if changed else ""
            self.say(f"stack: building a wheel of {self.word} at {commit[:10]}{with_changes}")
            self._build(source, commit, folder)
        found = _of_wheel(next(folder.glob("*.whl")), self.word, commit, bool(changed))
        if self.name and normal(self.name) != found.name:
            raise self._wrong(f"that project is called {found.name}")
        return found

    def _build(self, source: Path, commit: str, folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="wheel-") as scratch:
            # With the commit's time in it, a wheel does not depend on when it was built.
            time = _git(source, "show", "--no-patch", "--format=%ct", commit).strip()
            command = ["build", "--wheel", "--quiet", "--out-dir", scratch, str(source)]
            done = _uv(command, _BUILD_TIMEOUT_S, {"SOURCE_DATE_EPOCH": time})
            made = list(Path(scratch).glob("*.whl"))
            if done.returncode or len(made) != 1:
                why = _said(done.stderr) or "no wheel came of it"
                raise InfrastructureError(f"--stack {self.word!r}: cannot be built: {why}")
            folder.mkdir(parents=True, exist_ok=True)
            draft = folder / f"{made[0].name}.{os.getpid()}"
            shutil.copyfile(made[0], draft)
            draft.replace(folder / made[0].name)


# --- what images get --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Locks:
    """Resolves the images of a variant, or takes what was resolved before."""

    root: Path
    words: tuple[str, ...]
    python: str
    say: Say

    def of(self, stacks: Sequence[str], sources: Sequence[_Source]) -> Variant:
        own = {stack: self._file(stack, "lock").read_bytes() for stack in stacks}
        # Another Python is for the executor's image, and so is what no image has, such as a codec.
        wanted: dict[str, list[_Source]] = {stacks[0]: []}
        for source in sources:
            having = [stack for stack in stacks if source.name in versions(own[stack])]
            for stack in having or stacks[:1]:
                wanted.setdefault(stack, []).append(source)
        cache = recipe.cache_directory() / "stacks" / "locks"
        directory = cache / self._key(wanted)
        wheels = directory / WHEELS
        wheels.mkdir(parents=True, exist_ok=True)
        for source in sources:
            if source.wheel is not None and source.path is not None:
                shutil.copyfile(source.path, wheels / source.wheel.file)
        locks = {}
        for stack, asked in wanted.items():
            path = directory / f"{stack}.lock"
            if not path.exists():
                self.say(f"stack: resolving {stack}: {' '.join(self.words)}")
                write_whole(path, self._resolved(stack, asked, wheels))
            locks[stack] = path.read_bytes()
        built = tuple(source.wheel for source in sources if source.wheel is not None)
        return Variant(self.words, self.python, locks, built, directory)

    def _file(self, stack: str, kind: str) -> Path:
        return self.root / "images" / stack / f"requirements.{kind}"

    def _key(self, wanted: Mapping[str, Sequence[_Source]]) -> str:
        parts = [_FORMAT, self.python, platform.machine(), *self.words]
        for stack, sources in sorted(wanted.items()):
            parts += [
                stack,
                *(self._file(stack, kind).read_text("utf-8") for kind in ("in", "lock")),
            ]
            parts += [
                f"{source.requirement} {source.wheel and source.wheel.sha256}" for source in sources
            ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def _resolved(self, stack: str, sources: Sequence[_Source], wheels: Path) -> str:
        asked = {source.name for source in sources}
        lines = [str(source.requirement) for source in sources]
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
            command += ["--no-emit-find-links", "--find-links", str(wheels)]
            command += ["--python-version", self.python]
            command += ["--python-platform", _PLATFORMS.get(machine, machine)]
            command += ["--output-file", str(lock), str(given)]
            done = _uv(command, _RESOLVE_TIMEOUT_S, {})
            if done.returncode:
                words = " ".join(self.words) or f"(Python {self.python})"
                raise UsageError(f"--stack {words}: image {stack}: {_said(done.stderr)}")
            text = lock.read_text("utf-8")
        for source in sources:
            if source.wheel is not None:
                text = _with_hash(text, source.name, source.wheel.sha256)
        return text


def _with_hash(lock: str, name: str, sha256: str) -> str:
    """Return a lock in which a package has one hash: an index may have another of that version."""
    found, inside = [], False
    for line in lock.splitlines():
        if entry := ENTRY.match(line):
            inside = normal(entry["name"]) == name
            if inside:
                found.append(f"{entry[0]} \\\n    --hash=sha256:{sha256}")
        if not inside:
            found.append(line)
    return "\n".join(found) + "\n"


def supported(name: str) -> SpecifierSet:
    """Return the versions of a package that the harness runs with: all, if it does not say."""
    found = SpecifierSet()
    for requirement in _needs(recipe.repository_root()):
        if normal(requirement.name) == normal(name):
            found &= requirement.specifier
    return found


def _needs(root: Path) -> list[Requirement]:
    """Return what this package needs where it runs: its pyproject.toml says it."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needs = [*project["dependencies"], *(need for e in extras if e != "dev" for need in extras[e])]
    return [Requirement(need) for need in needs]


def _check_floors(root: Path, variant: Variant) -> None:
    """Refuse what this package is known not to run with."""
    for requirement in _needs(root):
        for stack, lock in variant.locks.items():
            version = versions(lock).get(normal(requirement.name))
            if version and not requirement.specifier.contains(version, prereleases=True):
                raise UsageError(
                    f"--stack: {requirement.name}=={version} (image {stack}): the harness runs with"
                    f" {requirement.name}{requirement.specifier}"
                )


# --- what pip is told -------------------------------------------------------------------------


def index_url() -> str:
    """Return the index that pip or uv is told to use; empty where that is the default one.

    The environment comes first (PIP_INDEX_URL, then uv's), then pip's configuration files.
    """
    names = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
    said = next((os.environ[name] for name in names if os.environ.get(name)), "")
    return said or _pip_says().get("global.index-url", "")


def authorities() -> str:
    """Return the file of certificates that pip is told to trust; empty for the default one."""
    said = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    return said or _pip_says().get("global.cert", "")


@cache
def _pip_says() -> Mapping[str, str]:
    """Return pip's configuration; empty where there is no pip."""
    try:
        done = _run([sys.executable, "-m", "pip", "config", "list"], _PIP_TIMEOUT_S)
    except InfrastructureError:
        return {}
    found = {}
    for line in done.stdout.splitlines() if not done.returncode else ():
        key, equals, value = line.partition("=")
        try:
            found[key] = str(ast.literal_eval(value)) if equals else ""
        except (ValueError, SyntaxError):
            continue
    return found


# --- other programs ---------------------------------------------------------------------------


def _uv(
    arguments: Sequence[str], timeout_s: float, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    index = index_url()
    more = {"UV_DEFAULT_INDEX": index} if index else {}
    return _run([find_uv_bin(), *arguments], timeout_s, {**os.environ, **more, **environment})


def _git(place: Path, *arguments: str, given: str = "") -> str:
    done = _run(["git", "-C", str(place), *arguments], given=given)
    if done.returncode:
        raise InfrastructureError(f"git {arguments[0]} in {place}: {_last(done.stderr)}")
    return done.stdout


def _run(
    command: Sequence[str],
    timeout_s: float = _GIT_TIMEOUT_S,
    environment: Mapping[str, str] | None = None,
    given: str = "",
) -> subprocess.CompletedProcess[str]:
    program = Path(command[0]).name
    try:
        return subprocess.run(
            command,
            env=environment,
            input=given,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
            timeout=timeout_s,
        )
    except FileNotFoundError:
        raise InfrastructureError(f"--stack: needs {program}: install it") from None
    except subprocess.TimeoutExpired:
        raise InfrastructureError(f"--stack: {program} took longer than {timeout_s:g} s") from None


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return one_line(lines[-1])[:300] if lines else "it said nothing"


def _said(text: str) -> str:
    """Return what uv says, which is several lines with a drawing, as one."""
    words = " ".join(one_line(text).split())
    _, because, reason = words.partition("Because ")
    return f"{because}{reason}"[:600] if because else words.removeprefix("error: ")[:600]
