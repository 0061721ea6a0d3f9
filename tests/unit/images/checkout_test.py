"""A wheel makes the same images and the same topologies as the checkout that it was made from."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness.images.recipe import CHECKOUT, build_directory, package_sources

TELL = """
import json
from harness.images.recipe import CHECKOUT
from harness.topology.compose import COMPOSE_DIR
from harness.images import recipe
root = recipe.repository_root()
stacks = {name: recipe.stack_files(root, name) for name in recipe.known_stacks(root)}
base = recipe.base_recipe(root)
print(json.dumps({
    "home": str(CHECKOUT),
    "stacks": {n: [recipe.recipe_hash(f), recipe.sources_hash(f)] for n, f in stacks.items()},
    "base": base.hash,
    "runs": base.customize.stat().st_mode & 0o111 != 0,
    "compose": {p.name: p.read_text() for p in sorted(COMPOSE_DIR.rglob("*.yaml"))},
}, sort_keys=True))
"""


def _told(path: Path) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", TELL],
        cwd="/",
        env={"PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_wheel_brings_what_a_checkout_has_beside_the_package(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            # As installers do; zipfile alone forgets who may run a file.
            Path(archive.extract(entry, installed)).chmod(entry.external_attr >> 16 & 0o777)
    ours, its = _told(CHECKOUT), _told(installed)
    assert ours.pop("home") == str(CHECKOUT)
    assert its.pop("home") == str(installed / "harness" / "_checkout")
    assert its == ours


def test_nothing_is_written_where_the_package_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    carried = tmp_path / "site-packages" / "harness" / "_checkout"
    assert package_sources(carried) == tmp_path / "site-packages" / "harness"
    assert build_directory(carried).is_relative_to(tmp_path / "cache")
    assert build_directory(CHECKOUT) == CHECKOUT / "build" / "images"
