"""Sides of a comparison: what is taken up again, and how many runs all of them have."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import InfrastructureError
from harness.images import Image
from harness.results.directory import RunDirectory
from harness.topology import sides
from harness.topology.resume import write_bench_file
from harness.topology.sides import benches, earlier_side, new_side
from tests.bench_plans import bench_plan

IMAGE = Image("dask", "dask:1", "sha256:" + "a" * 64, 1)


def test_runs_of_all_sides_are_counted_and_lines_say_whose_they_are(tmp_path: Path) -> None:
    both = [new_side(name, tmp_path / name, bench_plan(), None, {}) for name in "ab"]
    said: list[str] = []
    counts: list[int] = []
    first, second = benches(both, said.append, counts.append)
    first.progress(2)
    second.progress(3)
    first.progress(1)  # it is told again what it knew already
    second.say("Starting")
    assert counts == [2, 5, 5]
    assert said == ["b: Starting"]
    assert first.last is second.last
    assert both[0].directory.log.exists()


def test_a_side_that_was_killed_before_its_turn_is_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_side("a", tmp_path / "a", bench_plan(), None, {"dask": IMAGE})
    monkeypatch.setattr(sides, "require_images", lambda _: None)
    side, done = earlier_side("a", tmp_path / "a", lambda _: None)
    assert (side.plan, side.images["dask"].id, done) == (bench_plan(), IMAGE.id, 0)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what is asked to be built; the engine has an image when it was."""
    asked: list[Any] = []

    def require(_images: object) -> None:
        if not asked:
            raise InfrastructureError("--resume: the engine has no image dask:1")

    def ensure(stacks: object, *_: object, **__: object) -> dict[str, Image]:
        asked.append(stacks)
        return {}

    monkeypatch.setattr(sides, "ensure", ensure)
    monkeypatch.setattr(sides, "require_images", require)
    monkeypatch.setattr(sides, "clear_the_way", lambda *_: None)
    monkeypatch.setattr(sides, "finished_runs", lambda *_: frozenset({"0001-none-1"}))
    return asked


def test_an_earlier_side_goes_on_and_images_that_are_gone_are_built_again(
    tmp_path: Path, built: list[Any]
) -> None:
    directory = RunDirectory(tmp_path)
    write_bench_file(directory.bench, bench_plan(), {"dask": asdict(IMAGE)})
    side, done = earlier_side("2024.3.1", tmp_path, lambda _: None)
    assert (side.name, side.variant, done) == ("2024.3.1", None, 1)
    assert side.images["dask"].id == IMAGE.id
    assert side.plan == bench_plan()
    assert len(built) == 1
    assert "dask" in built[0]
    earlier_side("2024.3.1", tmp_path, lambda _: None)
    assert len(built) == 1
