"""What a run directory, anybody's, has of its variant; images of it; where it goes along."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import _bench
from harness.cli import bench as bench_command
from harness.core.errors import InfrastructureError, UsageError
from harness.images import Image, docker_cli, recipe, store
from harness.images import variant as variant_module
from harness.images.docker_cli import LocalImage
from harness.images.variant import Variant, Wheel, is_wheel_name, kept_words, normal, saved
from harness.reproduce import packed_images as bundled
from harness.reproduce import rerun
from harness.reproduce.crate import claims, read_manifest
from harness.reproduce.format import ImageEntry, Refused
from harness.reproduce.pack import pack
from harness.reproduce.reader import opened_bundle
from harness.reproduce.writer import write_bundle
from harness.results.directory import RunDirectory
from harness.topology import bench, launch, resume
from tests.bench_plans import bench_plan
from tests.bundles import bundle_files, run_directory, small_image
from tests.stacks import sha256, write_checkout, write_index, write_wheel

HASH = "0" * 64
LOCK = f"dask==2025.1.0 \\\n    --hash=sha256:{HASH} \\\n    --hash=sha256:{HASH}\n".encode()


def variant(place: Path, **changes: Any) -> Variant:
    wheel = write_wheel(place / "given" / "wheels", "distributed", "2026.9.1+1.g3f17")
    commit = "3f17ddbab2" + "0" * 30
    own = Wheel(wheel.name, sha256(wheel), "distributed @ 3f17ddbab200", commit, True)
    found: dict[str, Any] = {
        "words": (own.origin, "dask==2025.1.0"),
        "python": "3.11",
        "locks": {"dask": LOCK, "endpoint": b"psutil==7.2 \\\n    --hash=sha256:" + b"1" * 64},
        "wheels": (own,),
        "directory": place / "given",
    }
    return Variant(**found | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a sound variant in a run directory."""
    variant(tmp_path).save(tmp_path)
    return tmp_path / "variant"


def refusal(folder: Path) -> str:
    with pytest.raises(UsageError) as caught:
        saved(folder.parent)
    message = str(caught.value)
    assert message.startswith(f"{folder}: is no variant of images: ")
    assert len(message) < len(str(folder)) + 300
    assert message.isprintable()
    return message


def test_it_comes_back_as_it_was(tmp_path: Path, folder: Path) -> None:
    found, given_one = saved(tmp_path), variant(tmp_path)
    assert found is not None
    assert (found.words, found.python, found.wheels) == (
        given_one.words,
        "3.11",
        given_one.wheels,
    )
    assert (found.locks, found.wheel_files()) == (given_one.locks, given_one.wheel_files())
    assert str(found) == (
        "distributed==2026.9.1+1.g3f17 (3f17ddbab2, with changes), dask==2025.1.0, Python 3.11"
    )
    assert found.facts() == given_one.facts() == json.loads((folder / "variant.json").read_text())
    assert saved(tmp_path / "given") is None


