"""What images get for ``--stack`` words, from a small index; and what is kept of it."""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.cli import _bench, main
from harness.core.errors import InfrastructureError, UsageError
from harness.images import recipe, resolve
from harness.images.variant import Variant, find, kept, published, saved, versions
from tests.stacks import (
    git,
    lock_text,
    repository,
    sha256,
    write_checkout,
    write_index,
    write_wheel,
)

STACKS = ("dask", "endpoint", "redis")


class Site:
    """A checkout, an index, a cache."""

    def __init__(self, path: Path) -> None:
        self.path, self.index = path, path / "index"
        self.address = write_index(self.index)
        self.root = write_checkout(path / "checkout", self.index)
        self.said: list[str] = []

    def find(
        self, *words: object, python: str | None = None, stacks: Sequence[str] = STACKS
    ) -> Variant:
        self.said.clear()
        return find([str(word) for word in words], python, stacks, self.said.append)

    def refusal(self, *words: object, python: str | None = None) -> str:
        with pytest.raises(UsageError) as caught:
            self.find(*words, python=python)
        message = str(caught.value)
        assert "\n" not in message
        return message

    def hash_of(self, release: str) -> str:
        return sha256(self.index / "files" / f"{release}-py3-none-any.whl")


@pytest.fixture
def site(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Site:
    found = Site(tmp_path)
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "XDG_CACHE_HOME": tmp_path / "cache",
        # What it knows of this machine's Pythons takes a second to find out.
        "UV_CACHE_DIR": tmp_path_factory.getbasetemp() / "uv",
        "UV_NO_CONFIG": "1",
        "UV_OFFLINE": "1",
        "PIP_INDEX_URL": found.address,
        "GIT_CONFIG_GLOBAL": os.devnull,
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(recipe, "repository_root", lambda: found.root)
    return found


def of(variant: Variant, stack: str = "dask") -> dict[str, str]:
    return versions(variant.locks[stack])


def test_a_release_replaces_what_must_and_nothing_else(site: Site) -> None:
    variant = site.find("distributed==2025.1.0")
    assert site.said == ["stack: resolving dask: distributed==2025.1.0"]
    assert list(variant.locks) == ["dask"]
    assert variant.locks["dask"].decode() == lock_text(
        site.index,
        "dask==2025.1.0",
        "distributed==2025.1.0",
        "packaging==26.0",
        "proxystore==1.1.0",
        "psutil==7.2",
    )
    assert (variant.words, variant.python, variant.wheels) == (
        ("distributed==2025.1.0",),
        "3.13",
        (),
    )
    assert str(variant) == "distributed==2025.1.0, Python 3.13"
    # Once is enough, whatever an index says later.
    shutil.rmtree(site.index)
    assert site.find("distributed==2025.1.0").locks == variant.locks
    assert site.said == []


def test_every_image_that_has_a_package_gets_it_with_its_extras(site: Site) -> None:
    variant = site.find("proxystore==0.8.3")
    assert sorted(variant.locks) == ["dask", "endpoint"]
    assert of(variant)["proxystore"] == "0.8.3"
    # aiortc is what the extra needs; it stays where it was.
    assert of(variant, "endpoint") == {"aiortc": "1.0", "proxystore": "0.8.3", "psutil": "7.2"}
    assert list(site.find("proxystore==0.8.3", stacks=["dask", "redis"]).locks) == ["dask"]
    # An image that has nothing of it stays the checkout's, the executor's too.
    assert list(site.find("aiortc==1.1").locks) == ["endpoint"]


def test_a_package_that_no_image_has_goes_to_the_executor(site: Site) -> None:
    variant = site.find("codec==3.0")
    assert list(variant.locks) == ["dask"]
    assert of(variant)["codec"] == "3.0"
    assert of(variant)["dask"] == "2026.8.0"


def test_a_file_of_requirements_is_its_lines(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("# what the workflow imports\n\ncodec==3.0  # the newest\ndask==2025.1.0\n")
    variant = site.find(file)
    assert of(variant)["codec"] == "3.0"
    assert of(variant)["dask"] == "2025.1.0"
    # What others may read has no path of this machine, and what was asked for.
    assert variant.words == ("codec==3.0", "dask==2025.1.0")
    assert dict(variant.given) == {str(file): "requirements.txt"}
    assert variant.locks == site.find("codec==3.0", "dask==2025.1.0").locks


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no package: write one a line"),
        ("# nothing\n", "names no package: write one a line"),
        ("codec==3.0\n-r other.txt\n", "line 2, '-r other.txt', is more than a requirement"),
        ("codec==3.0 \\\n  --hash=sha256:0\n", "is more than a requirement"),
        ("codec = 3\n", "--stack 'codec = 3': is no requirement"),
        ("codec==3.0\ncodec==2.0\n", "codec is named twice"),
    ],
)
def test_a_file_that_is_more_or_less_than_requirements(
    site: Site, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "needs.txt"
    file.write_text(text)
    assert said in site.refusal(file)
    file.unlink()
    assert "No such file or directory: name a file of requirements" in site.refusal(file)


def test_a_range_or_a_name_is_the_newest_that_fits(site: Site) -> None:
    assert of(site.find("distributed"))["dask"] == "2026.9.0"
    assert of(site.find("dask<2026.9", "distributed"))["distributed"] == "2026.8.0"


def test_a_wheel_of_ours_is_locked_by_its_hash(site: Site, tmp_path: Path) -> None:
    # The index has that version, too.
    wheel = write_wheel(tmp_path / "own", "dask", "2026.8.0", content="other = 1")
    variant = site.find(wheel)
    text = variant.locks["dask"].decode()
    assert f"dask==2026.8.0 \\\n    --hash=sha256:{sha256(wheel)}\n" in text
    assert site.hash_of("dask-2026.8.0") not in text
    assert site.hash_of("distributed-2026.8.0") in text
    assert str(tmp_path) not in text
    assert variant.wheel_files() == {wheel.name: wheel.read_bytes()}
    assert (variant.words, variant.given) == ((wheel.name,), {str(wheel): wheel.name})
    # Another wheel of that name is another variant.
    write_wheel(tmp_path / "own", "dask", "2026.8.0", content="other = 2")
    assert site.find(wheel).locks != variant.locks


def test_what_a_wheel_of_ours_needs_is_what_it_says_itself(site: Site, tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "distributed", "2026.8.0", "Requires-Dist: dask==2026.9.0\n")
    assert of(site.find(wheel))["dask"] == "2026.9.0"


def test_checkouts_of_two_projects_that_belong_together(site: Site, tmp_path: Path) -> None:
    dask = repository(tmp_path / "home" / "dask", "dask", "2026.9.2")
    distributed = repository(tmp_path / "home" / "distributed")
    heads = [git(place, "rev-parse", "HEAD") for place in (dask, distributed)]
    (dask / "new.txt").write_text("new")
    variant = site.find(f"dask @ {dask}", distributed, "proxystore==1.1.0")
    assert of(variant)["dask"] == "2026.9.2"
    assert of(variant)["distributed"] == "2026.9.1"
    assert variant.words == (
        f"dask @ {heads[0][:12]}+changes",
        f"distributed @ {heads[1][:12]}",
        "proxystore==1.1.0",
    )
    assert str(variant) == (
        f"dask==2026.9.2 ({heads[0][:10]}, with changes), distributed==2026.9.1 ({heads[1][:10]}),"
        " proxystore==1.1.0, Python 3.13"
    )
    variant.save(tmp_path)
    written = [
        p.read_bytes()
        for p in (tmp_path / "variant").rglob("*")
        if p.is_file() and p.suffix != ".whl"
    ]
    assert not [data for data in written if b"/home" in data or b"file:" in data]
    # Another side's words are as private as its own.
    site.find(f"proxystore @ {repository(tmp_path / 'home' / 'ps', 'proxystore', '1.2')}")
    command = ["ab", "--a", f"dask @ {dask}", f"--stack={distributed}", "--b"]
    found = published([*command, f"proxystore @ {tmp_path / 'home' / 'ps'}", "--budget=2"])
    assert found[:5] == ["ab", "--a", variant.words[0], f"--stack={variant.words[1]}", "--b"]
    assert found[5].startswith("proxystore @ ")
    assert found[6] == "--budget=2"
    assert "/" not in found[5]


def test_extras_of_a_checkout(site: Site, tmp_path: Path) -> None:
    place = repository(tmp_path / "ps", "proxystore", "1.2")
    backend = (place / "backend.py").read_text()
    more = "Provides-Extra: endpoints\\nRequires-Dist: aiortc; extra == 'endpoints'\\n"
    (place / "backend.py").write_text(backend.replace("NEEDS = ''", f'NEEDS = "{more}"'))
    variant = site.find(f"proxystore @ {place}")
    assert "aiortc" not in of(variant)
    assert of(variant, "endpoint")["aiortc"] == "1.0"
    assert "aiortc" in of(site.find(f"proxystore[endpoints] @ {place}"))


def test_another_python(site: Site) -> None:
    variant = site.find(python="3.11")
    assert (variant.words, variant.python, list(variant.locks)) == ((), "3.11", ["dask"])
    assert of(variant)["dask"] == "2026.8.0"
    assert str(variant) == "Python 3.11"
    assert sorted(site.find("aiortc==1.1", python="3.11").locks) == ["dask", "endpoint"]
    # Its own one asks for nothing.
    assert site.find(python="3.13").locks == {}
    for python in ("2.7", "3", "x", "3.13.1", ""):
        assert site.refusal(python=python) == f"--python {python}: images can have 3.11, 3.13"


def test_another_python_and_another_base_exclude_each_other(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASE_IMAGE", "example.org/python:3.13")
    assert "BASE_IMAGE has one of its own" in site.refusal(python="3.11")
    assert site.find("paper", python="3.13").words == ("paper",)


def test_a_kept_variant_is_its_locks(site: Site) -> None:
    variant = site.find("paper", stacks=["dask", "redis"])
    assert site.said == []
    folder = site.root / "images" / "stacks" / "paper"
    assert variant.locks == {"dask": (folder / "dask.lock").read_bytes()}
    assert (variant.words, variant.python) == (("paper",), "3.13")
    assert sorted(site.find("paper").locks) == ["dask", "endpoint"]
    assert site.find("paper", python="3.13").locks == site.find("paper").locks
    with pytest.raises(UsageError, match="--stack paper: has no image redis, only dask, endpoint"):
        site.find("paper", stacks=["redis", "dask"])


def test_a_kept_variant_with_more_is_its_words(site: Site) -> None:
    variant = site.find("paper", "psutil==7.2")
    assert variant.words == ("paper", "psutil==7.2")
    assert of(variant)["distributed"] == "2025.1.0"
    assert of(site.find("paper", python="3.11"))["proxystore"] == "0.8.3"
    assert "proxystore is named twice" in site.refusal("paper", "proxystore==1.1.0")


def test_what_the_harness_does_not_run_with(site: Site, tmp_path: Path) -> None:
    assert site.refusal("dask==2024.2.0", "distributed==2024.2.0") == (
        "--stack: dask==2024.2.0 (image dask): the harness runs with dask>=2024.3"
    )
    wheel = write_wheel(tmp_path, "proxystore", "0.1.dev1", "Provides-Extra: endpoints\n")
    assert site.refusal(wheel) == (
        "--stack: proxystore==0.1.dev1 (image dask): the harness runs with proxystore<2,>=0.8.3;"
        " if that commit is newer, fetch the tags of its repository"
    )
    # What only the host needs is no floor of images.
    assert of(site.find("packaging==20.0"))["packaging"] == "20.0"


def test_what_cannot_be_had(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = site.refusal("dask==99")
    assert message.startswith("--stack dask==99: image dask: Because there is no version of dask")
    message = site.refusal("nonsuch")
    assert message.startswith("--stack nonsuch: image dask: Because nonsuch was not found")
    assert "incompatible" in site.refusal("dask==2025.1.0", "distributed==2026.8.0")
    assert site.refusal("dask==1", "Dask==2") == "--stack: dask is named twice; name it once"
    assert site.refusal("dask==1", "dask==1") == "--stack: dask is named twice; name it once"
    assert "leave it out" in site.refusal("workflow_memory_harness==1")
    compiled = write_wheel(tmp_path, "dask", "2026.8.0")
    compiled = compiled.rename(tmp_path / "dask-2026.8.0-cp310-cp310-manylinux_2_17_x86_64.whl")
    assert "--stack dask-2026.8.0-cp310" in site.refusal(compiled)
    # Nothing of it is kept as if it had been found.
    assert not list((tmp_path / "cache").rglob("*.lock"))
    monkeypatch.delenv("UV_OFFLINE")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(InfrastructureError, match=r"--stack dask==2026.9.0: image dask: .*fetch"):
        site.find("dask==2026.9.0")


def test_settings_of_a_project_around_are_not_taken(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.uv]\noverride-dependencies = ["dask==2024.2"]\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UV_NO_CONFIG")
    assert of(site.find("distributed==2025.1.0"))["dask"] == "2025.1.0"


def test_what_is_found_is_what_a_run_directory_gives_back(site: Site, tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "own", "distributed", "2026.9.1+1.g3f17")
    variant = site.find(wheel, "proxystore==0.8.3")
    variant.save(tmp_path)
    found = saved(tmp_path)
    assert found is not None
    assert (found.words, found.python, found.wheels) == (
        variant.words,
        variant.python,
        variant.wheels,
    )
    assert (found.locks, found.wheel_files()) == (variant.locks, variant.wheel_files())
    # A bench that goes on writes it where it is.
    found.save(tmp_path)
    assert saved(tmp_path) == found


@pytest.mark.parametrize("package", ["uv", "packaging"])
def test_without_the_packages_that_it_needs(
    package: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("harness.images.resolve", "harness.images.words"):
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InfrastructureError) as caught:
        site.find("dask==2025.1.0")
    assert str(caught.value) == (
        f"--stack: needs the Python package {package}: pip install"
        " 'workflow-memory-harness[stacks]' (in a checkout: scripts/venv full)"
    )


PLAN = (
    "--executor dask --dask-workers 1 --ps-connector file --data-management none"
    " --stage-task-counts 1 --stage-bytes-sizes 1 1 --task-sleep 0"
)


@pytest.mark.parametrize(
    "words",
    [
        ["--stack="],
        ["--stack"],
        ["--stack", " "],
        ["--stack", "dask=="],
        ["--stack", "dask = 1"],
        ["--stack", "-r", "file"],
        ["--stack=-r file"],
        ["--stack", "--index-url", "x"],
        ["--stack=--index-url x"],
        ["--stack", "dask @ https://example.org/dask-1-py3-none-any.whl"],
        ["--stack", "none.whl"],
        ["--stack", "dask @ none"],
        ["--stack", "git+file:///none"],
        ["--stack", "dask==1", "--stack", "dask==2"],
        ["--stack", "x" * 5000 + "/"],
        ["--stack", "dask==1", "--python", "2.7"],
        ["--python", ""],
    ],
)
def test_every_wrong_word_is_one_line_and_leaves_nothing(
    words: list[str],
    site: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_bench, "admit", lambda *_: [])
    monkeypatch.setattr(_bench, "create", None)  # what comes next
    code = main.main(["bench", *PLAN.split(), "--run-dir", str(tmp_path / "runs"), *words])
    said = capsys.readouterr().err
    assert (code, said.count("\n")) == (2, 1), said
    assert "--stack" in said or "--python" in said or "index-url" in said or "-r" in said
    assert not (tmp_path / "runs").exists()


# --- the variants of this repository ---


def test_kept_variants_of_this_checkout_are_what_their_words_say() -> None:
    root = recipe.CHECKOUT
    own, *_ = recipe.pythons(root)
    for folder in sorted((root / "images" / "stacks").iterdir()):
        variant = kept(root, folder.name, own)
        assert variant is not None
        resolve._check_floors(root, variant)
        assert set(variant.locks) <= set(recipe.known_stacks(root))
        lines = (folder / "words.txt").read_text().splitlines()
        pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
        for stack, lock in variant.locks.items():
            assert "://" not in lock.decode()
            own_lock = (root / "images" / stack / "requirements.lock").read_bytes()
            for name, version in pins.items():
                if name in versions(own_lock):
                    assert versions(lock)[name] == version, (stack, name)


def test_floors_are_asked_of_every_extra_of_images() -> None:
    project = tomllib.loads((recipe.CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    assert extras - resolve.HOST_EXTRAS == {"dask", "parsl", "globus", "redis", "zmq", "why"}
    assert extras >= resolve.HOST_EXTRAS
