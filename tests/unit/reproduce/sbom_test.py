"""A bill of materials lists what an image itself says that it holds."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from harness.images.oci import ImageConfig, Layer, OciImage, assemble
from harness.reproduce.crate import sbom

METADATA = "opt/venv/lib/python3.13/site-packages/{}.dist-info/METADATA"
FILES = {
    "usr/share/base-packages.txt": "libc6:amd64\t2.41-12\nbash\t5.2\n",
    METADATA.format(
        "dask-2026.8.0"
    ): "Name: dask\nVersion: 2026.8.0\nLicense-Expression: BSD-3-Clause\n",
    METADATA.format("proxystore-1.1"): "Name: proxystore\nVersion: 1.1\nLicense: many\n lines\n",
    "opt/venv/lib/python3.13/site-packages/dask/METADATA": "Name: not-a-distribution\n",
}


def image(tmp_path: Path) -> OciImage:
    path = tmp_path / "layer.tar"
    with tarfile.open(path, "w") as tar:
        for name, text in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return assemble("p/dask:1", [Layer.of(path, "all")], ImageConfig("amd64"), 0, [])


def test_it_lists_packages_and_distributions(tmp_path: Path) -> None:
    bill = json.loads(sbom("dask", image(tmp_path)))
    purls = {component["purl"]: component for component in bill["components"]}
    assert set(purls) == {
        "pkg:deb/debian/bash@5.2?arch=amd64&distro=debian-13",
        "pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=debian-13",
        "pkg:pypi/dask@2026.8.0",
        "pkg:pypi/proxystore@1.1",
    }
    dask = purls["pkg:pypi/dask@2026.8.0"]
    assert dask["licenses"] == [{"license": {"name": "BSD-3-Clause"}}]
    assert "licenses" not in purls["pkg:pypi/proxystore@1.1"]
    made = image(tmp_path)
    assert bill["metadata"]["component"]["bom-ref"] == made.manifest_digest
    assert bill["metadata"]["component"]["hashes"][0]["content"] == made.id[7:]


def test_it_is_the_same_twice(tmp_path: Path) -> None:
    assert sbom("dask", image(tmp_path)) == sbom("dask", image(tmp_path))
