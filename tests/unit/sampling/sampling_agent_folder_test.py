"""A topology's folders where home cannot see them: what is sent of what containers write."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest

from harness.results.directory import RunDirectory
from harness.results.intake import shared_files
from harness.sampling.agent import folder as folder_module
from harness.sampling.agent.folder import TopologyFolder

NAME = "topology-1"


class Volume:
    """A volume with one topology's folders, and what was sent of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sent: list[tuple[str, int | None, bytes]] = []
        files = shared_files(RunDirectory(Path()))
        # Not root's: plain users look after their own, and this tells nothing of who it is.
        self.folder = TopologyFolder(root, NAME, (0, 0), files, self.take)
        self.shared = root / "shared" / NAME
        self.replies = RunDirectory(root / "replies" / NAME)
        self.inputs = root / "inputs" / NAME

    def take(self, message: dict[str, Any], data: bytes) -> None:
        assert message["file"] == NAME
        assert set(message) == {"file", "name", "at"}
        self.sent.append((message["name"], message["at"], data))

    def write(self, name: str, text: str) -> None:
        path = self.shared / name
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write(text)

    def new(self) -> list[tuple[str, int | None, bytes]]:
        """Return what is sent now."""
        self.sent.clear()
        self.folder.send_new()
        return list(self.sent)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    volume = Volume(tmp_path)
    volume.folder.make({})
    return volume


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_made_can_be_read_by_the_containers(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    volume.folder.make({"plan.json": b"{}", "HARNESS_KEYS/inner/key": b"\x00secret"})
    assert mode(volume.shared) == 0o755
    assert volume.replies.marks_ack.read_bytes() == volume.replies.settled.read_bytes() == b""
    for path in (volume.replies.marks_ack, volume.replies.settled, volume.inputs / "plan.json"):
        assert mode(path) == 0o644
    assert (volume.inputs / "plan.json").read_bytes() == b"{}"
    assert (volume.inputs / "HARNESS_KEYS" / "inner" / "key").read_bytes() == b"\x00secret"
    assert volume.new() == []


def test_what_containers_write_is_their_users() -> None:
    # Other users cannot get to where this test's own files are.
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        root.chmod(0o755)
        files = shared_files(RunDirectory(Path()))
        folder = TopologyFolder(root, NAME, (65532, 65533), files, lambda *_: None)
        folder.make({"plan.json": b"{}"})
        found = (root / "shared" / NAME).stat()
        # Only root can make them somebody else's.
        theirs = (65532, 65533) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        assert (found.st_uid, found.st_gid) == theirs
        assert mode(root / "shared" / NAME) == 0o755
        # The answers and the inputs are not theirs to write.
        for path in (root / "replies" / NAME, root / "inputs" / NAME / "plan.json"):
            assert path.stat().st_uid == os.geteuid()
        folder.remove()
        assert list((root / "shared").iterdir()) == []


def test_rows_are_sent_once_and_in_their_order(volume: Volume) -> None:
    volume.write("marks.csv", "a\n")
    assert volume.new() == [("marks.csv", 0, b"a\n")]
    assert volume.new() == []
    volume.write("marks.csv", "bc")
    volume.write("tasks.csv", "t\n")
    assert volume.new() == [("marks.csv", 2, b"bc"), ("tasks.csv", 0, b"t\n")]
    volume.write("marks.csv", "\n")
    assert volume.new() == [("marks.csv", 4, b"\n")]


def test_outcomes_go_last_and_no_further_than_the_rows_that_were_there(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume.write("outcomes.csv", "r1\n")
    volume.write("log.txt", "x\n")
    take = volume.take

    def meanwhile(message: dict[str, Any], data: bytes) -> None:
        take(message, data)
        if message["name"] == "log.txt" and data == b"x\n":
            # A run ends while what came before is being sent.
            volume.write("results.csv", "r2\n")
            volume.write("outcomes.csv", "r2\n")

    monkeypatch.setattr(volume.folder, "_send", meanwhile)
    assert volume.new() == [("log.txt", 0, b"x\n"), ("outcomes.csv", 0, b"r1\n")]
    assert volume.new() == [("results.csv", 0, b"r2\n"), ("outcomes.csv", 3, b"r2\n")]


def test_a_long_file_is_sent_in_pieces(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "_PIECE_BYTES", 4)
    volume.write("objects.csv", "01\n345\n789")
    assert volume.new() == [
        ("objects.csv", 0, b"01\n3"),
        ("objects.csv", 4, b"45\n7"),
        ("objects.csv", 8, b"89"),
    ]


def test_what_are_no_rows_does_not_fill_the_disk_at_home(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "_PIECE_BYTES", 4)
    volume.write("objects.csv", "01\n3456789012")
    # Home sees that the line has no end, and is sent no more of it.
    assert volume.new() == [("objects.csv", 0, b"01\n3"), ("objects.csv", 4, b"4567")]
    volume.write("objects.csv", "\nrow\n")
    assert volume.new() == []
    # Larger than what home takes: nothing of it, however little of it there is.
    with (volume.shared / "marks.csv").open("w") as file:
        file.truncate(4 << 40)
    assert volume.new() == []


def test_a_file_that_was_cut_is_not_sent_again(volume: Volume) -> None:
    volume.write("marks.csv", "a\nb\n")
    volume.new()
    (volume.shared / "marks.csv").write_text("c\n")
    assert volume.new() == []


def test_whole_files_are_sent_again_when_they_change(volume: Volume) -> None:
    manifest = volume.shared / "manifest.json"
    manifest.write_text("{1}")
    volume.write(".sampling/inside-worker-1.json", "{}")
    first = [("manifest.json", None, b"{1}"), (".sampling/inside-worker-1.json", None, b"{}")]
    assert volume.new() == first
    assert volume.new() == []
    manifest.write_text("{12}")
    assert volume.new() == [("manifest.json", None, b"{12}")]
    # One of the same length has another time.
    manifest.write_text("{34}")
    os.utime(manifest, ns=(5, 5))
    assert volume.new() == [("manifest.json", None, b"{34}")]


def test_what_is_too_big_or_called_otherwise_stays(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "_WHOLE_BYTES", 10)
    monkeypatch.setattr(folder_module, "_MOST_REPORTS", 2)
    (volume.shared / "manifest.json").write_text("x" * 11)
    (volume.shared / "payload.bin").write_text("x")
    for name in ("c.json", "a.json", "b.json", "d.txt", "e e.json", "\N{BULLET}.json"):
        volume.write(f".sampling/{name}", "{}")
    assert [name for name, _, _ in volume.new()] == [".sampling/a.json", ".sampling/b.json"]


@pytest.mark.parametrize("kind", ["link", "second name", "fifo", "folder"])
@pytest.mark.parametrize("name", ["outcomes.csv", "marks.csv", "manifest.json", ".sampling/a.json"])
def test_what_is_no_plain_file_is_not_followed(volume: Volume, kind: str, name: str) -> None:
    secret = volume.root / "secret"
    secret.write_text("of the machine")
    path = volume.shared / name
    path.parent.mkdir(exist_ok=True)
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "second name":
        path.hardlink_to(secret)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    volume.write("tasks.csv", "t\n")
    assert volume.new() == [("tasks.csv", 0, b"t\n")]
    volume.folder.append(name, "written")
    assert secret.read_text() == "of the machine"


def test_a_folder_of_reports_that_is_a_link_is_not_followed(volume: Volume) -> None:
    (volume.root / "elsewhere").mkdir()
    (volume.root / "elsewhere" / "a.json").write_text("{}")
    (volume.shared / ".sampling").symlink_to(volume.root / "elsewhere")
    assert volume.new() == []


def test_a_line_is_added_to_what_is_there_alone(volume: Volume) -> None:
    volume.folder.append("marks.csv", ",stop,1,1\n")
    assert not (volume.shared / "marks.csv").exists()
    volume.write("marks.csv", "a\n")
    volume.folder.append("marks.csv", ",stop,1,1\n")
    assert volume.new() == [("marks.csv", 0, b"a\n,stop,1,1\n")]


def test_nothing_of_it_is_left_and_nothing_else_goes(tmp_path: Path) -> None:
    volume, other = Volume(tmp_path), tmp_path / "shared" / "topology-2"
    volume.folder.make({"plan.json": b"{}"})
    other.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (volume.shared / "link").symlink_to(outside)
    volume.write(".sampling/a.json", "{}")
    volume.folder.remove()
    for gone in (volume.shared, volume.replies.path, volume.inputs):
        assert not gone.exists()
    assert other.is_dir()
    assert (outside / "file").exists()
    # What is gone has nothing new, and can go again.
    volume.sent.clear()
    assert volume.new() == []
    volume.folder.remove()


def test_a_volume_that_has_it_already_refuses_it(volume: Volume) -> None:
    with pytest.raises(FileExistsError):
        Volume(volume.root).folder.make({})
