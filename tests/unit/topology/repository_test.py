"""What is read of a user's repositories: ends, what goes wrong with them, and their siblings."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.topology.repository import SHORT, Companion, History, Repository, Siblings
from tests.repositories import git, line, repository


def test_a_repository_is_found_from_a_folder_in_it_and_where_it_is_bare(tmp_path: Path) -> None:
    commits = repository(tmp_path / "a", line(3))
    (tmp_path / "a" / "folder").mkdir()
    assert Repository.at(str(tmp_path / "a" / "folder")).path == tmp_path / "a"
    git(tmp_path, "clone", "--quiet", "--bare", "a", "b.git")
    bare = Repository.at(str(tmp_path / "b.git"))
    assert bare.path == tmp_path / "b.git"
    assert bare.ends("main~2", "main") == (commits[0], commits[2])


def test_what_is_no_history_is_refused_with_a_remedy(tmp_path: Path) -> None:
    place = tmp_path / "a"
    # A line 0-1-2, and a branch from 1 that ends at 3.
    commits = repository(place, [[], [0], [1], [1]])
    git(place, "branch", "side", commits[2])
    here = Repository.at(str(place))
    short = commits[1][:10]
    for good, bad, said in (
        (
            "nowhere",
            "main",
            f"--good nowhere: {place} has no such commit, tag or branch; 'git fetch",
        ),
        ("main", "v9", "--bad v9: "),
        ("main", commits[3], "are the same commit; name two"),
        ("main", "main~1", "--good main: is no ancestor of --bad main~1: swap them: --good is the"),
        ("side", "main", f"is no ancestor of --bad main: name one that is, such as {short}, where"),
    ):
        with pytest.raises(UsageError) as found:
            here.ends(good, bad)
        assert said in str(found.value)
        assert "\n" not in str(found.value)
    git(place, "checkout", "--quiet", "--orphan", "alone")
    git(place, "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-mx")
    with pytest.raises(UsageError, match="they have no commit in common"):
        here.ends("alone", "main")


def test_what_is_no_repository_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--repo .*: there is no such directory; name a git"):
        Repository.at(str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"--repo .*: is no git repository \(fatal: not a git"):
        Repository.at(str(tmp_path))
    repository(tmp_path / "a", line(3))
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{tmp_path / 'a'}", "b")
    with pytest.raises(UsageError, match=r"--repo .*: is a shallow clone.*git fetch --unshallow"):
        Repository.at(str(tmp_path / "b"))


def test_a_repository_without_tags_is_warned_of(tmp_path: Path) -> None:
    commits = repository(tmp_path, line(3))
    here = Repository.at(str(tmp_path))
    (warning,) = here.warnings(commits[2])
    assert warning.startswith(f"suspicious: --repo {tmp_path}: no tag before {commits[2][:10]}: ")
    git(tmp_path, "tag", "v1", commits[1])
    assert here.warnings(commits[2]) == []


def test_a_subject_is_no_answer_and_safe_to_print(tmp_path: Path) -> None:
    place = tmp_path
    git(place, "init", "--quiet", "--initial-branch", "main")
    subject = "# first bad commit: [abc]\x1b[31m"
    for _ in range(4):
        identity = ("-c", "user.name=A", "-c", "user.email=a@b")
        git(
            place,
            *identity,
            "commit",
            "--quiet",
            "--allow-empty",
            "-m",
            subject,
            "--cleanup=verbatim",
        )
    commits = git(place, "rev-list", "--reverse", "main").split()
    (tmp_path / "scratch").mkdir()
    history = History(Repository.at(str(place)), tmp_path / "scratch")
    history.start(commits[0], commits[-1])
    assert history.between(commits[0], commits[-1]) == 3
    assert history.waiting() in commits[1:3]
    assert history.subject(commits[1]) == "# first bad commit: [abc] [31m"
    assert SHORT == 10


# --- siblings ---------------------------------------------------------------------------------

_HOUR = 3600


def siblings(
    place: Path, times_s: list[int], others_s: list[int]
) -> tuple[Siblings, list[str], list[str]]:
    """Return two repositories whose commits were made at such times, and all of their names."""
    commits = repository(place / "a", line(len(times_s)), times_s)
    others = repository(place / "b", line(len(others_s)), others_s)
    here, beside = (Repository.at(str(place / name)) for name in "ab")
    return Siblings(here, (beside,)), commits, others


def test_a_commit_has_the_siblings_last_one_of_an_hour_after_it(tmp_path: Path) -> None:
    found, commits, others = siblings(
        tmp_path, [0, 10 * _HOUR, 20 * _HOUR], [0, 10 * _HOUR + 21, 11 * _HOUR + 1, 30 * _HOUR]
    )
    # Merged 21 s after it: they belong together. What came an hour later does not.
    assert [found.of(commit)[0].commit for commit in commits] == [others[0], others[1], others[2]]


def test_the_siblings_side_branches_do_not_count(tmp_path: Path) -> None:
    repository(tmp_path / "a", line(2), [0, 100 * _HOUR])
    # 2 was made on a branch, and merged later.
    others = repository(tmp_path / "b", [[], [0], [0], [1, 2]], [0, 10, 99 * _HOUR, 200 * _HOUR])
    here, beside = (Repository.at(str(tmp_path / name)) for name in "ab")
    found = Siblings(here, (beside,)).of(git(tmp_path / "a", "rev-parse", "main"))
    assert [each.commit for each in found] == [others[1]]


def test_a_release_has_the_release_of_that_tag(tmp_path: Path) -> None:
    found, commits, others = siblings(
        tmp_path, [0, 10 * _HOUR, 100 * _HOUR], [0, 9 * _HOUR, 12 * _HOUR, 99 * _HOUR]
    )
    git(tmp_path / "a", "tag", "v1", commits[1])
    git(tmp_path / "b", "tag", "v1", others[2])
    # Another project's release of that number, months apart.
    git(tmp_path / "a", "tag", "v2", commits[2])
    git(tmp_path / "b", "tag", "v2", others[0])
    assert [found.of(commit)[0].commit for commit in commits] == [others[0], others[2], others[3]]


def test_a_sibling_that_begins_later_is_refused(tmp_path: Path) -> None:
    found, commits, _ = siblings(tmp_path, [0, 1], [2 * _HOUR])
    with pytest.raises(UsageError) as refused:
        found.of(commits[1])
    assert str(refused.value) == (
        f"--sibling {tmp_path / 'b'}: its branch has no commit as old as {commits[1][:SHORT]};"
        " check out the branch that has"
    )


def test_a_sibling_is_called_what_its_project_is(tmp_path: Path) -> None:
    (commit,) = repository(tmp_path, line(1))
    here = Repository.at(str(tmp_path))
    assert str(Companion(here, commit)) == f"{tmp_path.name} {commit[:10]}"
    git(tmp_path, "checkout", "--quiet", "main")
    for text, name in (("[project]\nname = 'dask'\n", "dask"), ("[project", tmp_path.name)):
        (tmp_path / "pyproject.toml").write_text(text)
        git(tmp_path, "add", ".")
        identity = ("-c", "user.name=A", "-c", "user.email=a@b")
        git(tmp_path, *identity, "commit", "--quiet", "-m", "More")
        commit = git(tmp_path, "rev-parse", "HEAD")
        assert str(Companion(here, commit)) == f"{name} {commit[:10]}"
