"""Benches that take turns: who goes when, and what ends all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from harness.core.errors import InfrastructureError, MeasuredFailure
from harness.topology import turns
from harness.topology.bench import Bench
from harness.topology.turns import Turns


class FakeBench:
    """Runs so many topologies, and says in a list what it did."""

    def __init__(self, name: str, topologies: int, happened: list[str]) -> None:
        self.name = name
        self.topologies = topologies
        self.happened = happened
        self.fails_at: int | None = None
        self.ended_badly = False

    @contextmanager
    def session(self) -> Iterator[Iterator[None]]:
        self.happened.append(f"open {self.name}")
        try:
            yield self._steps()
        finally:
            self.happened.append(f"close {self.name}")
        if self.ended_badly:
            raise MeasuredFailure(f"run of {self.name} failed")

    def _steps(self) -> Generator[None, None, None]:
        for number in range(self.topologies):
            if number == self.fails_at:
                raise InfrastructureError(f"{self.name} lost its engine")
            self.happened.append(self.name)
            if number < self.topologies - 1:
                yield

    def projects(self) -> list[str]:
        return [f"{self.name}-1", f"{self.name}-2"]

    def say(self, line: str) -> None:
        self.happened.append(line)


def benches(*topologies: int) -> tuple[list[FakeBench], list[str]]:
    happened: list[str] = []
    return [FakeBench("abc"[n], count, happened) for n, count in enumerate(topologies)], happened


def take(fakes: list[FakeBench], seed: int = 1, enough_after: int = 10**6) -> None:
    asked: list[None] = []

    def enough() -> bool:
        asked.append(None)
        return len(asked) >= enough_after

    Turns(cast("list[Bench]", fakes), seed, enough).run()


def test_each_turn_has_one_topology_of_each_in_an_order_of_its_own() -> None:
    fakes, happened = benches(8, 8, 8)
    take(fakes)
    assert happened[:3] == ["open a", "open b", "open c"]
    assert happened[-3:] == ["close c", "close b", "close a"]
    steps = happened[3:-3]
    rounds = [tuple(steps[n : n + 3]) for n in range(0, len(steps), 3)]
    assert len(rounds) == 8
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len(set(rounds)) > 2, "none is always first"


def test_the_order_follows_from_the_seed() -> None:
    orders = []
    for seed in (1, 1, 2):
        fakes, happened = benches(8, 8)
        take(fakes, seed)
        orders.append(happened)
    assert orders[0] == orders[1] != orders[2]


def test_one_that_is_at_its_end_leaves_the_turns_to_the_others() -> None:
    fakes, happened = benches(1, 3)
    take(fakes)
    assert Counter(happened[2:-2]) == {"a": 1, "b": 3}


def test_it_ends_when_it_is_enough() -> None:
    fakes, happened = benches(9, 9)
    take(fakes, enough_after=2)
    assert Counter(happened[2:-2]) == {"a": 2, "b": 2}


def test_a_lost_engine_ends_all_of_them() -> None:
    fakes, happened = benches(5, 5)
    fakes[1].fails_at = 2
    with pytest.raises(InfrastructureError, match="b lost its engine"):
        take(fakes)
    assert happened[-2:] == ["close b", "close a"]
    assert Counter(happened[2:-2])["b"] == 2


def test_runs_that_ended_badly_are_told_when_all_are_down() -> None:
    fakes, happened = benches(2, 2)
    fakes[0].ended_badly = True
    with pytest.raises(MeasuredFailure, match="run of a failed"):
        take(fakes)
    assert happened[-2:] == ["close b", "close a"]
    assert Counter(happened[2:-2]) == {"a": 2, "b": 2}


def test_a_second_signal_leaves_the_projects_of_all_to_somebody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[list[str]] = []
    monkeypatch.setattr(turns, "clean_in_background", lambda projects, _: left.append(projects))
    fakes, _ = benches(1, 1)
    both = Turns(cast("list[Bench]", fakes), 1, lambda: False)
    both._end_at_once()
    assert left == [["a-1", "a-2", "b-1", "b-2"]]
