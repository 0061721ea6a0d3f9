"""What each kind of ``--stack`` word names, on real repositories and with a real build."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from harness.core.errors import InfrastructureError, UsageError
from harness.images import programs, words
from harness.images.words import Source, source
from tests.stacks import built_from, commit, git, repository, sha256, write_project, write_wheel


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")


def found(word: object) -> tuple[Source, list[str]]:
    said: list[str] = []
    return source(str(word), said.append), said


def refusal(word: object) -> str:
    with pytest.raises(UsageError) as caught:
        found(word)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("--stack ")
    return message


def path_of(item: Source) -> Path:
    assert item.path is not None
    return item.path


# --- requirements ---


@pytest.mark.parametrize(
    ("word", "requirement"),
    [
        ("dask==2025.1.0", "dask==2025.1.0"),
        (" dask == 2025.1.0 ", "dask==2025.1.0"),
        ("Dask[array,  diagnostics]>=2025,<2026", "Dask[array,diagnostics]<2026,>=2025"),
        ("dask", "dask"),
    ],
)
def test_a_requirement(word: str, requirement: str) -> None:
    item, said = found(word)
    assert (str(item.requirement), item.line) == (requirement, requirement)
    assert (item.name, item.word, item.wheel, item.path) == ("dask", word.strip(), None, None)
    assert said == []


@pytest.mark.parametrize(
    "word",
    [
        "",
        "  ",
        "\n",
        "dask==",
        "dask = 1",
        "dask 1",
        "dask==1 distributed==1",
        "-r requirements.txt",
        "--index-url x",
        "-e",
        "==1",
        "dask[",
        "d\u00e4sk",
        "\x1b[31mdask",
        "dask\nflask",
        "dask==1\n--index-url x",
    ],
)
def test_what_is_no_requirement(word: str) -> None:
    message = refusal(word)
    assert message.endswith(
        "is no requirement: write NAME==VERSION, a wheel, 'NAME @ DIR' or git+URL@REF"
    )
    assert "\x1b" not in message


def test_a_condition_is_refused() -> None:
    assert "leave out what follows ';'" in refusal("dask==1; python_version < '3'")


@pytest.mark.parametrize(
    "word",
    [
        "dask @ https://example.org/dask-1-py3-none-any.whl",
        "dask@https://example.org/dask-1.tar.gz",
        "https://example.org/dask-1-py3-none-any.whl",
        "dask[array] @ http://example.org/x",
        "ftp://example.org/x",
    ],
)
def test_nothing_is_taken_from_a_url(word: str) -> None:
    assert refusal(word).endswith(
        "packages are not taken from a URL: download it and name the wheel"
    )


# --- wheels ---


@pytest.mark.parametrize(
    "form", ["{}", "distributed @ {}", "distributed@{}", "file://{}", "Distributed @ file://{}"]
)
def test_a_wheel(form: str, tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "a@b c", "distributed", "2026.9.1+1.g3f17")
    word = form.format(str(wheel).replace(" ", "%20") if "file:" in form else wheel)
    item, said = found(word)
    assert str(item.requirement) == "distributed==2026.9.1+1.g3f17"
    assert item.line == f"distributed @ {wheel.as_uri()}"
    assert item.path == wheel
    assert item.wheel is not None
    assert (item.wheel.file, item.wheel.sha256) == (wheel.name, sha256(wheel))
    assert (item.wheel.commit, item.wheel.dirty) == ("", False)
    # No path of this machine.
    assert item.word == item.wheel.origin == wheel.name
    assert str(item.wheel) == "distributed==2026.9.1+1.g3f17"
    assert said == []


def test_a_wheel_with_extras(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "proxystore", "1.2")
    item, _ = found(f"proxystore[endpoints, all] @ {wheel}")
    assert str(item.requirement) == "proxystore[all,endpoints]==1.2"
    assert item.line == f"proxystore[all,endpoints] @ {wheel.as_uri()}"


def test_what_is_no_wheel(tmp_path: Path) -> None:
    assert refusal("none.whl").endswith("there is no such wheel")
    assert refusal("dask @ dir/none.whl").endswith("there is no such wheel")
    assert refusal("x" * 5000 + ".whl").endswith("name a wheel")
    (tmp_path / "dask-1-py3-none-any.whl").mkdir()
    assert refusal(tmp_path / "dask-1-py3-none-any.whl").endswith("there is no such wheel")
    for name in ("dask.whl", "d\u00e4sk-1-py3-none-any.whl", "dask-x-py3-none-any.whl"):
        shutil.copy(write_wheel(tmp_path / "good", "dask", "1"), tmp_path / name)
        assert "is not the name of a wheel" in refusal(tmp_path / name)
    (tmp_path / "dask-2-py3-none-any.whl").write_text("not a zip")
    assert "is damaged, or no wheel" in refusal(tmp_path / "dask-2-py3-none-any.whl")
    with zipfile.ZipFile(tmp_path / "dask-3-py3-none-any.whl", "w") as archive:
        archive.writestr("dask.py", "")
    assert "is damaged, or no wheel" in refusal(tmp_path / "dask-3-py3-none-any.whl")
    good = tmp_path / "good" / "dask-1-py3-none-any.whl"
    assert "that project is called dask: write dask @" in refusal(f"distributed @ {good}")
    assert "are no names of extras" in refusal(f"dask[a b] @ {good}")


# --- checkouts ---


def test_a_checkout_is_built_once_for_each_commit(tmp_path: Path) -> None:
    place = repository(tmp_path / "src @ 1")
    head = git(place, "rev-parse", "HEAD")
    item, said = found(f"distributed @ {place}")
    assert said == [
        f"stack: building a wheel of distributed @ {place} at {head[:10]}",
    ]
    assert str(item.requirement) == "distributed==2026.9.1"
    assert item.wheel is not None
    assert (item.wheel.commit, item.wheel.dirty) == (head, False)
    assert item.word == item.wheel.origin == f"distributed @ {head[:12]}"
    assert str(item.wheel) == f"distributed==2026.9.1 ({head[:10]})"
    again, said = found(place)
    assert said == []
    assert again == item
    other = commit(place, "two")
    after, said = found(place)
    assert len(said) == 1
    assert path_of(after) != path_of(item)
    assert after.word == f"distributed @ {other[:12]}"


def test_the_time_in_a_wheel_is_the_commits(tmp_path: Path) -> None:
    item, _ = found(repository(tmp_path / "src"))
    with zipfile.ZipFile(path_of(item)) as archive:
        assert b"Time: 1748736000\n" in archive.read("distributed-2026.9.1.dist-info/WHEEL")


def test_changes_of_every_kind_are_built(tmp_path: Path) -> None:
    place = repository(tmp_path / "src")
    odd = os.fsdecode(b"not utf-8 \xff.txt")
    before = {
        "changed.txt": b"1\n",
        "staged.txt": b"1\n",
        "lines.txt": b"a\r\nb\r\n",
        "binary.bin": bytes(range(256)),
        "deleted.txt": b"1\n",
        "moved.txt": b"moved\n" * 20,
        "with a space.txt": b"1\n",
        "n\u00e4me \u2603.txt": b"1\n",
        "same.txt": b"1\n",
        ".gitignore": b"*.ignored\n",
    }
    for name, data in before.items():
        (place / name).write_bytes(data)
    (place / ".git" / "info" / "exclude").write_text("*.excluded\n")
    # What people set for their own eyes.
    for key in (
        "diff.noprefix",
        "diff.mnemonicPrefix",
        "color.ui",
        "diff.external",
        "core.quotePath",
    ):
        git(place, "config", key, "false" if key == "diff.external" else "true")
    head = commit(place)
    assert built_from(path_of(found(place)[0])) == {k.encode(): v for k, v in before.items()}

    (place / "changed.txt").write_bytes(b"2\n")
    (place / "staged.txt").write_bytes(b"2\n")
    git(place, "add", "staged.txt")
    (place / "lines.txt").write_bytes(b"a\r\nc\r\nd\ne\r")
    (place / "binary.bin").write_bytes(bytes(reversed(range(256))))
    (place / "deleted.txt").unlink()
    git(place, "mv", "moved.txt", "to here.txt")
    (place / "with a space.txt").write_bytes(b"no end of line")
    (place / "n\u00e4me \u2603.txt").write_bytes(b"2\n")
    (place / "new folder").mkdir()
    (place / "new folder" / "n\u00e9w\tfile.txt").write_bytes(b"\0new")
    (place / odd).write_bytes(b"odd")
    (place / "empty").write_bytes(b"")
    (place / "x.ignored").write_bytes(b"no")
    (place / "x.excluded").write_bytes(b"no")
    status = git(place, "status", "--porcelain")

    item, said = found(place)
    assert said == [f"stack: building a wheel of {place} at {head[:10]} with changes"]
    assert built_from(path_of(item)) == {
        b"changed.txt": b"2\n",
        b"staged.txt": b"2\n",
        b"lines.txt": b"a\r\nc\r\nd\ne\r",
        b"binary.bin": bytes(reversed(range(256))),
        b"to here.txt": b"moved\n" * 20,
        b"with a space.txt": b"no end of line",
        "n\u00e4me \u2603.txt".encode(): b"2\n",
        "new folder/n\u00e9w\tfile.txt".encode(): b"\0new",
        b"not utf-8 \xff.txt": b"odd",
        b"empty": b"",
        b"same.txt": b"1\n",
        b".gitignore": b"*.ignored\n",
    }
    assert item.wheel is not None
    assert (item.wheel.commit, item.wheel.dirty) == (head, True)
    assert item.word == f"distributed @ {head[:12]}+changes"
    assert str(item.wheel) == f"distributed==2026.9.1 ({head[:10]}, with changes)"
    # The checkout itself is as it was.
    assert git(place, "status", "--porcelain") == status
    assert found(place)[1] == []
    (place / "empty").write_bytes(b"no more")
    assert len(found(place)[1]) == 1
    # Back at the commit, its wheel is used again.
    git(place, "reset", "--quiet", "--hard")
    git(place, "clean", "--quiet", "-d", "--force")
    clean, said = found(place)
    assert (said, clean.word) == ([], f"distributed @ {head[:12]}")


_NAMES = st.sampled_from(["a", "b c", "d/e", "d/\u00e9", "f\ng"])
_CONTENTS = st.dictionaries(_NAMES, st.binary(max_size=20), max_size=5)


def _packed(arguments: Sequence[str], *_: object) -> subprocess.CompletedProcess[str]:
    """Stand in for a build: what is in the folder, without a new Python."""
    target, place = map(Path, arguments[-2:])
    wheel = write_wheel(target, "distributed", "1")
    with zipfile.ZipFile(wheel, "a") as archive:
        for path in place.rglob("*"):
            name = path.relative_to(place)
            if path.is_file() and name.parts[0] != ".git":
                archive.writestr(f"files/{os.fsencode(name).hex()}", path.read_bytes())
    return subprocess.CompletedProcess([], 0, "", "")


@settings(max_examples=15)
@given(before=_CONTENTS, after=_CONTENTS)
def test_a_wheel_is_built_from_what_lies_there(
    before: dict[str, bytes], after: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = repository(tmp_path_factory.mktemp("any") / "src")

    def write(contents: dict[str, bytes]) -> None:
        for path in place.iterdir():
            if path.is_dir() and path.name != ".git":
                shutil.rmtree(path)
            elif path.name not in (".git", "pyproject.toml", "backend.py"):
                path.unlink()
        for name, data in contents.items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(data)

    write(before)
    commit(place)
    write(after)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "uv", _packed)
        item, _ = found(place)
    assert built_from(path_of(item)) == {os.fsencode(k): v for k, v in after.items()}
    assert item.wheel is not None
    assert item.wheel.dirty is (before != after)


def test_a_project_below_the_top_of_its_repository(tmp_path: Path) -> None:
    place = repository(tmp_path / "all")
    write_project(place / "python", "proxystore", "1.2")
    head = commit(place)
    item, _ = found(f"proxystore @ {place / 'python'}")
    assert item.word == f"proxystore @ {head[:12]}"
    assert built_from(path_of(item)) == {}
    by_url, said = found(f"git+{place.as_uri()}@main#egg=proxystore&subdirectory=python")
    assert (said, by_url) == ([], item)
    # The one at the top is another of the same commit.
    assert found(place)[0].name == "distributed"
    assert "is outside" in refusal(f"git+{place.as_uri()}#subdirectory=../x")
    assert "#x is not understood" in refusal(f"git+{place.as_uri()}#x=1")


def test_other_kinds_of_checkouts(tmp_path: Path) -> None:
    place = repository(tmp_path / "src")
    head = git(place, "rev-parse", "HEAD")
    git(place, "worktree", "add", "--quiet", "--detach", str(tmp_path / "tree"))
    detached = commit(tmp_path / "tree", "two")
    assert found(tmp_path / "tree")[0].word == f"distributed @ {detached[:12]}"
    git(tmp_path, "clone", "--quiet", "--depth=1", place.as_uri(), "shallow")
    (tmp_path / "shallow" / "new.txt").write_text("new")
    assert found(tmp_path / "shallow")[0].word == f"distributed @ {head[:12]}+changes"
    outer = repository(tmp_path / "outer")
    git(outer, "submodule", "--quiet", "add", str(place), "inner")
    assert found(outer / "inner")[0].word == f"distributed @ {head[:12]}"
    commit(outer)
    message = refusal(outer)
    assert "inner is a repository of its own, which is not taken along: build a wheel" in message


def test_a_relative_path_and_one_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = repository(tmp_path / "home" / "distributed")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    item, _ = found("distributed @ ~/distributed")
    assert found("~/distributed")[0] == item
    monkeypatch.chdir(place)
    assert found(".")[0] == item
    monkeypatch.chdir(tmp_path / "home")
    assert found("./distributed")[0] == item
    assert found("distributed@distributed")[0] == item
    # A word alone is a package, whatever lies here.
    assert found("distributed")[0].path is None


def test_what_somebody_set_for_another_repository_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, other = repository(tmp_path / "src"), repository(tmp_path / "other", "proxystore")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert found(place)[0].name == "distributed"


def test_what_is_no_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal("distributed @ none").endswith("none is no directory")
    assert "is no directory" in refusal("/none")
    assert "is no directory" in refusal("-x/y")
    assert "is no directory" in refusal("a/" * 4000)
    (tmp_path / "empty").mkdir()
    assert "has no pyproject.toml: it is no Python project" in refusal(tmp_path / "empty")
    plain = write_project(tmp_path / "plain")
    assert "is no git checkout: build a wheel of it, and name that" in refusal(plain)
    git(plain, "init", "--quiet")
    assert "has no commit yet: make one" in refusal(plain)
    place = repository(tmp_path / "src")
    git(tmp_path, "clone", "--quiet", "--bare", str(place), "bare")
    assert f"write git+file://{tmp_path}/bare@REF" in refusal(tmp_path / "bare")
    assert "that project is called distributed" in refusal(f"dask @ {place}")
    (place / ".gitignore").write_text("below\n")
    write_project(place / "below", "proxystore", "1")
    assert "git ignores its pyproject.toml" in refusal(place / "below")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    message = refusal(place)
    assert message.endswith(f"git config --global --add safe.directory {place}")


# --- commits ---


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a repository with a commit on a tag, one on ``main`` and one on a branch."""
    path = repository(tmp_path / "a@b" / "src")
    git(path, "tag", "--annotate", "v1", "--message", "v1")
    (path / "main.txt").write_text("")
    commit(path, "two")
    git(path, "checkout", "--quiet", "-b", "feature/x")
    (path / "branch.txt").write_text("")
    commit(path, "three")
    git(path, "checkout", "--quiet", "main")
    return path


