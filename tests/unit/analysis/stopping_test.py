"""When runs are enough: what --until asks."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from harness.analysis.readers import read_session
from harness.analysis.statistics import ALPHA, ALPHA_OF_A_LOOK, MOST_LOOKS
from harness.analysis.stopping import Look, look
from harness.plan.options import LOOKS
from tests.rundirs import write_run_directory

MB = 1_000_000


def drawn(mean_mb: float, spread_mb: float, runs: int, seed: int = 1) -> list[int]:
    chance = random.Random(seed)
    return [round(chance.gauss(mean_mb, spread_mb) * MB) for _ in range(runs)]


def asked(place: Path, peaks: dict[str, list[int]], until: float = 0.05) -> Look:
    directory = write_run_directory(place, peaks, interleaved=True, events=False)
    return look(read_session(directory.path), until)


def test_the_looks_together_are_wrong_at_most_as_often_as_one() -> None:
    assert len(LOOKS) == MOST_LOOKS
    assert ALPHA_OF_A_LOOK * len(LOOKS) == pytest.approx(ALPHA)


def test_one_mode_is_enough_when_as_many_runs_again_show_the_share(tmp_path: Path) -> None:
    few = asked(tmp_path / "few", {"none": drawn(100, 5, 5)})
    assert not few.enough
    assert few.said.startswith("net peak of none: as many runs again would show ")
    assert asked(tmp_path / "many", {"none": drawn(100, 5, 27)}).enough
    # Runs that scatter less need fewer.
    assert asked(tmp_path / "steady", {"none": drawn(100, 1, 5)}).enough


def test_modes_are_enough_when_each_has_an_answer(tmp_path: Path) -> None:
    none = drawn(200, 4, 8)
    near = drawn(203, 20, 8, seed=2)
    found = asked(tmp_path / "a", {"none": none, "owned-proxy": drawn(100, 4, 8), "x": near})
    assert (found.enough, found.said) == (False, "net peak: none > x undecided")
    found = asked(tmp_path / "b", {"none": none, "owned-proxy": drawn(100, 4, 8)})
    assert (found.enough, found.said) == (True, "net peak: none > owned-proxy better")


def test_runs_are_compared_with_those_of_another_directory(tmp_path: Path) -> None:
    before = write_run_directory(tmp_path / "a", {"none": drawn(100, 1, 12)}, events=False)
    against = read_session(before.path)
    for name, mean, said in (("same", 100, "equivalent"), ("more", 115, "worse")):
        there = write_run_directory(tmp_path / name, {"none": drawn(mean, 1, 12, 3)}, events=False)
        found = look(read_session(there.path), 0.05, against)
        assert (found.enough, found.said) == (True, f"net peak: none {said}")


def test_nothing_that_more_runs_could_change_is_enough(tmp_path: Path) -> None:
    other = write_run_directory(tmp_path / "a", {"none": drawn(100, 2, 5)}, sizes=(5, 5, 5))
    there = write_run_directory(tmp_path / "b", {"none": drawn(100, 2, 5)})
    found = look(read_session(there.path), 0.05, read_session(other.path))
    assert (found.enough, found.said) == (True, "net peak: none not comparable")
