"""Going on with an earlier bench: what it left behind, and whose directory it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import InfrastructureError, UsageError
from harness.images import Image, docker_cli
from harness.images.docker_cli import LocalImage
from harness.results.directory import RunDirectory
from harness.topology import leftovers, records, resume
from harness.topology.records import BenchProcess, Record
from tests.bench_plans import bench_plan
from tests.fake_engine import PROJECT, FakeClock, FakeEngine

IMAGES = {"dask": Image("dask", "harness/dask:1", "sha256:" + "a" * 64, 5, ("sha256:b",))}
OTHER = "wmhffff0000"


def facts(images: dict[str, Image]) -> dict[str, dict[str, Any]]:
    return {stack: asdict(image) for stack, image in images.items()}


def test_a_bench_file_gives_plan_and_images_back(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    resume.write_bench_file(path, bench_plan(keep=True), facts(IMAGES))
    plan, images = resume.read_bench_file(path)
    assert plan == bench_plan(keep=True)
    assert images["dask"].reference == "harness/dask:1"
    assert images["dask"].id == IMAGES["dask"].id
    assert json.loads(path.read_text())["schema_version"] == 1


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "null", '{"plan": {}}', '{"plan": 1, "images": {}}', "[" * 100_000]
)
def test_another_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"--resume {tmp_path}: bench\.json is not what"):
        resume.read_bench_file(path)


@pytest.mark.parametrize("images", [[], {"dask": []}, {"dask": {"stack": "dask"}}, {"dask": None}])
def test_images_that_are_none_are_refused(tmp_path: Path, images: object) -> None:
    path = tmp_path / "bench.json"
    resume.write_bench_file(path, bench_plan(), facts(IMAGES))
    change(path, images=images)
    with pytest.raises(UsageError, match="is not what a bench writes"):
        resume.read_bench_file(path)


def test_a_directory_without_a_bench_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory; name the run directory of a"):
        resume.read_bench_file(tmp_path / "bench.json")


def test_a_plan_without_containers_is_no_bench(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    plan = bench_plan().model_copy(update={"topology": None})
    resume.write_bench_file(path, plan, {})
    with pytest.raises(UsageError, match="holds a plan without containers"):
        resume.read_bench_file(path)


def test_one_bench_at_a_time_has_a_directory(tmp_path: Path) -> None:
    with (
        resume.only_bench_of(tmp_path, "--run-dir"),
        pytest.raises(UsageError, match=f"--resume {tmp_path}: another bench writes there"),
        resume.only_bench_of(tmp_path, "--resume"),
    ):
        pass
    with resume.only_bench_of(tmp_path, "--resume"):
        pass


@pytest.mark.parametrize(("name", "why"), [("none", "No such file"), ("file", "Not a directory")])
def test_what_is_no_directory_cannot_be_held(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UsageError, match=f"--resume {tmp_path}/{name}: {why}"),
        resume.only_bench_of(tmp_path / name, "--resume"),
    ):
        pass


@pytest.mark.parametrize(
    ("here", "has"),
    [
        ([], "no image harness/dask:1 (aaaaaaaaaaaa)"),
        (["harness/dask:2"], "no image harness/dask:1 (aaaaaaaaaaaa)"),
        (["harness/dask:1"], "another image harness/dask:1 (aaaaaaaaaaaa)"),
    ],
)
def test_only_the_very_same_images_do(
    monkeypatch: pytest.MonkeyPatch, here: list[str], has: str
) -> None:
    def inspect(references: Sequence[str]) -> list[LocalImage]:
        assert references == ["harness/dask:1"]
        return [LocalImage("sha256:" + "c" * 64, 5, tuple(here), {}, ())] if here else []

    monkeypatch.setattr(docker_cli, "inspect", inspect)
    with pytest.raises(InfrastructureError) as raised:
        resume.require_images(IMAGES)
    assert f"--resume: the engine has {has} that" in str(raised.value)


def test_the_very_same_images_do(monkeypatch: pytest.MonkeyPatch) -> None:
    image = LocalImage(IMAGES["dask"].id, 5, ("x:1", "harness/dask:1"), {}, ())
    monkeypatch.setattr(docker_cli, "inspect", lambda _: [image])
    resume.require_images(IMAGES)


class Left:
    """An engine with what two earlier benches left, one of them in this run directory."""

    def __init__(self, place: Path) -> None:
        self.engine = FakeEngine()
        self.directory = RunDirectory(place / "run")
        self.directory.path.mkdir()
        self.said: list[str] = []
        for project, run_dir in ((PROJECT, self.directory.path), (OTHER, place / "another")):
            self.engine.add("runner-1", project=project)
            records.write(Record(project, str(self.process(ended=True)), str(run_dir)))

    @staticmethod
    def process(*, ended: bool) -> BenchProcess:
        now = BenchProcess.current()
        return replace(now, started=now.started + ended)

    def clear(self) -> list[str]:
        resume.clear_the_way(self.directory, self.said.append)
        return [container.project for container in self.engine.all]


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Left:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    left = Left(tmp_path)
    monkeypatch.setattr(leftovers, "connect", lambda: left.engine.client)
    monkeypatch.setattr(leftovers, "wants_container", lambda *_: False)
    monkeypatch.setattr(leftovers, "time", FakeClock())
    monkeypatch.setattr(leftovers, "project_cgroups", lambda _: [])
    monkeypatch.setattr(leftovers, "remove_cgroups", lambda _: [])
    return left


def test_what_the_earlier_bench_left_is_removed_and_nothing_else(left: Left) -> None:
    assert left.clear() == [OTHER]
    assert [record.project for record in records.all_records()] == [OTHER]
    assert left.said == [f"Removing what the earlier bench left ({PROJECT})"]


def test_a_bench_that_runs_keeps_what_it_has(left: Left) -> None:
    running = str(left.process(ended=False))
    records.write(Record(PROJECT, running, str(left.directory.path)))
    assert left.clear() == [PROJECT, OTHER]
    assert left.said == []


def test_what_cannot_be_removed_stops_the_resuming(left: Left) -> None:
    left.engine.all[0].stuck = True
    with pytest.raises(InfrastructureError, match=f"--resume: container {PROJECT}-runner-1 could"):
        left.clear()