@pytest.mark.parametrize(
    ("ref", "names"),
    [
        ("", {b"main.txt"}),
        ("@main", {b"main.txt"}),
        ("@v1", set()),
        ("@refs/tags/v1", set()),
        ("@feature/x", {b"main.txt", b"branch.txt"}),
        ("@main~1", set()),
        ("@SHA", {b"main.txt"}),
        ("@SHORT", {b"main.txt"}),
        ("@main#egg=distributed", {b"main.txt"}),
    ],
)
def test_a_commit(ref: str, names: set[bytes], place: Path) -> None:
    head = git(place, "rev-parse", "HEAD")
    # What is not committed is not in a commit.
    (place / "new.txt").write_text("")
    item, _ = found(f"git+{place.as_uri()}{ref.replace('SHA', head).replace('SHORT', head[:9])}")
    assert built_from(path_of(item)).keys() == names
    assert item.wheel is not None
    assert not item.wheel.dirty
    assert item.word == f"distributed @ {item.wheel.commit[:12]}"
    assert (item.wheel.commit == head) is (names == {b"main.txt"})


def test_a_commit_that_only_a_pull_request_has(place: Path) -> None:
    git(place, "checkout", "--quiet", "--detach")
    (place / "pull.txt").write_text("")
    head = commit(place)
    git(place, "update-ref", "refs/pull/7/head", head)
    git(place, "checkout", "--quiet", "main")
    item, _ = found(f"distributed @ git+{place.as_uri()}@refs/pull/7/head")
    assert item.wheel is not None
    assert item.wheel.commit == head


