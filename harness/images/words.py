"""What one ``--stack`` word names: a requirement, and the wheel that fulfils it if that is ours.

Wheels of checkouts and commits are built once. Which bits they are made of decides where they are
kept, so that a checkout with changes, too, is built when it changes, and only then.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from uv import find_uv_bin

from harness.core.errors import InfrastructureError, UsageError, missing_package
from harness.core.text import one_line
from harness.images import recipe
from harness.images.programs import git, last_line, plain, run
from harness.images.variant import WHEELS, Wheel, is_wheel_name, normal, sha256_of

_PIP_TIMEOUT_S = 30
_BUILD_TIMEOUT_S = 600
_NAMED = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[(?P<extras>[^\]]*)\])?\s*@\s*(?P<place>.+)",
    re.DOTALL,
)
_WAYS = "NAME==VERSION, a wheel, 'NAME @ DIR' or git+URL@REF"
_SCHEMES = ("file", "git", "http", "https", "ssh")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REF = re.compile(r"\w[\w./-]*")
_SHORT = 12
_NO_NETWORK = re.compile(r"failed to fetch|error sending request|request failed", re.IGNORECASE)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """What one word names.

    Attributes:
        requirement: what is to be resolved.
        word: the word as others may read it: without paths and logins of this machine.
        wheel: what fulfils the requirement, if no index has it.
        path: where that is.
    """

    requirement: Requirement
    word: str
    wheel: Wheel | None = None
    path: Path | None = None

    @property
    def name(self) -> str:
        """The package's name, normalised."""
        return normal(self.requirement.name)

    @property
    def line(self) -> str:
        """What a resolver is told. Of a wheel of ours an index may have another of that version."""
        if self.path is None:
            return str(self.requirement)
        name, extras = self.requirement.name, _extras(self.requirement.extras)
        return f"{name}{extras} @ {self.path.resolve().as_uri()}"


def source(word: str, say: Say) -> Source:
    """Find what a word names; build its wheel, if it has none yet.

    Args:
        word: a requirement, a wheel, a directory or ``git+URL@REF``; the last three may have
            ``NAME @`` before them.
        say: told what is being built.

    Raises:
        UsageError: one line that says why it names nothing.
        InfrastructureError: if git, an index or a disk fails.
    """
    place = word.strip()
    # A directory may have an @ in its name.
    found = None if _is_directory(_local(place)) else _NAMED.fullmatch(place)
    project = _Project(word, "", (), say)
    if found:
        extras = tuple(e.strip() for e in (found["extras"] or "").split(",") if e.strip())
        project = _Project(word, found["name"], extras, say)
        place = found["place"].strip()
    if place.startswith("file://"):
        place = unquote(urlsplit(place).path)
    if place.startswith("git+"):
        return project.at_url(place.removeprefix("git+"))
    if "://" in place:
        raise project.wrong("packages are not taken from a URL: download it and name the wheel")
    if place.endswith(".whl"):
        return project.of_file(_local(place))
    if found or "/" in place or place.startswith((".", "~")):
        return project.in_folder(_local(place))
    try:
        requirement = Requirement(place)
    except InvalidRequirement:
        raise project.wrong(f"is no requirement: write {_WAYS}") from None
    if requirement.marker is not None:
        raise project.wrong("has a condition, and there is one image: leave out what follows ';'")
    return Source(requirement, place)


def requirements_of(word: str) -> list[str]:
    """Return the words of a requirements file, one a line; comments and empty lines are none.

    Raises:
        UsageError: one line that names the file and what is wrong with it.
    """
    project = _Project(word, "", (), lambda _: None)
    try:
        lines = _local(word.strip()).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise project.wrong(f"{error.strerror}: name a file of requirements") from None
    except ValueError:
        raise project.wrong("is no text: name a file of requirements") from None
    found = []
    for number, line in enumerate(lines, 1):
        text = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
        if text.startswith("-") or text.endswith("\\"):
            raise project.wrong(
                f"line {number}, {one_line(text)[:80]!r}, is more than a requirement: write {_WAYS}"
            )
        found += [text] if text else []
    if not found:
        raise project.wrong("names no package: write one a line")
    return found


def _local(place: str) -> Path:
    # In 'NAME @ ~/DIR' no shell does.
    return Path(os.path.expanduser(place))  # noqa: PTH111  # it never raises


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # too long a name
        return False


def _extras(names: Sequence[str] | set[str]) -> str:
    return f"[{','.join(sorted(names))}]" if names else ""


