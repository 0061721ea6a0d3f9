"""Other programs: git, without what a shell or a hook says of another repository, and others."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.core.errors import InfrastructureError
from harness.core.text import one_line

_TIMEOUT_S = 600
# What a hook, or a shell that somebody set up, says of another repository.
_OTHER_REPOSITORY = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
)


def git(place: Path, *arguments: str, more: Mapping[str, str] = {}, fails: bool = False) -> str:
    """Return what git says about a repository.

    Args:
        place: where it is.
        arguments: of git.
        more: added to its environment.
        fails: whether it may fail, and say nothing.
    """
    done = ask_git(place, *arguments, more=more)
    if done.returncode and not fails:
        raise InfrastructureError(f"git {arguments[0]} in {place}: {last_line(done.stderr)}")
    return "" if done.returncode else done.stdout


def ask_git(
    place: Path, *arguments: str, more: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[str]:
    """Run git in a repository; whether it did what it should is in its exit code."""
    return run(["git", "-C", str(place), *arguments], environment=plain() | dict(more))


def plain() -> dict[str, str]:
    """Return an environment in which git speaks English, asks nothing and changes nothing."""
    there = {key: value for key, value in os.environ.items() if key not in _OTHER_REPOSITORY}
    return there | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}


def run(
    command: Sequence[str],
    timeout_s: float = _TIMEOUT_S,
    environment: Mapping[str, str] | None = None,
    place: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; its output keeps every byte.

    Raises:
        InfrastructureError: if it is not there, or takes too long.
    """
    program = Path(command[0]).name
    try:
        done = subprocess.run(
            command,
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=timeout_s,
        )
    except FileNotFoundError:
        raise InfrastructureError(f"{program} is needed: install it") from None
    except subprocess.TimeoutExpired:
        raise InfrastructureError(f"{program} took longer than {timeout_s:g} s") from None
    # Not as text, in which ends of lines are made the same.
    out, errors = (os.fsdecode(stream) for stream in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, out, errors)


def last_line(text: str) -> str:
    """Return the last line that a program said, safe to print, and never empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return one_line(lines[-1])[:300] if lines else "it said nothing"
