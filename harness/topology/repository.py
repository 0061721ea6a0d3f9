"""A user's git repositories, which are only read, and git's own bisection of one of them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.grades import Grade
from harness.core.errors import InfrastructureError, UsageError
from harness.core.text import one_line
from harness.images.programs import ask_git, git, last_line

SHORT = 10
"""Digits of a commit's name, in lines and names of folders."""
# Changes that belong together are merged one after the other, and so are releases: of dask and
# distributed, up to 40 minutes apart.
_TOGETHER_S = 3600
_DAY_S = 86400


@dataclass(frozen=True)
class Repository:
    """A user's repository, which is only read.

    Attributes:
        path: its top folder, or itself where it is bare.
    """

    path: Path

    @classmethod
    def at(cls, place: str, flag: str = "--repo") -> Repository:
        """Return the repository that a path is in, which a flag named.

        Raises:
            UsageError: one line that names the flag, if there is none, or only half of one.
        """
        path = Path(place).expanduser().absolute()
        if not path.is_dir():
            raise UsageError(f"{flag} {place}: there is no such directory; name a git checkout")
        done = ask_git(path, "rev-parse", "--is-shallow-repository", "--git-common-dir")
        if done.returncode:
            raise UsageError(f"{flag} {place}: is no git repository ({last_line(done.stderr)})")
        shallow, common = done.stdout.splitlines()
        if shallow == "true":
            raise UsageError(
                f"{flag} {place}: is a shallow clone, without its older commits; 'git fetch"
                " --unshallow' brings them"
            )
        top = git(path, "rev-parse", "--show-toplevel", fails=True).strip()
        return cls(Path(top) if top else (path / common).resolve())

    def ends(self, good: str, bad: str) -> tuple[str, str]:
        """Return the whole names of two commits of which the first is an ancestor of the other.

        Raises:
            UsageError: one line that names the flag and the remedy.
        """
        older, newer = self._commit("--good", good), self._commit("--bad", bad)
        if older == newer:
            raise UsageError(f"--good {good}, --bad {bad}: are the same commit; name two")
        if ask_git(self.path, "merge-base", "--is-ancestor", older, newer).returncode:
            base = git(self.path, "merge-base", older, newer, fails=True).strip()
            if base == newer:
                remedy = (
                    "swap them: --good is the older one, whichever needs more (the bad end may be"
                    " the lower one)"
                )
            else:
                remedy = (
                    f"name one that is, such as {base[:SHORT]}, where they part"
                    if base
                    else "they have no commit in common"
                )
            raise UsageError(f"--good {good}: is no ancestor of --bad {bad}: {remedy}")
        return older, newer

    def _commit(self, flag: str, ref: str) -> str:
        command = ("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
        said = git(self.path, *command, fails=True).strip()
        if not is_commit(said):
            raise UsageError(
                f"{flag} {ref}: {self.path} has no such commit, tag or branch; 'git fetch --tags'"
                " may bring it"
            )
        return said

    def time_s(self, commit: str) -> int:
        """Return when a commit was committed, in seconds since 1970."""
        command = ("show", "--no-patch", "--no-show-signature", "--format=%ct", commit)
        return int(git(self.path, *command))

    def warnings(self, bad: str, flag: str = "--repo") -> list[str]:
        """Return what may go wrong with the commits up to one, one line each."""
        if not git(self.path, "describe", "--tags", bad, fails=True):
            return [
                f"{Grade.SUSPICIOUS}: {flag} {self.path}: no tag before {bad[:SHORT]}: versions"
                " that are made of tags will be wrong; 'git fetch --tags' brings them"
            ]
        return []


@dataclass(frozen=True)
class Companion:
    """The commit of a sibling repository that belongs to one of the bisected repository.

    Attributes:
        repository: the sibling.
        commit: its whole name.
    """

    repository: Repository
    commit: str

    def __str__(self) -> str:
        """Return it for people: ``dask 0fa5e18d5a``."""
        text = git(self.repository.path, "show", f"{self.commit}:pyproject.toml", fails=True)
        try:
            name = str(tomllib.loads(text)["project"]["name"])
        except (tomllib.TOMLDecodeError, KeyError, TypeError):
            name = self.repository.path.name
        return one_line(f"{name[:60]} {self.commit[:SHORT]}")


@dataclass(frozen=True)
class Siblings:
    """Repositories that move together with another one: each of its commits has one of each.

    Attributes:
        main: the repository that is bisected.
        others: those beside it.
    """

    main: Repository
    others: tuple[Repository, ...]

    def of(self, commit: str) -> tuple[Companion, ...]:
        """Return the siblings' commits that belong to a commit.

        A release has the release of the same tag and day. Any other commit has the last of those
        that the sibling's branch had by an hour after it.

        Raises:
            UsageError: one line that names the sibling, if it begins only later.
        """
        return tuple(Companion(other, self._beside(other, commit)) for other in self.others)

    def _beside(self, other: Repository, commit: str) -> str:
        time_s = self.main.time_s(commit)
        for tag in git(self.main.path, "tag", "--points-at", commit).split():
            command = ("rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}")
            found = git(other.path, *command, fails=True).strip()
            # Elsewhere another project may have a release of that number.
            if found and abs(other.time_s(found) - time_s) < _DAY_S:
                return found
        until = f"--min-age={time_s + _TOGETHER_S}"
        found = git(other.path, "rev-list", "-1", "--first-parent", until, "HEAD", fails=True)
        if not found:
            raise UsageError(
                f"--sibling {other.path}: its branch has no commit as old as {commit[:SHORT]};"
                " check out the branch that has"
            )
        return found.strip()


class History:
    """``git bisect`` in a clone without files, which shares the user's objects.

    Args:
        source: the user's repository, which is only read.
        scratch: an empty folder.

    Raises:
        InfrastructureError: if git cannot clone; and from all methods, if it cannot go on.
    """

    def __init__(self, source: Repository, scratch: Path) -> None:
        self._place = scratch / "bisect.git"
        git(scratch, "clone", "--quiet", "--bare", "--shared", str(source.path), "bisect.git")

    def start(self, good: str, bad: str) -> None:
        """Begin with the ends."""
        git(self._place, "bisect", "start", "--no-checkout", bad, good)

    def mark(self, mark: str, commit: str) -> None:
        """Tell what a commit is: good, bad or skip."""
        done = ask_git(self._place, "bisect", mark, commit)
        # 2: nothing but skipped commits is left.
        if done.returncode and not (done.returncode == 2 and self._answers()):
            said = last_line(done.stderr)
            raise InfrastructureError(f"git bisect {mark} {commit[:SHORT]}: {said}")

    def waiting(self) -> str | None:
        """Return the commit to be measured next; None if there is an answer."""
        if self._answers():
            return None
        return git(self._place, "rev-parse", "BISECT_HEAD").strip()

    def candidates(self) -> list[str]:
        """Return the first bad commit, or all that may be it, oldest first."""
        found = self._answers()
        if len(found) == 1:
            return found
        command = ("rev-list", "--no-walk", "--topo-order", "--reverse", *found)
        return git(self._place, *command).split()

    def between(self, good: str, bad: str) -> int:
        """Return how many commits may be the first bad one."""
        return int(git(self._place, "rev-list", "--count", f"{good}..{bad}"))

    def subject(self, commit: str) -> str:
        """Return the first line of a commit's message."""
        command = ("show", "--no-patch", "--no-show-signature", "--format=%s", commit)
        return one_line(git(self._place, *command).strip())[:100]

    def parents(self, commit: str) -> list[str]:
        """Return the commits that a commit is made on."""
        return git(self._place, "rev-list", "--parents", "--no-walk", commit).split()[1:]

    def _answers(self) -> list[str]:
        """Return what git's log of the bisection says at its end, in comments."""
        # As 'git bisect log' shows it.
        lines = (self._place / "BISECT_LOG").read_text("utf-8", "replace").split("\n")
        for begins in ("# first bad commit: [", "# possible first bad commit: ["):
            found = [
                line[len(begins) :].partition("]")[0] for line in lines if line.startswith(begins)
            ]
            if found:
                return found
        return []


def is_commit(name: str) -> bool:
    """Say whether this is the whole name of a commit."""
    return len(name) in (40, 64) and all(digit in "0123456789abcdef" for digit in name)