@dataclass(frozen=True)
class _Project:
    """A word that names a wheel, or what one is built of.

    Args:
        word: what ``--stack`` says.
        name: what the project must be called; empty if that was not said.
        extras: those of its extras that are wanted, too.
        say: told what is being built.
    """

    word: str
    name: str
    extras: Sequence[str]
    say: Say

    def wrong(self, why: str) -> UsageError:
        return UsageError(f"--stack {one_line(self.word)!r}: {why}")

    # --- wheels ---

    def of_file(self, path: Path) -> Source:
        """Return a wheel that was given."""
        try:
            if not path.is_file():
                raise self.wrong("there is no such wheel")
        except OSError as error:
            raise self.wrong(f"{error.strerror}: name a wheel") from None
        return self._of_wheel(path, path.name)

    def _of_wheel(
        self, path: Path, origin: str = "", commit: str = "", changes: bool = False
    ) -> Source:
        try:
            name, version, _, _ = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            raise self._no_wheel_name(path) from None
        if not is_wheel_name(path.name):
            raise self._no_wheel_name(path)
        if not _has_metadata(path):
            raise self.wrong(f"{path.name} is damaged, or no wheel: build it again")
        if self.name and normal(self.name) != name:
            raise self.wrong(f"that project is called {name}: write {name} @ ...")
        try:
            requirement = Requirement(f"{name}{_extras(self.extras)}=={version}")
        except InvalidRequirement:
            raise self.wrong(f"{_extras(self.extras)} are no names of extras") from None
        if not origin:
            mark = "+changes" if changes else ""
            origin = f"{name}{_extras(self.extras)} @ {commit[:_SHORT]}{mark}"
        wheel = Wheel(path.name, sha256_of(path), origin, commit, changes)
        return Source(requirement, origin, wheel, path)

    def _no_wheel_name(self, path: Path) -> UsageError:
        return self.wrong(f"{path.name} is not the name of a wheel: leave it as it was built")

    # --- checkouts ---

    def in_folder(self, path: Path) -> Source:
        """Return the wheel of a checkout: its commit, and what was changed since."""
        if not _is_directory(path):
            raise self.wrong(f"{path} is no directory")
        if not _is_project(path):
            bare = (path / "HEAD").is_file() and (path / "objects").is_dir()
            hint = f"; of a bare repository write git+file://{path.resolve()}@REF" if bare else ""
            raise self.wrong(f"{path} has no pyproject.toml: it is no Python project{hint}")
        top = self._top(path)
        inside = path.resolve().relative_to(top).as_posix()
        head = git(top, "rev-parse", "--verify", "--quiet", "HEAD", fails=True).strip()
        if not head:
            raise self.wrong(f"{path} has no commit yet: make one")
        changes = git(top, "status", "--porcelain", "-z", "--untracked-files=all")
        kept = "" if changes else self._kept(head, inside)
        if kept:
            return self._of_wheel(Path(kept), commit=head)
        with tempfile.TemporaryDirectory(prefix="checkout-") as scratch:
            # In a copy: a build may write into its source.
            copy = Path(scratch) / "source"
            self._clone(str(top), copy)
            tree = self._snapshot(top, copy, head) if changes else ""
            is_same = tree == git(top, "rev-parse", f"{head}^{{tree}}").strip()
            return self._built(copy, inside, head, "" if is_same else tree)

    def _top(self, path: Path) -> Path:
        done = run(["git", "-C", str(path), "rev-parse", "--show-toplevel"], environment=plain())
        if done.returncode and "dubious ownership" in done.stderr:
            raise self.wrong(
                f"{path} is another user's, which git does not trust: git config --global --add"
                f" safe.directory {path.resolve()}"
            )
        if done.returncode:
            raise self.wrong(f"{path} is no git checkout: build a wheel of it, and name that")
        return Path(done.stdout.rstrip("\n")).resolve()

    def _snapshot(self, top: Path, copy: Path, head: str) -> str:
        """Put a checkout as it lies there into the index of its copy; return that as a tree.

        git itself does, as for a commit: no kind of change is forgotten, no byte is changed.
        """
        excluded = Path(git(top, "rev-parse", "--git-path", "info/exclude").rstrip("\n"))
        if (top / excluded).is_file():
            target = copy / ".git" / "info" / "exclude"
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(top / excluded, target)
        there = {"GIT_DIR": str(copy / ".git"), "GIT_WORK_TREE": str(top)}
        git(top, "read-tree", head, more=there)
        git(top, "add", "--all", ".", more=there)
        return git(top, "write-tree", more=there).strip()

    # --- commits ---

    def at_url(self, url: str) -> Source:
        """Return the wheel of ``URL[@REF][#egg=NAME&subdirectory=DIR]``; REF is HEAD by default."""
        address, _, more = url.partition("#")
        scheme, colon, rest = address.partition("://")
        if not colon or scheme not in _SCHEMES:
            raise self.wrong("write git+https://HOST/PATH@REF, git+ssh:// or git+file:///PATH@REF")
        project, inside = self._with_options(dict(parse_qsl(more, keep_blank_values=True)))
        head, at, ref = rest.rpartition("@")
        # user@host has no path before it; and a directory may have an @ in its name.
        has_ref = bool(at) and "/" in head
        if scheme == "file" and _is_directory(Path(unquote(urlsplit(address).path))):
            has_ref = False
        place, ref = (head, ref) if has_ref else (rest, "HEAD")
        source = f"{scheme}://{place}"
        named = f"{project.name}{_extras(self.extras)} @ " if project.name else ""
        below = "" if inside == "." else f"#subdirectory={inside}"
        word = "" if scheme == "file" else f"{named}git+{_without_login(source)}@{ref}{below}"
        return project.at_commit(source, ref, inside, word)

    def _with_options(self, options: dict[str, str]) -> tuple[_Project, str]:
        name = options.pop("egg", "").partition("[")[0]
        inside = Path(options.pop("subdirectory", "."))
        if options:
            raise self.wrong(f"#{min(options)} is not understood: #egg and #subdirectory are")
        if inside.is_absolute() or ".." in inside.parts:
            raise self.wrong(f"#subdirectory={inside} is outside of the repository")
        return _Project(self.word, self.name or name, self.extras, self.say), inside.as_posix()

    def at_commit(self, source: str, ref: str, inside: str, word: str) -> Source:
        """Return the wheel of one commit of a repository."""
        kept = self._kept(ref, inside) if _COMMIT.fullmatch(ref) else ""
        if kept:
            return self._of_wheel(Path(kept), word, ref)
        with tempfile.TemporaryDirectory(prefix="clone-") as scratch:
            copy = Path(scratch) / "source"
            is_local = source.startswith("file://")
            self._clone(unquote(urlsplit(source).path) if is_local else source, copy)
            return self._built(copy, inside, self._commit(copy, ref), word=word)

    def _commit(self, copy: Path, ref: str) -> str:
        if ref and not ref.startswith("-"):
            for name in (ref, f"origin/{ref}"):
                found = git(
                    copy, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", fails=True
                )
                if found:
                    return found.strip()
            # A pull request's, which no branch has.
            fetch = ["git", "-C", str(copy), "fetch", "--quiet", "origin", ref]
            is_name = _REF.fullmatch(ref) is not None
            if is_name and not run(fetch, environment=plain()).returncode:
                return git(copy, "rev-parse", "FETCH_HEAD^{commit}").strip()
        raise self.wrong(f"the repository has no commit, tag or branch {one_line(ref)!r}")

    def _clone(self, place: str, copy: Path) -> None:
        command = ["git", "clone", "--quiet", "--no-checkout", "--", place, str(copy)]
        done = run(command, environment=plain())
        if done.returncode:
            shown = place if place.startswith("/") else _without_login(place)
            raise self.wrong(f"git cannot clone {shown}: {last_line(done.stderr)}")

    # --- building ---

    def _kept(self, commit: str, inside: str, tree: str = "") -> str:
        """Return the wheel that was built of these bits before, empty if there is none."""
        return next((str(path) for path in sorted(_folder(commit, inside, tree).glob("*.whl"))), "")

    def _built(
        self, copy: Path, inside: str, commit: str, tree: str = "", word: str = ""
    ) -> Source:
        if not self._kept(commit, inside, tree):
            git(copy, "update-ref", "--no-deref", "HEAD", commit)
            if not tree:
                git(copy, "read-tree", commit)
            self._refuse_links(copy)
            git(copy, "checkout-index", "--all", "--force")
            if not _is_project(copy / inside):
                raise self.wrong("git ignores its pyproject.toml: build a wheel, and name that")
            with_changes = " with changes" if tree else ""
            self.say(f"stack: building a wheel of {self.word} at {commit[:10]}{with_changes}")
            self._build(copy, inside, commit, _folder(commit, inside, tree))
        wheel = self._kept(commit, inside, tree)
        return self._of_wheel(Path(wheel), word, commit, bool(tree))

    def _refuse_links(self, copy: Path) -> None:
        """Refuse other repositories within this one: their files are not in a clone."""
        for entry in git(copy, "ls-files", "--stage", "-z").split("\0"):
            mode, _, path = entry.partition(" ")
            if mode == "160000":
                name = one_line(path.partition("\t")[2])
                raise self.wrong(
                    f"{name} is a repository of its own, which is not taken along: build a wheel,"
                    " and name that"
                )

    def _build(self, copy: Path, inside: str, commit: str, folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="wheel-") as scratch:
            # With the commit's time in it, a wheel does not depend on when it was built.
            time = git(copy, "show", "--no-patch", "--format=%ct", commit).strip()
            command = ["build", "--wheel", "--python", sys.executable]
            command += ["--out-dir", scratch, str(copy / inside)]
            # And without the bytecode that a build leaves beside the modules it imports.
            more = {"SOURCE_DATE_EPOCH": time, "PYTHONDONTWRITEBYTECODE": "1"}
            done = uv(command, _BUILD_TIMEOUT_S, more)
            made = sorted(Path(scratch).glob("*.whl"))
            if done.returncode and _NO_NETWORK.search(done.stderr):
                raise InfrastructureError(f"--stack {self.word!r}: {_build_said(done.stderr)}")
            if done.returncode or len(made) != 1:
                raise self.wrong(f"cannot be built: {_build_said(done.stderr)}")
            if not made[0].name.endswith("-none-any.whl"):
                raise self.wrong(
                    f"{made[0].name} is for the Python and the machine that built it: build one for"
                    " the image, and name that"
                )
            folder.mkdir(parents=True, exist_ok=True)
            keep(made[0], folder)


