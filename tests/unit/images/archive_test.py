"""The same content is the same bytes, whoever packed it."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from harness.images.archive import canonical_tar, files_tar, top_level
from harness.images.oci import ImageConfig, Layer, assemble, write_archive

EPOCH = 1760000000


@dataclass(frozen=True)
class Entry:
    name: str
    type: bytes = tarfile.REGTYPE
    content: bytes = b""
    linkname: str = ""
    mode: int = 0o644
    mtime: int = EPOCH + 5
    uid: int = 0
    uname: str = ""


TREE = [
    Entry("usr", tarfile.DIRTYPE, mode=0o755),
    Entry("usr/bin", tarfile.DIRTYPE, mode=0o755),
    Entry("usr/bin/perl", content=b"perl", mode=0o755),
    Entry("usr/bin/perl5", tarfile.LNKTYPE, linkname="usr/bin/perl", mode=0o755),
    Entry("usr/bin/sh", tarfile.SYMTYPE, linkname="dash", mode=0o777),
    Entry("usr/lib", tarfile.DIRTYPE, mode=0o755),
    Entry("usr/lib-old", content=b"older", mtime=EPOCH - 7),
    Entry("usr/lib/" + "deep/" * 30 + "file", content=b"long name"),
]


def pack(entries: list[Entry], tar_format: int = tarfile.GNU_FORMAT) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.type, info.linkname, info.mode = entry.type, entry.linkname, entry.mode
            info.mtime, info.uid, info.uname = entry.mtime, entry.uid, entry.uname
            info.size = len(entry.content)
            tar.addfile(info, io.BytesIO(entry.content))
    buffer.seek(0)
    return buffer


def canonical(source: io.BytesIO) -> bytes:
    target = io.BytesIO()
    canonical_tar(source, target, EPOCH)
    return target.getvalue()


def read(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member for member in tar}


def content(data: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read()


def test_times_formats_names_and_prefixes_do_not_matter() -> None:
    expected = canonical(pack(TREE))
    later = [replace(e, mtime=max(e.mtime, EPOCH + 999)) if e.mtime > EPOCH else e for e in TREE]
    assert canonical(pack(later)) == expected
    assert canonical(pack(TREE, tarfile.PAX_FORMAT)) == expected
    assert canonical(pack([replace(e, uname="root") for e in TREE])) == expected
    dotted = [
        replace(
            e,
            name=f"./{e.name}",
            linkname=f"./{e.linkname}" if e.type == tarfile.LNKTYPE else e.linkname,
        )
        for e in TREE
    ]
    assert canonical(pack([Entry("./", tarfile.DIRTYPE, mode=0o755), *dotted])) == expected


def test_order_does_not_matter() -> None:
    expected = canonical(pack(TREE))
    shuffled = list(TREE)
    random.Random(1).shuffle(shuffled)
    assert canonical(pack(shuffled)) == expected


def test_it_is_its_own_canonical_form() -> None:
    once = canonical(pack(TREE))
    assert canonical(io.BytesIO(once)) == once


@pytest.mark.parametrize(
    "changed",
    [
        replace(TREE[2], content=b"ruby"),
        replace(TREE[2], mode=0o700),
        replace(TREE[2], uid=7),
        replace(TREE[6], mtime=EPOCH - 8),
    ],
)
def test_content_matters(changed: Entry) -> None:
    other = [changed if e.name == changed.name else e for e in TREE]
    assert canonical(pack(other)) != canonical(pack(TREE))


def test_what_is_kept() -> None:
    members = read(canonical(pack(TREE)))
    assert list(members) == sorted((e.name for e in TREE), key=lambda name: name.split("/"))
    assert members["usr/bin/sh"].issym()
    assert members["usr/bin/sh"].linkname == "dash"
    assert members["usr/lib-old"].mtime == EPOCH - 7
    assert members["usr/bin/perl"].mtime == EPOCH
    assert members["usr/bin/perl"].mode == 0o755


def test_the_first_of_hard_links_holds_the_data() -> None:
    result = canonical(
        pack(
            [
                Entry("z", content=b"shared", mode=0o755),
                Entry("b", tarfile.LNKTYPE, linkname="z"),
                Entry("a", tarfile.LNKTYPE, linkname="z"),
            ]
        )
    )
    members = read(result)
    assert members["a"].isreg()
    assert [members[name].linkname for name in ("b", "z")] == ["a", "a"]
    assert members["z"].mode == members["a"].mode == 0o755
    assert content(result, "z") == b"shared"


def test_files_tar_depends_on_the_files_alone() -> None:
    one = files_tar({"b": b"2", "a/c": b"1"}, EPOCH)
    assert one == files_tar({"a/c": b"1", "b": b"2"}, EPOCH)
    assert list(read(one)) == ["a/c", "b"]
    assert content(one, "a/c") == b"1"
    assert one != files_tar({"a/c": b"1", "b": b"3"}, EPOCH)


def test_a_directory_becomes_a_root_of_its_own() -> None:
    entries = [
        Entry("1-none", tarfile.DIRTYPE, mode=0o755),
        Entry("2-some", tarfile.DIRTYPE, mode=0o755),
        Entry("2-some/b", content=b"data"),
        Entry("2-some/a", tarfile.LNKTYPE, linkname="2-some/b"),
        Entry("file", content=b"at the top"),
    ]
    source = pack(entries)
    assert top_level(source) == {"1-none": False, "2-some": True}
    target = io.BytesIO()
    canonical_tar(source, target, EPOCH, below="2-some")
    members = read(target.getvalue())
    assert list(members) == ["a", "b"]
    assert members["b"].linkname == "a"
    assert content(target.getvalue(), "a") == b"data"


CONFIG = ImageConfig("amd64", {"PATH": "/bin"}, {"title": "base"}, user="1:1", command=["python"])


def image(tmp_path: Path) -> tuple[bytes, str]:
    base, own = tmp_path / "base.tar", tmp_path / "own.tar"
    base.write_bytes(canonical(pack(TREE)))
    own.write_bytes(canonical(pack(TREE[:3])))
    below = [Layer.of(base, "Debian packages")]
    made = assemble("project/a:1", [Layer.of(own, "venv")], CONFIG, EPOCH, below)
    other = assemble("project/base:1", [], CONFIG, EPOCH, below)
    target = io.BytesIO()
    write_archive(target, [made, other], EPOCH)
    return target.getvalue(), made.id


def document(archive: bytes, name: str) -> Any:
    return json.loads(content(archive, name))


def blob(archive: bytes, digest: str) -> bytes:
    return content(archive, f"blobs/{digest.replace(':', '/')}")


def test_archive_is_an_oci_layout(tmp_path: Path) -> None:
    archive, _ = image(tmp_path)
    assert document(archive, "oci-layout") == {"imageLayoutVersion": "1.0.0"}
    entries = document(archive, "index.json")["manifests"]
    names = [entry["annotations"]["io.containerd.image.name"] for entry in entries]
    assert names == ["docker.io/project/a:1", "docker.io/project/base:1"]
    for entry in entries:
        manifest_blob = blob(archive, entry["digest"])
        assert len(manifest_blob) == entry["size"]
        manifest = json.loads(manifest_blob)
        for descriptor in [manifest["config"], *manifest["layers"]]:
            data = blob(archive, descriptor["digest"])
            assert len(data) == descriptor["size"]
            assert f"sha256:{hashlib.sha256(data).hexdigest()}" == descriptor["digest"]


def test_archive_is_a_docker_archive(tmp_path: Path) -> None:
    archive, image_id = image(tmp_path)
    entry, _ = document(archive, "manifest.json")
    assert entry["RepoTags"] == ["project/a:1"]
    config_blob = content(archive, entry["Config"])
    assert f"sha256:{hashlib.sha256(config_blob).hexdigest()}" == image_id
    config = json.loads(config_blob)
    assert config["created"] == "2025-10-09T08:53:20Z"
    assert config["config"] == {
        "Cmd": ["python"],
        "Env": ["PATH=/bin"],
        "Labels": {"title": "base"},
        "User": "1:1",
    }
    assert [step["created_by"] for step in config["history"]] == ["Debian packages", "venv"]
    diff_ids = [
        f"sha256:{hashlib.sha256(content(archive, n)).hexdigest()}" for n in entry["Layers"]
    ]
    assert config["rootfs"] == {"type": "layers", "diff_ids": diff_ids}


def test_a_shared_layer_is_in_an_archive_once(tmp_path: Path) -> None:
    names = list(read(image(tmp_path)[0]))
    assert len(names) == len(set(names)) == 3 + 2 + 2 + 2


def test_archive_is_the_same_twice(tmp_path: Path) -> None:
    assert image(tmp_path) == image(tmp_path)