def changed(**values: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / "variant.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def wheels(**values: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / "variant.json"
        document = json.loads(path.read_text())
        document["wheels"][0] |= values
        path.write_text(json.dumps(document))

    return change


def written(name: str, data: bytes | str) -> Callable[[Path], object]:
    raw = data.encode() if isinstance(data, str) else data
    return lambda folder: (folder / name).write_bytes(raw)


def linked(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        there = folder.parent / "elsewhere"
        (folder / name).rename(there)
        (folder / name).symlink_to(there)

    return change


def piped(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def huge(name: str) -> Callable[[Path], object]:
    return lambda folder: os.truncate(folder / name, 1 << 40)


OWN = "wheels/distributed-2026.9.1+1.g3f17-py3-none-any.whl"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (written("variant.json", "{"), "variant.json"),
        (written("variant.json", b"\xff"), "variant.json"),
        (written("variant.json", "[]"), "variant.json"),
        (written("variant.json", "null"), "variant.json"),
        (written("variant.json", "[" * 100_000), "variant.json"),
        (written("variant.json", '{"a":' * 100_000), "variant.json"),
        (changed(words="dask"), "words"),
        (changed(words=[1]), "words"),
        (changed(python=3.11), "python"),
        (changed(more=1), "more"),
        (changed(images="dask"), "images"),
        (changed(images=["../dask"]), "'../dask' is no name of an image"),
        (changed(images=["/etc/passwd"]), "is no name of an image"),
        (changed(images=[""]), "is no name of an image"),
        (changed(images=["x" * 10_000]), "is no name of an image"),
        (changed(images=["none"]), "No such file or directory"),
        (changed(wheels=None), "wheels"),
        (changed(wheels=[{}]), "wheels.0.file"),
        (changed(wheels=[[]]), "wheels.0"),
        (wheels(file="../../x-1-py3-none-any.whl"), "is no name of a wheel"),
        (wheels(file="/x-1-py3-none-any.whl"), "is no name of a wheel"),
        (wheels(file="x-1-py3-none-any.whl\n"), "is no name of a wheel"),
        (wheels(file="\u202ex-1-py3-none-any.whl"), "is no name of a wheel"),
        (wheels(file="none-1-py3-none-any.whl"), "No such file or directory"),
        (wheels(file=1), "wheels.0.file"),
        (wheels(sha256=HASH), "is not the wheel that it was"),
        (wheels(origin={}), "wheels.0.origin"),
        (wheels(commit=1), "wheels.0.commit"),
        (wheels(dirty="no"), "wheels.0.dirty"),
        (wheels(more=1), "wheels.0.more"),
        (written(OWN, "other"), "is not the wheel that it was"),
        (written("dask.lock", LOCK + b"--index-url https://example.org\n"), "no version or hash"),
        (written("dask.lock", LOCK + b"-r /etc/passwd\n"), "no version or hash"),
        (written("dask.lock", LOCK + b"-e .\n"), "no version or hash"),
        (written("dask.lock", b"dask @ https://example.org/x.whl\n"), "no version or hash"),
        (written("dask.lock", b"/tmp/x.whl\n"), "no version or hash"),
        (written("dask.lock", b"dask==${HOME} \\\n"), "no version or hash"),
        (written("dask.lock", b"dask==1\n"), "no version or hash"),
        (written("dask.lock", b"dask==1 \\\r--index-url=x"), "no version or hash"),
        # In another encoding that may be anything.
        (written("dask.lock", b"# coding: utf-7\n+AC0-r x"), "no version or hash"),
        (written("dask.lock", LOCK + "d\u00e4sk==1 \\\n".encode()), "ascii"),
        (written("dask.lock", b"\0"), "no version or hash"),
        (linked("variant.json"), "is no plain file"),
        (linked("dask.lock"), "is no plain file"),
        (linked(OWN), "is no plain file"),
        (piped("variant.json"), "is no plain file"),
        (piped("dask.lock"), "is no plain file"),
        (piped(OWN), "is no plain file"),
        (huge("variant.json"), "has more than"),
        (huge("dask.lock"), "has more than"),
        (huge(OWN), "is no plain file of at most"),
        (lambda folder: (folder / "dask.lock").unlink(), "No such file or directory"),
    ],
)
def test_one_that_is_none_is_refused_in_one_line(
    change: Callable[[Path], object], why: str, folder: Path
) -> None:
    change(folder)
    assert why in refusal(folder)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
_FACTS = st.fixed_dictionaries(
    {
        "words": st.lists(st.text(max_size=5), max_size=2) | _JSON,
        "python": st.text(max_size=5) | _JSON,
        "images": st.lists(st.sampled_from(["dask", "..", "a/b", ""]), max_size=2) | _JSON,
        "wheels": st.lists(
            st.fixed_dictionaries(
                {"file": st.text(max_size=9) | _JSON, "sha256": _JSON, "origin": _JSON}
            ),
            max_size=2,
        )
        | _JSON,
    }
)


@given(document=_FACTS | _JSON, lock=st.binary(max_size=20) | st.just(LOCK))
def test_any_content_is_a_variant_or_one_line(
    document: object, lock: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("any")
    (place / "variant").mkdir()
    (place / "variant" / "variant.json").write_text(json.dumps(document))
    (place / "variant" / "dask.lock").write_bytes(lock)
    try:
        found = saved(place)
    except UsageError as error:
        said = str(error)
    else:
        assert found is not None
        said = str(found)
    assert "\n" not in said


@given(st.text(max_size=30))
def test_a_name_of_a_wheel_is_nothing_but_a_name(name: str) -> None:
    for each in (name, f"{name}-1-py3-none-any.whl", f"x-{name}-py3-none-any.whl"):
        if is_wheel_name(each):
            assert Path(each).name == each
            assert each.isascii()


def test_names_and_kept_words(tmp_path: Path) -> None:
    assert [normal(name) for name in ("Dask", "a_.-b", "A.b")] == ["dask", "a-b", "a-b"]
    folder = tmp_path / "images" / "stacks" / "paper"
    folder.mkdir(parents=True)
    (folder / "words.txt").write_text("# why\n\ndask==1  # and that\n proxystore==2\n")
    assert kept_words(tmp_path, "paper") == ["dask==1", "proxystore==2"]
    for word in ("dask==1", "../stacks/paper", "paper/", "Paper", "", "pape"):
        assert kept_words(tmp_path, word) == [word]


# --- images of it ---


class Engine:
    """An engine that has what it is asked for, and notes what it is asked."""

    def __init__(self) -> None:
        self.tagged: list[tuple[str, str]] = []
        self.missing: set[str] = set()

    def inspect(self, references: list[str]) -> list[LocalImage]:
        return [
            LocalImage(f"sha256:{hash(name)}", 1, (name,), {}, ("sha256:b",))
            for name in references
            if name not in self.missing
        ]

    def find(self, reference: str) -> LocalImage | None:
        return next(iter(self.inspect([reference])), None)

    def tag(self, reference: str, name: str) -> None:
        self.tagged.append((reference, name))


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    index = tmp_path / "index"
    write_index(index)
    root = write_checkout(tmp_path / "checkout", index)
    monkeypatch.setattr(recipe, "repository_root", lambda: root)
    monkeypatch.delenv("BASE_IMAGE", raising=False)
    found = Engine()
    for name in ("inspect", "find", "tag"):
        monkeypatch.setattr(docker_cli, name, getattr(found, name))
    return found


def ensured(other: Variant | None) -> Mapping[str, Image]:
    return store.ensure(["dask", "endpoint", "redis"], lambda _: None, variant=other)


def test_an_image_is_named_by_its_lock_and_latest_stays_where_it_is(
    engine: Engine, tmp_path: Path
) -> None:
    own = {stack: image.reference for stack, image in ensured(None).items()}
    assert sorted(name for _, name in engine.tagged) == [
        f"workflow-memory-harness/{stack}:latest" for stack in ("dask", "endpoint", "redis")
    ]
    engine.tagged.clear()
    other = variant(tmp_path, python="3.13", locks={"dask": LOCK})
    found = {stack: image.reference for stack, image in ensured(other).items()}
    assert found["dask"] != own["dask"]
    assert {k: v for k, v in found.items() if k != "dask"} == {
        k: v for k, v in own.items() if k != "dask"
    }
    # Those of the checkout, and no other, are what :latest means.
    assert (found["dask"], "workflow-memory-harness/dask:latest") not in engine.tagged
    assert len(engine.tagged) == 2
    another = variant(tmp_path, python="3.13", locks={"dask": LOCK.replace(b"0", b"1")})
    names = {own["dask"], found["dask"], ensured(another)["dask"].reference}
    python = variant(tmp_path, python="3.11", locks={"dask": LOCK})
    assert len({*names, ensured(python)["dask"].reference}) == 4
    assert {s: i.reference for s, i in ensured(variant(tmp_path, locks={})).items()} == own


def test_wheels_of_ours_are_in_the_build_and_no_index_is_asked_for_them(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = variant(tmp_path, python="3.13", locks={"dask": LOCK})
    reference = ensured(other)["dask"].reference
    engine.missing.add(reference)
    built = []

    def build_all(items: list[Any], *_: object) -> None:
        built.extend(items)
        engine.missing.clear()

    monkeypatch.setattr(store, "_build_all", build_all)
    monkeypatch.setattr(store, "saved_base", lambda *_: None)
    ensured(other)
    (item,) = built
    assert (item.stack, item.reference, item.latest) == ("dask", reference, None)
    assert item.wheels == other.wheel_files()
    assert item.files["requirements.lock"] == LOCK


def test_a_python_that_no_base_has_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Python '9': images can have"):
        ensured(variant(tmp_path, python="9"))


# --- where it goes along ---


def test_a_bench_writes_down_what_others_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = f"distributed @ {tmp_path}/home/me"
    plan = bench_plan(stack=[word, "dask==2025.1.0"], python="3.11", isolate="none")
    other = variant(tmp_path)
    monkeypatch.setattr(variant_module, "_given", {word: "distributed @ 3f17ddbab200"})
    monkeypatch.setattr("sys.argv", ["harness", "bench", "--stack", word, f"--stack={word}"])
    place = tmp_path / "r"
    place.mkdir()

    def prepare(plan: Any, directory: RunDirectory, *_: Any, **more: Any) -> Any:
        directory.plan.write_text(plan.in_topology().model_dump_json())
        assert more["variant"] is other
        raise InfrastructureError("that was all")

    monkeypatch.setattr(bench, "prepare", prepare)
    bench_ = bench.Bench(plan, RunDirectory(place), print, print, variant=other)
    with pytest.raises(InfrastructureError, match="that was all"):
        bench_.run()
    assert bench_.plan.topology is not None
    assert bench_.plan.topology.stack == list(other.words)
    bench_._complete_manifest()
    resume.write_bench_file(place / "bench.json", bench_.plan, {})
    other.save(place)
    for path in place.rglob("*"):
        assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes(), path
    manifest = json.loads((place / "manifest.json").read_text())
    public = "distributed @ 3f17ddbab200"
    assert manifest["command"] == ["bench", "--stack", public, f"--stack={public}"]


def test_what_a_plan_asks_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def find(*args: Any) -> Variant:
        asked.append(args[:3])
        return variant(tmp_path)

    monkeypatch.setattr(launch, "find", find)
    assert launch.variant_of(bench_plan(), print) is None
    assert launch.variant_of(bench_plan(stack=["dask==1"]), print) is not None
    assert launch.variant_of(bench_plan(python="3.11"), print) is not None
    # The executor's image comes first.
    assert asked == [
        (["dask==1"], None, ["dask", "redis"]),
        ([], "3.11", ["dask", "redis"]),
    ]


def test_resume_takes_it_along(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume.write_bench_file(tmp_path / "bench.json", bench_plan(stack=["dask==1"]), {})
    for name in ("admit", "finished_runs"):
        monkeypatch.setattr(_bench, name, lambda *_: [])
    for name in ("require_images", "clear_the_way"):
        monkeypatch.setattr(_bench, name, lambda *_: None)
    taken: list[Variant | None] = []

    def bench_of(*_: object, variant: Variant | None, **_more: object) -> int:
        taken.append(variant)
        return 0

    monkeypatch.setattr(_bench, "_bench", bench_of)
    assert bench_command.main(["--resume", str(tmp_path)]) == 0
    assert taken == [saved(tmp_path)]
    (folder / "dask.lock").write_text("--index-url x")
    with pytest.raises(UsageError, match="is no variant of images"):
        bench_command.main(["--resume", str(tmp_path)])


def run_with_variant(tmp_path: Path) -> tuple[Path, Any]:
    image = small_image(tmp_path)
    directory = run_directory(tmp_path / "run", image)
    variant(tmp_path).save(directory)
    return directory, image


def test_a_bundle_has_it_with_its_locks(tmp_path: Path) -> None:
    directory, _ = run_with_variant(tmp_path)
    pack(directory, tmp_path / "x.tar.zst", lambda _: None, with_images=False)
    with opened_bundle(tmp_path / "x.tar.zst", lambda _: True) as bundle:
        assert bundle.file("locks/dask/requirements.lock").read_bytes() == LOCK
        found = saved(bundle.file("run"))
        assert found is not None
        assert found.wheel_files() == variant(tmp_path).wheel_files()
    (directory / "variant" / "dask.lock").write_text("-r x")
    with pytest.raises(UsageError, match="is no variant of images"):
        pack(directory, tmp_path / "y.tar.zst", lambda _: None, with_images=False)


def test_a_strangers_variant_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, image = run_with_variant(tmp_path)
    (directory / "variant" / "dask.lock").write_bytes(LOCK + b"--index-url https://example.org")
    manifest = read_manifest(directory)
    entries = [bundled.entry_of(entry, image) for entry in bundled.recorded(manifest)]
    target = tmp_path / "x.tar.zst"
    files = bundle_files(directory, image)
    write_bundle(target, files, claims("run", directory, manifest), entries, has_images=True)
    monkeypatch.setattr(rerun, "_plan", lambda *_: bench_plan())
    monkeypatch.setattr(rerun, "admit", lambda *_: [])
    monkeypatch.setattr(rerun, "load_images", None)
    with pytest.raises(Refused) as caught:
        rerun.reproduce(target, {}, 0.05, lambda _: rerun.Progress(print, print))
    assert str(caught.value).startswith(f"{target}: run/variant: is no variant of images: dask.l")


def test_a_bundle_without_images_is_built_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, given_ones = variant(tmp_path), []

    def ensure(_stacks: object, _say: object, *, variant: Variant | None) -> dict[str, Image]:
        given_ones.append(variant)
        return {"dask": Image("dask", "harness/dask:1", "sha256:a", 1, ("sha256:b",))}

    monkeypatch.setattr(rerun, "ensure", ensure)
    entry = ImageEntry(stack="dask", reference="harness/dask:1", ids=["sha256:a"], layers=[])
    rerun.load_images([entry], [], lambda _: None, other)
    assert given_ones == [other]