def _folder(commit: str, inside: str, tree: str) -> Path:
    below = "" if inside == "." else f"-{hashlib.sha256(os.fsencode(inside)).hexdigest()[:_SHORT]}"
    changed = f"-{tree}" if tree else ""
    return recipe.cache_directory() / "stacks" / WHEELS / f"{commit}{below}{changed}"


def keep(wheel: Path, folder: Path) -> None:
    """Copy a wheel into a folder, whole or not at all."""
    draft = folder / f".{wheel.name[:100]}.{os.getpid()}"
    shutil.copyfile(wheel, draft)
    draft.replace(folder / wheel.name)


def _is_project(path: Path) -> bool:
    return any((path / file).is_file() for file in ("pyproject.toml", "setup.py"))


def _has_metadata(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".dist-info/METADATA") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def _without_login(url: str) -> str:
    """Return a URL that may be published: neither user, password nor token is in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


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
        done = run([sys.executable, "-m", "pip", "config", "list"], _PIP_TIMEOUT_S)
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


def uv(
    arguments: Sequence[str], timeout_s: float, more: Mapping[str, str], place: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run uv with the package index that pip has here.

    Args:
        arguments: of uv.
        timeout_s: after which it is killed.
        more: added to its environment.
        place: working directory: uv takes settings from a project around it.
    """
    try:
        program = find_uv_bin()
    except FileNotFoundError:
        raise missing_package("--stack", "uv", "stacks") from None
    index = index_url()
    there = {"UV_DEFAULT_INDEX": index} if index else {}
    with tempfile.TemporaryDirectory(prefix="uv-") as nowhere:
        return run(
            [program, *arguments],
            timeout_s,
            {**os.environ, **there, **more},
            place or Path(nowhere),
        )


def uv_failure(what: str, said: str) -> UsageError | InfrastructureError:
    """Return why uv found no versions: those that were asked for, or an index that is not there."""
    kind = InfrastructureError if _NO_NETWORK.search(said) else UsageError
    return kind(f"{what}: {_said(said)}")


def _said(text: str) -> str:
    """Return what uv says, which is several lines with a drawing, as one."""
    words = " ".join(one_line(text).split())
    _, because, reason = words.partition("Because ")
    return f"{because}{reason}"[:600] if because else words.removeprefix("error: ")[:600]


def _build_said(text: str) -> str:
    """Return why a build failed: the last that its backend said, and what uv makes of it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    place = next((i for i, line in enumerate(lines) if line.startswith("error:")), len(lines))
    backend = [line for line in lines[:place] if not line.startswith("Building ")]
    causes = [line.removeprefix("cause: ") for line in lines if line.startswith("cause: ")]
    found = [*backend[-1:], *causes[-1:]]
    return one_line(": ".join(found))[:600] or last_line(text)