def test_a_commit_that_was_built_needs_no_repository(place: Path) -> None:
    head = git(place, "rev-parse", "HEAD")
    item, _ = found(place)
    away = place.rename(place.parent / "away")
    assert found(f"git+{place.as_uri()}@{head}") == (item, [])
    git(away, "checkout", "--quiet", "v1")


def test_a_bare_and_a_shallow_repository(place: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(place), "bare")
    git(tmp_path, "clone", "--quiet", "--depth=1", place.as_uri(), "shallow")
    for name in ("bare", "shallow"):
        item, _ = found(f"git+file://{tmp_path}/{name}@main")
        assert built_from(path_of(item)).keys() == {b"main.txt"}
    assert "no commit, tag or branch 'v1'" in refusal(f"git+file://{tmp_path}/shallow@v1")


@pytest.mark.parametrize(
    ("word", "public"),
    [
        ("git+https://u:secret@example.org/d/d.git@main", "git+https://example.org/d/d.git@main"),
        ("git+https://example.org/d.git?token=secret", "git+https://example.org/d.git@HEAD"),
        ("dask @ git+ssh://git@example.org:22/d@x/y", "dask @ git+ssh://example.org:22/d@x/y"),
        (
            "dask[array] @ git+https://example.org/d@1#subdirectory=p",
            "dask[array] @ git+https://example.org/d@1#subdirectory=p",
        ),
    ],
)
def test_a_repository_elsewhere_is_written_down_without_login(
    word: str, public: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def at_commit(_: object, source: str, ref: str, inside: str, word: str) -> Source:
        asked.append((source, ref, inside))
        return Source(Requirement("dask"), word)

    monkeypatch.setattr(words._Project, "at_commit", at_commit)
    assert found(word)[0].word == public
    ((address, ref, inside),) = asked
    assert f"git+{address}" in word
    assert public.partition("#")[0].endswith(f"@{ref}")
    assert inside == ("p" if "subdirectory" in word else ".")


@pytest.mark.parametrize(
    "word",
    [
        "git+git@example.org:d/d.git@main",
        "git+../src",
        "git+",
        "git+ext::sh -c x",
        "git+ext://sh",
        "git+-x://y",
    ],
)
def test_what_is_no_address_of_a_repository(word: str) -> None:
    assert "write git+https://HOST/PATH@REF" in refusal(word)


def test_what_is_no_commit(place: Path, tmp_path: Path) -> None:
    address = f"git+{place.as_uri()}"
    for ref in ("none", "", "--upload-pack=x", "-x", "0" * 40, "HEAD:main.txt", "a\nb"):
        assert "the repository has no commit, tag or branch" in refusal(f"{address}@{ref}")
    assert "git cannot clone /none" in refusal("git+file:///none@main")
    message = refusal(f"git+https://u:secret@127.0.0.1:9/{tmp_path.name}@main")
    assert "git cannot clone https://127.0.0.1:9/" in message
    assert "that project is called distributed" in refusal(f"{address}@main#egg=dask")


# --- building ---


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda p: (p / "backend.py").write_text("raise RuntimeError('no  way')"), "no  way"),
        (lambda p: (p / "pyproject.toml").write_text("[project"), "TOML parse error"),
        (lambda p: (p / "backend.py").write_text("def build_wheel(*a): return 'x'"), ""),
        (lambda p: write_project(p, tag="cp311-cp311-linux_x86_64"), "for the image"),
    ],
)
def test_what_cannot_be_built(spoil: Callable[[Path], object], why: str, place: Path) -> None:
    spoil(place)
    message = refusal(place)
    assert why in message
    assert "cannot be built" in message or "for the image" in message
    # Nothing half-built is kept.
    assert refusal(place) == message


def test_another_program_that_is_missing_or_hangs(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InfrastructureError, match=r"sleep took longer than 0.01 s"):
        programs.run(["sleep", "5"], 0.01)
    monkeypatch.setenv("PATH", "/none")
    with pytest.raises(InfrastructureError, match="git is needed: install it"):
        found(place)
