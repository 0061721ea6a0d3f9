"""Git repositories of commits that were never made by hand."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path


def git(place: Path, *arguments: str, given: str = "") -> str:
    """Run git; return what it says."""
    done = subprocess.run(
        ["git", "-C", str(place), *arguments],
        input=given,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def repository(
    place: Path, parents: Sequence[Sequence[int]], times_s: Sequence[int] = ()
) -> list[str]:
    """Make a repository of empty commits; return their names.

    Args:
        place: where to.
        parents: for each commit the numbers of its parents.
        times_s: when it was committed, seconds after the first; one after the other by default.
    """
    place.mkdir(parents=True, exist_ok=True)
    git(place, "init", "--quiet", "--initial-branch", "main")
    lines = []
    for number, (above, seconds) in enumerate(
        zip(parents, times_s or range(len(parents)), strict=True)
    ):
        text = f"Commit {number}"
        lines += [f"commit refs/heads/main\nmark :{number + 1}"]
        lines += [f"committer A <a@example.org> {1_700_000_000 + seconds} +0000"]
        lines += [f"data {len(text)}\n{text}"]
        words = ("from", *("merge" for _ in above[1:]))
        lines += [f"{word} :{parent + 1}" for word, parent in zip(words, above, strict=False)]
        lines += [""]
    marks = place / "marks"
    git(
        place,
        "fast-import",
        "--quiet",
        "--force",
        f"--export-marks={marks}",
        given="\n".join(lines),
    )
    named = dict(line.split() for line in marks.read_text().splitlines())
    marks.unlink()
    return [named[f":{number + 1}"] for number in range(len(parents))]


def line(length: int) -> list[list[int]]:
    """Return the parents of commits of which each is made on the one before."""
    return [[number - 1] if number else [] for number in range(length)]
