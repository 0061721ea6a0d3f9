from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.core.files import write_whole


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
def test_permissions_are_set_and_not_inherited(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "a", "x")
        write_whole(tmp_path / "b", "x", mode=0o600)
    finally:
        os.umask(before)
    assert (mode(tmp_path / "a"), mode(tmp_path / "b")) == (0o644, 0o600)


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_whole(path, "old")
    with path.open() as reader:
        write_whole(path, "new", durable=True)
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir()
    with pytest.raises(OSError, match="a") as caught:
        write_whole(path, "x")
    assert caught.value.filename == str(path)
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
    with pytest.raises(FileNotFoundError) as missing:
        write_whole(tmp_path / "none" / "b", "x")
    assert missing.value.filename == str(tmp_path / "none" / "b")


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / "a").symlink_to(tmp_path / "target")
    write_whole(tmp_path / "a", "x")
    assert (tmp_path / "target").read_text() == "kept"
    assert not (tmp_path / "a").is_symlink()


def test_text_is_utf_8_and_parts_of_file_names_are_escaped(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "é\udcff")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa9\\udcff"


def test_what_is_no_file_is_written_to_as_it_is() -> None:
    write_whole(Path(os.devnull), "x")
    assert Path(os.devnull).is_char_device()
