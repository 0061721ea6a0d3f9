"""Images of kept variants beside the others: named, locked, verified, listed; on no engine."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.cli import images as command
from harness.core.errors import UsageError
from harness.images import Image, docker_cli, recipe, store, verify
from harness.images.build import Wanted
from harness.images.docker_cli import LocalImage
from harness.images.lock import ArchitectureLock, ImagesLock
from harness.images.oci import ImageConfig, Layer, OciImage, assemble
from harness.images.variant import Variant
from tests.stacks import write_checkout, write_index

NAMES = ["dask", "endpoint", "redis", "paper/dask", "paper/endpoint"]


def layer(path: Path, name: str, files: dict[str, bytes]) -> Layer:
    file = path / f"{name}-{abs(hash(str(files)))}.tar"
    with tarfile.open(file, "w") as tar:
        for entry, data in files.items():
            info = tarfile.TarInfo(entry)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return Layer.of(file, name)


class Engine:
    """Has all images of a checkout, each with its lock in it, but for those that it lost."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path, self.root = path, root
        self.base_recipe = recipe.base_recipe(root)
        below, reference = (layer(path, "base", {}),), self.base_recipe.local_reference
        self.base = assemble(reference, below, ImageConfig("amd64"), 0, ())
        self.bits = b""
        self.built: list[str] = []
        self.tagged: list[str] = []
        items = store.wanted_images(root, NAMES, self.base.reference, self.base.layer_digests)
        self.items = {item.reference: item for item in items.values()}

    def image(self, item: Wanted) -> OciImage:
        files = {"opt/venv/requirements.lock": item.files["requirements.lock"] + self.bits}
        layers = [layer(self.path, "venv", files), layer(self.path, "harness", {})]
        return assemble(item.reference, layers, ImageConfig("amd64"), 0, self.base.layers)

    def build_image(self, item: Wanted, *_: object, **_more: object) -> OciImage:
        self.built.append(item.reference)
        return self.image(item)

    def save(self, references: Sequence[str], _: Path) -> list[OciImage]:
        bits, self.bits = self.bits, b""
        found = [
            self.base if r == self.base.reference else self.image(self.items[r]) for r in references
        ]
        self.bits = bits
        return found

    def inspect(self, references: Sequence[str]) -> list[LocalImage]:
        return [
            LocalImage("sha256:" + "a" * 64, 1, (name,), {}, self.base.layer_digests)
            for name in references
            if name in self.items or name == self.base.reference
        ]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    index = tmp_path / "index"
    write_index(index)
    root = write_checkout(tmp_path / "checkout", index)
    monkeypatch.setattr(recipe, "repository_root", lambda: root)
    monkeypatch.delenv("BASE_IMAGE", raising=False)
    found = Engine(tmp_path, root)

    @contextmanager
    def lock(*_: object) -> Iterator[Path]:
        yield tmp_path

    monkeypatch.setattr(docker_cli, "inspect", found.inspect)
    monkeypatch.setattr(docker_cli, "find", lambda name: next(iter(found.inspect([name])), None))
    monkeypatch.setattr(docker_cli, "tag", lambda _, name: found.tagged.append(name))
    monkeypatch.setattr(verify, "build_lock", lock)
    monkeypatch.setattr(verify, "ensure_base", lambda *_: (found.base.reference, None))
    monkeypatch.setattr(verify, "make_base", lambda *_: found.base)
    monkeypatch.setattr(verify, "save", found.save)
    monkeypatch.setattr(verify, "build_image", found.build_image)
    return found


def silent(_: str) -> None:
    """Say nothing."""


def entries(engine: Engine) -> dict[str, Any]:
    document = json.loads((engine.root / "images.lock").read_text())
    (architecture,) = document["architectures"].values()
    found: dict[str, Any] = architecture["stacks"]
    return found


def test_kept_variants_have_images_by_their_names(engine: Engine) -> None:
    assert store.known_images() == NAMES
    found = store.ensure_images(["paper/dask", "dask", "paper/dask"], silent)
    assert list(found) == ["paper/dask", "dask"]
    assert found["dask"].reference != found["paper/dask"].reference
    items = store.wanted_images(engine.root, NAMES, "base", ("sha256:1",))
    assert list(items) == NAMES
    own = (engine.root / "images" / "stacks" / "paper" / "dask.lock").read_bytes()
    assert items["paper/dask"].files["requirements.lock"] == own
    assert items["paper/dask"].latest is None
    assert engine.tagged == ["workflow-memory-harness/dask:latest"]
    for name in ("paper", "paper/redis", "none/dask", "/dask", "paper/../dask", "dask/"):
        with pytest.raises(UsageError, match="one of dask, endpoint, redis, paper/dask"):
            store.ensure_images([name], silent)


