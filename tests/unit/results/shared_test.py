"""The shared folder: what is replaced while it is looked at, and what lies behind links."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.results.shared import SharedFolder, open_plain
from harness.topology.ownership import Owner, give_to_user


def put_link(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere)


def put_hard_link(path: Path, elsewhere: Path) -> None:
    path.hardlink_to(elsewhere)


def put_fifo(path: Path, elsewhere: Path) -> None:
    os.mkfifo(path)


def put_folder(path: Path, elsewhere: Path) -> None:
    path.mkdir()


def put_device(path: Path, elsewhere: Path) -> None:
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))


KINDS: list[Callable[[Path, Path], None]] = [put_link, put_hard_link, put_fifo, put_folder]
if os.geteuid() == 0:  # nobody else can make one
    KINDS.append(put_device)


@pytest.mark.parametrize("put", KINDS)
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY | os.O_APPEND, os.O_RDWR])
def test_a_file_that_is_replaced_between_check_and_use_is_refused(
    put: Callable[[Path, Path], None],
    flags: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("secret\n")
    path = tmp_path / "marks.csv"
    path.write_text("x\n")
    look = os.stat

    def look_and_replace(*args: object, **kwargs: object) -> os.stat_result:
        monkeypatch.setattr(os, "stat", look)
        found = look(*args, **kwargs)  # type: ignore[arg-type]
        path.unlink()
        put(path, elsewhere)
        return found

    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(os, "stat", look_and_replace)
    # A pipe without a reader and a folder are refused by the kernel when they are to be written.
    with pytest.raises(OSError):  # noqa: PT011
        os.close(open_plain(path, flags))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert elsewhere.read_text() == "secret\n"


def test_a_folder_that_is_a_link_is_not_entered(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "inside-worker-1.json").write_text("{}")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / ".sampling").symlink_to(elsewhere)
    (tmp_path / "link").symlink_to(elsewhere)
    assert SharedFolder(tmp_path / "real").read(".sampling/inside-worker-1.json", 9) is None
    assert SharedFolder(tmp_path / "link").read("inside-worker-1.json", 9) is None


def test_removing_it_leaves_what_its_links_point_to(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept\n")
    shared = SharedFolder(tmp_path / "shared" / "1")
    shared.create()
    (shared.path / "folder").symlink_to(elsewhere)
    (shared.path / "file").hardlink_to(elsewhere / "kept")
    shared.remove()
    assert not shared.path.exists()
    assert (elsewhere / "kept").read_text() == "kept\n"


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_its_mode_is_not_the_umask_s(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        shared = SharedFolder(tmp_path / "shared" / "1")
        shared.create()
    finally:
        os.umask(before)
    for path in (shared.path, shared.path.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_ownership_is_not_given_through_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[object, bool]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        os,
        "chown",
        lambda path, uid, gid, dir_fd=None, follow_symlinks=True: given.append(
            (path, follow_symlinks)
        ),
    )
    (tmp_path / "link").symlink_to("/")
    give_to_user(tmp_path, Owner(1, 1, 65532, 65532))
    assert ("link", False) in given
    # A descriptor is of the folder itself; every name is changed without following it.
    assert all(isinstance(path, int) or not follow for path, follow in given)
