"""What goes into an image, and that its name says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.images.base import debian_mirror, mmdebstrap_command, parse_mirror
from harness.images.recipe import (
    ImageSettings,
    base_recipe,
    input_hash,
    known_stacks,
    pythons,
    recipe_hash,
    repository_root,
    settings,
    sources_hash,
    stack_context,
    stack_files,
)

FILES = {
    "images/Dockerfile": "FROM base",
    "images/steps/venv.sh": "pip install",
    "images/image.toml": 'user = "1:1"\ncommand = ["python"]\n[environment]\nHOME = "/tmp"\n',
    "images/dask/requirements.lock": "dask==1",
    "images/dask/requirements.in": "dask",
    "images/redis/requirements.lock": "psutil==1",
    "images/redis/packages.txt": "redis-server",
    "images/base/base.toml": (
        'reference = "python:{python}-{suite}"\npackages = ["python3"]\n'
        "path_exclude = []\npath_include = []\n"
        '[python]\n"3.13" = "trixie"\n"3.11" = "bookworm"\n'
    ),
    "images/base/customize.sh": "true",
    "harness/__init__.py": "",
    "harness/plan.py": "",
    "harness/sampling/inside/__main__.py": "",
    "harness/topology/engine.py": "",
    "harness/report/tables.py": "",
    "harness/cli/main.py": "",
    "harness/cli/run.py": "",
    "harness/cli/bench.py": "",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def name_of(root: Path, stack: str = "dask", base: str = "sha256:1", version: str = "1") -> str:
    context = stack_context(stack_files(root, stack))
    return input_hash(context, [base], {"VERSION": version})


def test_stacks_are_the_folders_with_a_lock(root: Path) -> None:
    assert known_stacks(root) == ["dask", "redis"]
    (root / "images/parsl").mkdir()
    (root / "images/parsl/requirements.lock").write_text("parsl==1")
    assert known_stacks(root) == ["dask", "parsl", "redis"]
    assert stack_files(root, "parsl")["requirements.lock"] == b"parsl==1"


def test_unknown_stack_is_a_usage_error(root: Path) -> None:
    with pytest.raises(UsageError, match="'spark': one of dask, redis"):
        stack_files(root, "spark")


def test_what_goes_in(root: Path) -> None:
    files = stack_files(root, "redis")
    assert set(files) == {
        "Dockerfile",
        "requirements.lock",
        "packages.txt",
        "image.toml",
        "steps/venv.sh",
        "harness/__init__.py",
        "harness/plan.py",
        "harness/sampling/inside/__main__.py",
        "harness/cli/main.py",
        "harness/cli/run.py",
    }
    assert files["packages.txt"] == b"redis-server"
    assert stack_files(root, "dask")["packages.txt"] == b""


def test_a_dockerfile_of_its_own_comes_first(root: Path) -> None:
    (root / "images/dask/Dockerfile").write_text("FROM other")
    assert stack_files(root, "dask")["Dockerfile"] == b"FROM other"
    assert stack_files(root, "redis")["Dockerfile"] == b"FROM base"
    (root / "images/dask/image.toml").write_text('user = "0:0"\ncommand = []\nenvironment = {}\n')
    assert settings(stack_files(root, "dask")).user == "0:0"
    assert settings(stack_files(root, "redis")) == ImageSettings(
        "1:1", ("python",), {"HOME": "/tmp"}
    )


def test_the_package_and_the_rest_have_hashes_of_their_own(root: Path) -> None:
    before = stack_files(root, "dask")
    (root / "harness/plan.py").write_text("# changed")
    package = stack_files(root, "dask")
    assert recipe_hash(package) == recipe_hash(before)
    assert sources_hash(package) != sources_hash(before)
    (root / "images/dask/requirements.lock").write_text("dask==2")
    lock = stack_files(root, "dask")
    assert recipe_hash(lock) != recipe_hash(before)
    assert sources_hash(lock) == sources_hash(package)


@pytest.mark.parametrize(
    "name",
    [
        "images/Dockerfile",
        "images/steps/venv.sh",
        "images/image.toml",
        "images/dask/requirements.lock",
        "harness/plan.py",
        "harness/sampling/inside/__main__.py",
        "harness/cli/run.py",
    ],
)
def test_name_changes_with_what_goes_in(root: Path, name: str) -> None:
    before = name_of(root)
    (root / name).write_text("# changed")
    assert name_of(root) != before


@pytest.mark.parametrize(
    "name",
    [
        "images/dask/requirements.in",
        "images/redis/packages.txt",
        "images/redis/requirements.lock",
        "harness/topology/engine.py",
        "harness/report/tables.py",
        "harness/cli/bench.py",
        "README.md",
    ],
)
def test_name_stays_with_what_does_not(root: Path, name: str) -> None:
    before = name_of(root)
    (root / name).write_text("# changed")
    assert name_of(root) == before


def test_name_does_not_depend_on_times_and_modes(root: Path) -> None:
    before = name_of(root)
    for path in root.rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o755)
    assert name_of(root) == before


def test_name_changes_with_base_and_arguments(root: Path) -> None:
    names = {name_of(root), name_of(root, base="sha256:2"), name_of(root, version="2")}
    assert len(names) == 3
    assert all(len(name) == 12 for name in names)


def test_base_name_changes_with_its_recipe(root: Path) -> None:
    before = base_recipe(root).local_reference
    assert before.startswith("workflow-memory-harness/base:")
    (root / "images/base/customize.sh").write_text("false")
    assert base_recipe(root).local_reference != before


def test_another_python_is_another_base(root: Path) -> None:
    own, other = base_recipe(root), base_recipe(root, "3.11")
    assert list(pythons(root)) == ["3.13", "3.11"]
    assert (own.suite, own.reference) == ("trixie", "python:3.13-trixie")
    assert (other.suite, other.reference) == ("bookworm", "python:3.11-bookworm")
    assert own.hash != other.hash
    # What is said and what holds anyway is the same base.
    assert base_recipe(root, "3.13") == own
    with pytest.raises(UsageError, match=r"Python '2.7': images can have 3.11, 3.13"):
        base_recipe(root, "2.7")


def test_mirror_is_that_of_the_release() -> None:
    printed = (
        "'https://example.org/tools/dists/stable/InRelease' example.org_InRelease 0 \n"
        "'http://mirror.example/debian/dists/bookworm/InRelease' mirror.example_InRelease 0 \n"
        "'http://mirror.example/debian-security/dists/bookworm-security/InRelease' x 0 \n"
    )
    assert parse_mirror(printed, "bookworm") == "http://mirror.example/debian"
    assert parse_mirror(printed, "trixie") is None
    assert parse_mirror("", "bookworm") is None


def test_a_named_mirror_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBIAN_MIRROR", "https://archive.example/20261001/")
    assert debian_mirror() == "https://archive.example/20261001"


def test_base_command_follows_the_recipe() -> None:
    recipe = base_recipe(repository_root())
    command = mmdebstrap_command(recipe, "http://mirror.example/debian", Path("raw.tar"))
    assert command[-3:] == ["trixie", "raw.tar", "http://mirror.example/debian"]
    assert "--include=python3,python3-venv,ca-certificates" in command
    assert "--dpkgopt=path-include=/usr/share/doc/*/copyright" in command
    # A dated archive's lists are out of date; what says so is not in the image.
    assert '--aptopt=Acquire::Check-Valid-Until "false"' in command
    assert command[-4].endswith('rm "$1/etc/apt/apt.conf.d/99mmdebstrap"')


def test_locks_pin_hashes_and_name_no_index() -> None:
    images = repository_root() / "images"
    for stack in known_stacks(repository_root()):
        lock = (images / stack / "requirements.lock").read_text()
        assert "--hash=sha256:" in lock
        assert "://" not in lock
