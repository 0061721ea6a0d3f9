"""A bundle is the same bytes for the same files, and any tar unpacks it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.core import interrupt
from harness.core.errors import UsageError
from harness.reproduce.format import TOP, Refused, check_paths
from harness.reproduce.inspection import extract, inspect
from harness.reproduce.pack import pack
from harness.reproduce.reader import opened, opened_bundle
from harness.reproduce.text import bundle_text
from tests.bundles import REFERENCE, run_directory, small_bundle, small_image


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return small_bundle(tmp_path)


def test_the_same_files_are_the_same_bytes(tmp_path: Path) -> None:
    found = []
    for name in ("one", "other"):
        place = tmp_path / name
        place.mkdir()
        bundle = small_bundle(place)
        for path in place.rglob("*"):
            os.utime(path, (1, 1))
        found.append(bundle.read_bytes())
    assert found[0] == found[1]


def test_what_is_unpacked_is_what_was_packed(bundle: Path, tmp_path: Path) -> None:
    with opened_bundle(bundle, lambda _: True) as found:
        assert found.sha256 == hashlib.sha256(bundle.read_bytes()).hexdigest()
        assert found.size_bytes == bundle.stat().st_size
        for path in (tmp_path / "run").rglob("*.csv"):
            assert found.file(f"run/{path.name}").read_bytes() == path.read_bytes()
        place = found.path
    assert not place.exists()


def test_only_what_was_selected_is_written(bundle: Path) -> None:
    with opened_bundle(bundle, lambda name: name == "run/marks.csv") as found:
        written = [path.name for path in found.path.rglob("*") if path.is_file()]
    assert written == ["marks.csv"]


def test_tar_and_sha256sum_read_it(bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "unpacked"
    place.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", bundle, "-C", place], check=True)
    check = ["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"]
    subprocess.run(check, cwd=place / TOP, check=True)


def test_inspect_says_what_it_is(bundle: Path) -> None:
    found = inspect(bundle)
    text = bundle_text(found)
    assert found.sha256 in text
    assert "dask" in text
    assert small_ids(found.index.images[0].ids) in text
    assert found.index.run.seed == 7
    assert found.index.run.started == "2025-10-09T08:53:20+00:00"


def small_ids(ids: list[str]) -> str:
    return " or ".join(ids)


def test_commands_get_its_run_directory(bundle: Path, tmp_path: Path) -> None:
    with opened(bundle) as directory:
        assert directory.name == "run"
        assert (directory / "results.csv").read_text() == "executor\nDaskExecutor\n"
        assert not (directory.parent / "images").exists()
    assert not directory.exists()
    with opened(tmp_path / "run") as directory:
        assert directory == tmp_path / "run"


def test_extract_makes_a_new_directory(bundle: Path, tmp_path: Path) -> None:
    extract(bundle, tmp_path / "new")
    assert (tmp_path / "new" / "run" / "manifest.json").exists()
    with pytest.raises(UsageError, match="exists"):
        extract(bundle, tmp_path / "new")


def test_pack_without_images(tmp_path: Path) -> None:
    directory = run_directory(tmp_path / "run", small_image(tmp_path))
    said: list[str] = []
    one = pack(directory, tmp_path / "a.tar.zst", said.append, with_images=False)
    other = pack(directory, tmp_path / "b.tar.zst", said.append, with_images=False)
    assert one.sha256 == other.sha256
    assert one.images == 0
    index = inspect(one.path).index
    assert not index.has_images
    assert [entry.reference for entry in index.images] == [REFERENCE]
    assert "ro-crate-metadata.json" in index.paths


def test_the_calibration_goes_with_the_run(tmp_path: Path) -> None:
    directory = run_directory(tmp_path / "run", small_image(tmp_path))
    (tmp_path / "calibration.json").write_text('{"of": "this machine"}')
    target = tmp_path / "a.tar.zst"
    pack(directory, target, print, with_images=False)
    with opened(target) as found:
        assert (found / "calibration.json").read_text() == '{"of": "this machine"}'


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("inspect none.tar.zst", "none.tar.zst: No such file"),
        ("inspect .", "Is a directory"),
        ("reproduce none.tar.zst", "none.tar.zst: No such file"),
        ("reproduce x --threshold -1", "--threshold"),
        ("reproduce x --threshold nan", "--threshold"),
        ("pack none -o x", "none: has no manifest.json"),
        ("pack none", "-o/--output"),
        ("compare none.tar.zst none.tar.zst", "none.tar.zst: not a directory"),
    ],
)
def test_the_commands_refuse_in_one_line(
    line: str,
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(interrupt, "install", lambda: None)  # this process has its own
    assert main(line.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert word in shown.err


def test_pack_refuses_in_one_line(tmp_path: Path) -> None:
    directory = run_directory(tmp_path / "run", small_image(tmp_path))
    target = tmp_path / "a.tar.zst"
    with pytest.raises(UsageError, match=r"manifest\.json"):
        pack(tmp_path / "nothing", target, print)
    with pytest.raises(UsageError, match="is in the run directory"):
        pack(directory, directory / "x.tar.zst", print)
    (directory / "link").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="link: is neither a file nor a directory"):
        pack(directory, target, print, with_images=False)
    (directory / "link").unlink()
    (directory / "marks.csv").unlink()
    with pytest.raises(UsageError, match=r"marks\.csv"):
        pack(directory, target, print, with_images=False)
    target.touch()
    with pytest.raises(UsageError, match=r"--output .*exists"):
        pack(directory, target, print, with_images=False)
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/etc/passwd", "leaves"),
        ("run/../../etc/passwd", "leaves"),
        ("run\\..\\x", "leaves"),
        ("run/./x", "not one that a bundle can have"),
        ("run//x", "not one that a bundle can have"),
        ("run/\x1b[2J", "not one that a bundle can have"),
        ("run/été.csv", "not one that a bundle can have"),
        ("elsewhere/x", "no part of a bundle"),
        ("run", "no part of a bundle"),
        ("bundle.json", "no part of a bundle"),
    ],
)
def test_paths_that_are_refused(path: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        check_paths([path])


def test_paths_that_meet_are_refused() -> None:
    with pytest.raises(Refused, match="twice"):
        check_paths(["run/a", "run/a"])
    with pytest.raises(Refused, match="a file and a directory"):
        check_paths(["run/a", "run/a/b"])
