"""Small bundles for tests: a run directory of a few bytes, on an image of a few more."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Sequence
from pathlib import Path

import zstandard

from harness.images.oci import ImageConfig, Layer, OciImage, assemble
from harness.reproduce import images as bundled
from harness.reproduce.crate import claims, read_manifest
from harness.reproduce.format import (
    CRATE,
    INDEX,
    RUN,
    SUMS,
    TOP,
    TRAILER_BYTES,
    BundleIndex,
    FileEntry,
    end_of_tar,
    header,
    padding,
    sums,
    trailer,
)
from harness.reproduce.writer import Content, write_bundle

REFERENCE = "workflow-memory-harness/dask:0123456789ab"


def run_directory(path: Path, image: OciImage, **changes: object) -> Path:
    """Write what pack needs of a run directory."""
    path.mkdir(parents=True)
    plan = {
        "executor_name": "dask",
        "connector_name": "file",
        "workload": {"modes": ["none"], "seed": 7},
        "general": {"repeat": 1},
    }
    manifest = {
        "schema_version": 1,
        "harness_version": "0.1.0",
        "git_revision": "0" * 40,
        "plan": plan,
        "images": {"dask": {"reference": REFERENCE, "id": image.id, "layers": image.layer_digests}},
    }
    (path / "manifest.json").write_text(json.dumps(manifest | changes))
    (path / "marks.csv").write_text(
        "run_id,mark,t_mono_ns,t_unix_ns\n"
        "0001-none-1,start,1,1760000000000000000\n0001-none-1,end,2,1760000004000000000\n"
    )
    (path / "results.csv").write_text("executor\nDaskExecutor\n")
    (path / "outcomes.csv").write_text(
        "run_id,data_management,repetition,outcome,reason,service\n0001-none-1,none,1,ok,,\n"
    )
    (path / "logs").mkdir()
    (path / "logs" / "runner-1.log").write_bytes(random.Random(1).randbytes(3000))
    return path


def small_image(path: Path) -> OciImage:
    """Return an image of two layers."""
    layers = []
    for name in ("base", "harness"):
        file = path / f"{name}.tar"
        with tarfile.open(file, "w") as tar:
            info = tarfile.TarInfo(f"{name}.txt")
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
        layers.append(Layer.of(file, name))
    return assemble(REFERENCE, layers[1:], ImageConfig("amd64"), 1760000000, layers[:1])


def bundle_files(directory: Path, image: OciImage) -> dict[str, Content]:
    """Return the files of a bundle of a run directory."""
    files: dict[str, Content] = {
        f"{RUN}/{path.relative_to(directory)}": path
        for path in directory.rglob("*")
        if path.is_file()
    }
    return files | bundled.layout([image]) | {CRATE: b"{}\n"}


def small_bundle(path: Path, name: str = "x.tar.zst") -> Path:
    """Write a sound bundle with one image."""
    image = small_image(path)
    directory = run_directory(path / "run", image)
    manifest = read_manifest(directory)
    entries = [bundled.entry_of(entry, image) for entry in bundled.recorded(manifest)]
    target = path / name
    write_bundle(
        target,
        bundle_files(directory, image),
        claims("run", directory, manifest),
        entries,
        has_images=True,
    )
    return target


def seal(data: bytes) -> bytes:
    """Compress a tar and put the right SHA-256 behind it, as an attacker would."""
    compressed = zstandard.ZstdCompressor(level=1).compress(data)
    return compressed + trailer(hashlib.sha256(compressed).digest())


def unsealed(bundle: Path) -> bytes:
    """Return the tar in a bundle."""
    compressed = bundle.read_bytes()[:-TRAILER_BYTES]
    return zstandard.ZstdDecompressor().decompressobj().decompress(compressed)


def index_of(bundle: Path) -> dict[str, object]:
    """Return a bundle's index, to be changed."""
    with tarfile.open(fileobj=io.BytesIO(unsealed(bundle))) as tar:
        file = tar.extractfile(f"{TOP}/{INDEX}")
        assert file is not None
        found = json.load(file)
        assert isinstance(found, dict)
        return found


def forged(
    bundle: Path,
    *,
    index: dict[str, object] | None = None,
    replaced: dict[str, bytes] | None = None,
    headers: dict[str, bytes] | None = None,
    more: Sequence[bytes] = (),
) -> bytes:
    """Return a bundle whose index, hashes and trailer fit what was changed in it.

    Args:
        bundle: a sound one.
        index: instead of its index; files that it lists and the bundle has not are empty.
        replaced: other contents of some files.
        headers: other tar headers of some files.
        more: what follows the last file.
    """
    contents: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(unsealed(bundle))) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            contents[member.name.removeprefix(f"{TOP}/")] = file.read()
    contents |= replaced or {}
    document = index or index_of(bundle)
    for name, data in (replaced or {}).items():
        entry = FileEntry(path=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        files = document["files"]
        assert isinstance(files, list)
        document["files"] = [entry.model_dump() if f["path"] == name else f for f in files]
    try:
        text = BundleIndex.model_validate(document).to_json()
    except ValueError:
        text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    listed = document["files"]
    assert isinstance(listed, list)
    entries = [FileEntry(**{**f, "size": max(f["size"], 0)}) for f in listed]
    digests = sums(text, entries, hashlib.sha256(text).hexdigest())
    parts = []
    for name, data in ((INDEX, text), (SUMS, digests)):
        parts += [header(name, len(data)), data, padding(len(data))]
    for entry in entries:
        data = contents.get(entry.path, b"")
        parts += [(headers or {}).get(entry.path) or header(entry.path, len(data))]
        parts += [data, padding(len(data))]
    return seal(b"".join([*parts, *more, end_of_tar()]))