def test_they_are_locked_beside_the_others(engine: Engine) -> None:
    verify.lock(NAMES, silent)
    first = entries(engine)
    assert sorted(first) == sorted(NAMES)
    assert len({entry["id"] for entry in first.values()}) == 5
    assert len({entry["requirements"] for entry in first.values()}) == 5
    # One alone leaves the others; what is not there any more goes.
    path = engine.root / "images.lock"
    read = ImagesLock.read(path)
    (name,) = read.architectures
    old = read.architectures[name]
    gone = ArchitectureLock(base=old.base, stacks={**old.stacks, "gone/dask": old.stacks["dask"]})
    read.with_architecture(name, gone).write(path)
    verify.lock(["paper/dask"], silent)
    assert entries(engine) == first


def test_a_lock_without_them_is_still_one(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    verify.lock(["dask", "endpoint", "redis"], silent)
    assert sorted(entries(engine)) == ["dask", "endpoint", "redis"]
    words = {each.stack: each.lock for each in verify.verify(NAMES, silent)}
    assert words == {
        "base": "as locked",
        "dask": "as locked",
        "endpoint": "as locked",
        "redis": "as locked",
        "paper/dask": "not locked: its files have changed",
        "paper/endpoint": "not locked: its files have changed",
    }


def test_they_are_verified_like_the_others(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["lock"]) == 0
    assert command.main(["verify", "--locked"]) == 0
    table = capsys.readouterr().out
    for name in ["base", *NAMES]:
        assert f"\n{name} " in table
    assert table.count("as locked") == 6
    assert len(engine.built) == 5
    engine.bits = b"other"
    assert command.main(["verify", "paper/dask"]) == 1
    said = capsys.readouterr().out
    assert "paper/dask: two builds differ: layer venv: /opt/venv/requirements.lock" in said
    assert "DIFFERS from images.lock" in said


def test_what_is_built(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []
    other = Variant(("proxystore==2",), "3.13", {"endpoint": b"", "dask": b""}, (), tmp_path)

    def find(words: Sequence[str], python: str | None, stacks: Sequence[str], _: object) -> Variant:
        asked.append((list(words), python, list(stacks)))
        return other

    def ensure(stacks: Sequence[str], _: object, __: object, variant: object) -> dict[str, Image]:
        asked.append((list(stacks), variant))
        return {}

    monkeypatch.setattr(command, "find", find)
    monkeypatch.setattr(command, "ensure", ensure)
    assert command.main(["build", "--stack", "proxystore==2", "--stack", "x==1"]) == 0
    assert command.main(["build", "redis", "--python", "3.11"]) == 0
    all_of_them = ["dask", "endpoint", "redis"]
    assert asked == [
        (["proxystore==2", "x==1"], None, all_of_them),
        (["dask", "endpoint"], other),
        ([], "3.11", ["redis"]),
        (["redis"], other),
    ]

    def ensure_images(names: Sequence[str], *_: object) -> dict[str, Image]:
        asked.append(names)
        return {}

    monkeypatch.setattr(command, "ensure_images", ensure_images)
    for words in ([], ["build"], ["build", "paper/dask"]):
        assert command.main(words) == 0
    assert asked[4:] == [all_of_them, all_of_them, ["paper/dask"]]


def test_a_list_says_what_each_is_of(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [
        Image(name, reference, "sha256:" + "a" * 64, 1_000_000)
        for name, reference in [
            ("base", engine.base.reference),
            *((item.stack, reference) for reference, item in engine.items.items()),
            ("dask", "workflow-memory-harness/dask:000000000000"),
        ]
    ]
    monkeypatch.setattr(command, "installed", lambda: found)
    assert command.main(["list"]) == 0
    rows = [line.split("MB")[1].strip() for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == [
        "this checkout",
        "this checkout",
        "this checkout",
        "this checkout",
        "paper",
        "paper",
        "another",
    ]


def test_wrong_names_are_refused(engine: Engine) -> None:
    refused: list[Callable[[], object]] = [
        lambda: command.main(["verify", "none"]),
        lambda: command.main(["lock", "paper"]),
        lambda: command.main(["build", "paper/redis"]),
    ]
    for call in refused:
        with pytest.raises(UsageError, match="unknown image"):
            call()
