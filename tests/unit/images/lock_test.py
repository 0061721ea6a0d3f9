"""What is locked, and what a change of the package, of a recipe or of a mirror means for it."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.images.lock import (
    AS_LOCKED,
    DIFFERS,
    NOT_LOCKED,
    OTHER_PACKAGES,
    PACKAGE_CHANGED,
    ArchitectureLock,
    ImagesLock,
    LockedImage,
    changed_packages,
    judge,
    lock_stack,
)
from harness.images.oci import ImageConfig, Layer, OciImage, assemble
from harness.images.verify import first_difference

FILES = {"requirements.lock": b"dask==1", "harness/plan.py": b"1"}
VENV = {
    "opt/venv/a.py": (b"a", 0o644),
    "usr/share/harness/debian-packages.txt": (b"redis 5:8\n", 0o644),
}


def layer(path: Path, name: str, files: dict[str, tuple[bytes, int]]) -> Layer:
    file = path / f"{name}-{abs(hash(str(files)))}.tar"
    with tarfile.open(file, "w") as tar:
        for entry, (data, mode) in files.items():
            info = tarfile.TarInfo(entry)
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))
    return Layer.of(file, name)


def image(
    path: Path, venv: dict[str, tuple[bytes, int]] = VENV, plan: bytes = b"1", user: str = ""
) -> OciImage:
    layers = [layer(path, "venv", venv), layer(path, "harness", {"plan.py": (plan, 0o644)})]
    return assemble(
        "p/dask:1", layers, ImageConfig("amd64", user=user), 0, [layer(path, "base", {})]
    )


def entry(made: OciImage, files: dict[str, bytes] | None = None) -> LockedImage:
    return lock_stack(made, files or FILES, 1)


def test_the_same_files_are_the_same_image(tmp_path: Path) -> None:
    locked = entry(image(tmp_path))
    assert [item.name for item in locked.layers] == ["venv", "harness"]
    assert locked.packages == {"redis": "5:8"}
    assert judge(entry(image(tmp_path)), locked) == AS_LOCKED
    assert judge(locked, None) == NOT_LOCKED


def test_the_same_files_with_other_bits_differ(tmp_path: Path) -> None:
    locked = entry(image(tmp_path))
    other = image(tmp_path, VENV | {"opt/venv/a.py": (b"b", 0o644)})
    assert judge(entry(other), locked) == DIFFERS
    assert judge(entry(image(tmp_path, plan=b"2")), locked) == DIFFERS
    configured = entry(image(tmp_path, user="0:0"))
    assert judge(configured, locked) == DIFFERS
    # On another base the id is another, and only the own layers can be compared.
    assert judge(configured, locked, base_as_locked=False) == AS_LOCKED


def test_a_changed_package_leaves_the_other_layers_locked(tmp_path: Path) -> None:
    locked = entry(image(tmp_path))
    changed = FILES | {"harness/plan.py": b"2"}
    assert judge(entry(image(tmp_path, plan=b"2"), changed), locked) == PACKAGE_CHANGED
    other = image(tmp_path, VENV | {"opt/venv/a.py": (b"b", 0o644)}, plan=b"2")
    assert judge(entry(other, changed), locked) == DIFFERS


def test_a_changed_recipe_is_not_locked(tmp_path: Path) -> None:
    changed = FILES | {"requirements.lock": b"dask==2"}
    assert judge(entry(image(tmp_path), changed), entry(image(tmp_path))) == NOT_LOCKED


def test_a_mirror_that_moved_on_is_named(tmp_path: Path) -> None:
    locked = entry(image(tmp_path))
    moved = VENV | {"usr/share/harness/debian-packages.txt": (b"redis 5:9\nnew 1\n", 0o644)}
    made = entry(image(tmp_path, moved))
    assert judge(made, locked) == OTHER_PACKAGES
    assert changed_packages(made, locked) == ["new absent -> 1", "redis 5:8 -> 5:9"]


def test_the_first_differing_file_is_named(tmp_path: Path) -> None:
    one = image(tmp_path)
    assert first_difference(one, image(tmp_path)) is None
    content = image(tmp_path, VENV | {"opt/venv/a.py": (b"b", 0o644)})
    assert first_difference(one, content) == "layer venv: /opt/venv/a.py: other content"
    mode = image(tmp_path, VENV | {"opt/venv/a.py": (b"a", 0o755)})
    assert first_difference(one, mode) == "layer venv: /opt/venv/a.py: mode 644 and 755"
    more = image(tmp_path, VENV | {"opt/b": (b"", 0o644)})
    assert first_difference(one, more) == "layer venv: /opt/b is in the other only"
    assert first_difference(more, one) == "layer venv: /opt/b is in one only"
    order = image(tmp_path, dict(reversed(VENV.items())))
    assert "other headers or another order" in str(first_difference(one, order))
    user = image(tmp_path, user="0:0")
    assert str(first_difference(one, user)).startswith("configuration: config:")
    fewer = replace(one, layers=one.layers[:2])
    assert first_difference(one, fewer) == "3 layers and 2"


def test_the_file_keeps_other_architectures(tmp_path: Path) -> None:
    locked = entry(image(tmp_path))
    one = ArchitectureLock(base=locked, stacks={"dask": locked})
    path = tmp_path / "images.lock"
    ImagesLock().with_architecture("arm64", one).write(path)
    ImagesLock.read(path).with_architecture("amd64", one).write(path)
    found = ImagesLock.read(path)
    assert list(found.architectures) == ["amd64", "arm64"]
    assert found.architectures["arm64"].stacks["dask"] == locked


def test_a_missing_lock_is_empty_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    assert ImagesLock.read(tmp_path / "none").architectures == {}
    (tmp_path / "images.lock").write_text("{")
    with pytest.raises(UsageError, match="harness images lock"):
        ImagesLock.read(tmp_path / "images.lock")
