"""Packages at hand as a source for apt; images as different engines save them; registries."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from harness.core.errors import InfrastructureError, UsageError
from harness.images.archive import read_docker_archive
from harness.images.oci import ImageConfig, Layer, OciImage, assemble, file_digest
from harness.images.packages import make_repository, packages_in
from harness.images.registry import pull, push

CONTROL = """\
Package: {0}
Version: 1
Architecture: amd64
Maintainer: nobody
Description: for a test
"""


def deb(path: Path, name: str) -> Path:
    tree = path / name
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(CONTROL.format(name))
    target = path / f"{name}_1_amd64.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(target)]
    subprocess.run(command, check=True, capture_output=True)
    return target


def test_a_repository_of_packages(tmp_path: Path) -> None:
    debs = [deb(tmp_path, name) for name in ("b", "a")]
    made = make_repository(debs, tmp_path / "repository", "trixie", "amd64")
    assert made.source("trixie") == f"deb [trusted=yes] copy:{tmp_path}/repository trixie main"
    folder = made.path / "dists" / "trixie" / "main" / "binary-amd64"
    index = (folder / "Packages").read_text()
    assert index.index("Package: a") < index.index("Package: b")
    assert f"SHA256: {file_digest(debs[1])[7:]}" in index
    assert gzip.decompress((folder / "Packages.gz").read_bytes()).decode() == index
    release = (made.path / "dists" / "trixie" / "Release").read_text()
    assert file_digest(folder / "Packages")[7:] in release
    assert (made.path / "pool" / "a_1_amd64.deb").read_bytes() == debs[1].read_bytes()


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.deb").write_text("no package")
    with pytest.raises(UsageError, match="is not a Debian package"):
        make_repository([tmp_path / "x.deb"], tmp_path / "r", "trixie", "amd64")
    with pytest.raises(UsageError, match="no Debian packages"):
        make_repository([], tmp_path / "s", "trixie", "amd64")
    with pytest.raises(UsageError, match="--packages"), packages_in(tmp_path):
        pass


def image(tmp_path: Path) -> OciImage:
    path = tmp_path / "layer.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("file"))
    return assemble("p/dask:1", [Layer.of(path, "all")], ImageConfig("amd64"), 0, [])


def archive(tmp_path: Path, made: OciImage, *, link: bool = False, layer: bytes = b"") -> Path:
    """Write an archive as an engine's ``save`` does."""
    data = layer or made.layers[0].path.read_bytes()
    files = {"config.json": made.config, "one/layer.tar": data}
    entry = {"Config": "config.json", "RepoTags": [made.reference], "Layers": ["one/layer.tar"]}
    target = tmp_path / "save.tar"
    with tarfile.open(target, "w") as tar:
        if link:
            info = tarfile.TarInfo("two/layer.tar")
            info.type, info.linkname = tarfile.SYMTYPE, "../one/layer.tar"
            tar.addfile(info)
            entry["Layers"] = ["two/layer.tar"]
        files["manifest.json"] = json.dumps([entry]).encode()
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return target


@pytest.mark.parametrize("shape", ["plain", "link", "gzip"])
def test_an_image_comes_out_as_it_went_in(tmp_path: Path, shape: str) -> None:
    made = image(tmp_path)
    packed = gzip.compress(made.layers[0].path.read_bytes()) if shape == "gzip" else b""
    saved = archive(tmp_path, made, link=shape == "link", layer=packed)
    out = tmp_path / "out"
    out.mkdir()
    (found,) = read_docker_archive(saved, [made.reference], out)
    assert (found.id, found.manifest_digest) == (made.id, made.manifest_digest)
    assert found.layers[0].created_by == "all"
    assert found.layers[0].path.read_bytes() == made.layers[0].path.read_bytes()


def test_a_layer_with_other_content_is_refused(tmp_path: Path) -> None:
    made = image(tmp_path)
    saved = archive(tmp_path, made, layer=bytes(1024))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InfrastructureError, match="other content than its name says"):
        read_docker_archive(saved, [made.reference], out)
    assert list(out.iterdir()) == []
    with pytest.raises(InfrastructureError, match="instead of p/other:1"):
        read_docker_archive(saved, ["p/other:1"], out)


@pytest.mark.parametrize("name", ["", "http://x", "x y", "-o", "a@b", "../x"])
def test_what_is_no_registry_is_refused(name: str) -> None:
    for call in (push, pull):
        with pytest.raises(UsageError, match="is not a registry"):
            call(name, ["redis"], print)
