"""Bundles that are damaged or made to do harm: one line, and nothing left on disk."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from harness.core.errors import UsageError
from harness.reproduce import reader
from harness.reproduce.format import TOP, TRAILER_BYTES, Refused, header, trailer
from harness.reproduce.inspection import extract, inspect
from harness.reproduce.reader import opened
from harness.reproduce.text import bundle_text
from tests.bundles import forged, index_of, seal, small_bundle, unsealed

RANDOM_CHANGES = 100


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let bundles be unpacked to a place of the test's, and see that it is empty afterwards."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    assert list(place.iterdir()) == []


def refusal(path: Path, data: bytes) -> str:
    """Return the line with which these bytes are refused, and see that nothing came of them."""
    file = path / "x.tar.zst"
    file.write_bytes(data)
    with pytest.raises(Refused) as caught:
        inspect(file)
    with pytest.raises(Refused):
        extract(file, path / "out")
    assert not (path / "out").exists()
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{file}: ")
    return line


@pytest.mark.usefixtures("scratch")
def test_the_sound_one_is_not_refused(sound: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.tar.zst"
    file.write_bytes(forged(sound))
    inspect(file)
    inspect(sound)


@pytest.mark.usefixtures("scratch")
def test_every_random_change_of_a_byte_is_refused(sound: Path, tmp_path: Path) -> None:
    data = sound.read_bytes()
    random_ = random.Random(20251009)
    for _ in range(RANDOM_CHANGES):
        changed = bytearray(data)
        changed[random_.randrange(len(data))] ^= random_.randrange(1, 256)
        refusal(tmp_path, bytes(changed))


@pytest.mark.usefixtures("scratch")
def test_every_truncation_is_refused(sound: Path, tmp_path: Path) -> None:
    data = sound.read_bytes()
    random_ = random.Random(20251009)
    for length in [0, 1, TRAILER_BYTES, len(data) - 1, *random_.sample(range(len(data)), 20)]:
        assert "its end is missing" in refusal(tmp_path, data[:length])
    refusal(tmp_path, data + b"\0")


@pytest.mark.usefixtures("scratch")
def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    assert "its end is missing" in refusal(tmp_path, b"PK\3\4" + bytes(1000))
    for tar in (b"", b"text", bytes(2048)):
        assert "no bundle" in refusal(tmp_path, seal(tar))
    broken = b"no compressed data" * 9
    sealed = broken + trailer(hashlib.sha256(broken).digest())
    assert "broken" in refusal(tmp_path, sealed)
    with pytest.raises(UsageError, match="No such file"):
        inspect(tmp_path / "none.tar.zst")
    with pytest.raises(UsageError, match="Is a directory"):
        inspect(tmp_path)


@pytest.mark.usefixtures("scratch")
def test_a_newer_format_says_so(sound: Path, tmp_path: Path) -> None:
    data = bytearray(sound.read_bytes())
    data[-33] = 2
    assert "use a newer harness" in refusal(tmp_path, bytes(data))
    index = index_of(sound) | {"version": 2, "something": "new"}
    assert "has format version 2, and this harness reads 1" in refusal(
        tmp_path, forged(sound, index=index)
    )


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a named pipe"),
        (tarfile.DIRTYPE, "a directory"),
        (tarfile.GNUTYPE_SPARSE, "where its index lists"),
        (tarfile.XHDTYPE, "where its index lists"),
    ],
)
@pytest.mark.usefixtures("scratch")
def test_nothing_but_files(sound: Path, tmp_path: Path, kind: bytes, word: str) -> None:
    info = tarfile.TarInfo(f"{TOP}/run/results.csv")
    info.type, info.linkname = kind, "/etc/passwd"
    headers = {"run/results.csv": info.tobuf(tarfile.USTAR_FORMAT)}
    assert word in refusal(tmp_path, forged(sound, headers=headers))


@pytest.mark.usefixtures("scratch")
def test_headers_that_say_something_else(sound: Path, tmp_path: Path) -> None:
    outside = tarfile.TarInfo("../../etc/cron.d/x")
    data = forged(sound, headers={"run/results.csv": outside.tobuf(tarfile.USTAR_FORMAT)})
    assert "'../../etc/cron.d/x'" in refusal(tmp_path, data)
    executable = tarfile.TarInfo(f"{TOP}/run/results.csv")
    executable.mode, executable.size = 0o4755, 22
    data = forged(sound, headers={"run/results.csv": executable.tobuf(tarfile.USTAR_FORMAT)})
    assert "where its index lists" in refusal(tmp_path, data)
    data = forged(sound, headers={"run/results.csv": b"\xff" * 512})
    assert "is broken, where run/results.csv" in refusal(tmp_path, data)


@pytest.mark.parametrize("path", ["../x", "/x", "run/../../x", "run/results.csv/x", "home/x"])
@pytest.mark.usefixtures("scratch")
def test_paths_in_the_index(sound: Path, tmp_path: Path, path: str) -> None:
    index: dict[str, Any] = index_of(sound)
    index["files"].append({"path": path, "size": 0, "sha256": hashlib.sha256().hexdigest()})
    assert repr(path.rsplit("/x", 1)[0] if "csv" in path else path) in refusal(
        tmp_path, forged(sound, index=index)
    )


@pytest.mark.usefixtures("scratch")
def test_bombs(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb: dict[str, Any] = index_of(sound)
    bomb["files"][0]["size"] = 10**15
    assert "more than 200 times" in refusal(tmp_path, forged(sound, index=bomb))
    with monkeypatch.context() as lower:
        lower.setattr(reader, "MAX_FILES", len(bomb["files"]) - 1)
        assert "files; at most" in refusal(tmp_path, forged(sound))
    huge = header("bundle.json", 1 << 30) + bytes(1 << 20)
    assert "has an index of" in refusal(tmp_path, seal(huge))
    zeros = zstandard.ZstdCompressor().compress(unsealed(sound) + bytes(1 << 28))
    data = zeros + trailer(hashlib.sha256(zeros).digest())
    assert "more in it than its index lists" in refusal(tmp_path, data)
    # A frame that asks for a window of 2 GB.
    window = b"\x28\xb5\x2f\xfd\x00\xa8" + bytes(100)
    assert "broken" in refusal(tmp_path, window + trailer(hashlib.sha256(window).digest()))


@pytest.mark.usefixtures("scratch")
def test_an_index_that_does_not_fit(sound: Path, tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {"files": []},
        {"kind": "something"},
        {"more": 1},
        {"has_images": "no"},
    ]
    for change in changes:
        refusal(tmp_path, forged(sound, index=index_of(sound) | change))
    negative: dict[str, Any] = index_of(sound)
    negative["files"][0]["size"] = -1
    assert "bundle.json is wrong at files.0.size" in refusal(
        tmp_path, forged(sound, index=negative)
    )
    wrong: dict[str, Any] = index_of(sound)
    wrong["files"][-1]["sha256"] = "0" * 64
    assert "does not have the SHA-256" in refusal(tmp_path, forged(sound, index=wrong))
    more = header("run/more", 0)
    assert "more in it than" in refusal(tmp_path, forged(sound, more=[more]))
    behind = forged(sound, replaced={"run/results.csv": b"x"})
    tar = zstandard.ZstdDecompressor().decompressobj().decompress(behind[:-TRAILER_BYTES])
    smuggled = tar.replace(
        header("run/results.csv", 1) + b"x\0", header("run/results.csv", 1) + b"xx"
    )
    assert "behind the end of run/results.csv" in refusal(tmp_path, seal(smuggled))


@pytest.mark.usefixtures("scratch")
def test_claims_that_are_not_the_runs(sound: Path, tmp_path: Path) -> None:
    index: dict[str, Any] = index_of(sound)
    index["run"]["seed"] = 8
    assert "something else of its run" in refusal(tmp_path, forged(sound, index=index))
    without = {"run/manifest.json": b"{}"}
    assert "manifest.json" in refusal(tmp_path, forged(sound, replaced=without))


@pytest.mark.parametrize("name", ["", ".", "..", "../../etc", "a\0b", "/etc", "x" * 500])
@pytest.mark.usefixtures("scratch")
def test_the_name_of_a_run_is_no_path(sound: Path, tmp_path: Path, name: str) -> None:
    index: dict[str, Any] = index_of(sound)
    index["run"]["name"] = name
    file = tmp_path / "x.tar.zst"
    file.write_bytes(forged(sound, index=index))
    with opened(file) as directory:
        assert directory.parent.name.startswith("harness-bundle-")
        assert (directory / "results.csv").exists()


@pytest.mark.usefixtures("scratch")
def test_what_it_says_of_itself_cannot_move_the_cursor(sound: Path, tmp_path: Path) -> None:
    index: dict[str, Any] = index_of(sound)
    index["run"]["name"] = "\x1b[2Jcleared\nverdict: reproduced"
    file = tmp_path / "x.tar.zst"
    file.write_bytes(forged(sound, index=index))
    text = bundle_text(inspect(file))
    assert "?[2Jcleared?verdict" in text
    assert "\x1b" not in text


def blob(index: dict[str, Any], name: str) -> str:
    return f"images/blobs/{name.replace(':', '/')}"


@pytest.mark.usefixtures("scratch")
def test_images_that_are_not_what_they_say(sound: Path, tmp_path: Path) -> None:
    index: dict[str, Any] = index_of(sound)
    config, manifest = index["images"][0]["ids"]
    layer = index["images"][0]["layers"][0]
    for name, word in ((config, "does not have the id"), (layer, "does not have the id")):
        data = forged(sound, replaced={blob(index, name): b'{"rootfs": {"diff_ids": []}}'})
        assert word in refusal(tmp_path, data)
    data = forged(sound, replaced={blob(index, manifest): b"{}"})
    assert "is not what follows" in refusal(tmp_path, data)

    def images(**changes: object) -> str:
        changed = copy.deepcopy(index)
        changed["images"][0] |= changes
        return refusal(tmp_path, forged(sound, index=changed))

    assert "does not have the id" in images(ids=["sha256:" + "0" * 64, manifest])
    assert "does not have the id" in images(ids=[config, "sha256:" + "0" * 64])
    assert "does not have the id" in images(layers=[layer])
    assert "is not one of this harness" in images(reference="debian:latest")
    assert "is not one of this harness" in images(reference="workflow-memory-harness/redis:1")
    assert "is not one of this harness" in images(ids=[config])
    renamed = images(stack="redis", reference="workflow-memory-harness/redis:0123456789ab")
    assert "redis is not the one its run was made on" in renamed


@pytest.mark.usefixtures("scratch")
def test_a_layout_that_loads_something_else(sound: Path, tmp_path: Path) -> None:
    documents = {
        "images/manifest.json": [{"Config": "c", "RepoTags": ["debian:latest"], "Layers": []}],
        "images/index.json": {"schemaVersion": 2, "manifests": []},
        "images/oci-layout": {},
    }
    for name, document in documents.items():
        data = forged(sound, replaced={name: json.dumps(document).encode()})
        assert f"{name} is not what follows" in refusal(tmp_path, data)
    more: dict[str, Any] = index_of(sound)
    empty = hashlib.sha256().hexdigest()
    more["files"].append({"path": f"images/blobs/sha256/{empty}", "size": 0, "sha256": empty})
    assert "belongs to no image" in refusal(tmp_path, forged(sound, index=more))
    hidden: dict[str, Any] = index_of(sound) | {"has_images": False}
    assert "says that it has none" in refusal(tmp_path, forged(sound, index=hidden))
