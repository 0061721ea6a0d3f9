"""Benches that take turns: who goes when, and what ends all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from harness.core.errors import InfrastructureError, MeasuredFailure
from harness.topology.bench import Bench
from harness.topology.turns import MOST_OPEN, Turns

NAMES = "abcdefghijklmnopqrst"


class FakeBench:
    """Runs so many topologies, and says in a list what it did."""

    def __init__(self, name: str, topologies: int, happened: list[str]) -> None:
        self.name = name
        self.topologies = topologies
        self.happened = happened
        self.done = 0
        self.fails_at: int | None = None
        self.interrupted_at: int | None = None
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
        for number in range(self.done, self.topologies):
            if number == self.fails_at:
                raise InfrastructureError(f"{self.name} lost its engine")
            if number == self.interrupted_at:
                raise KeyboardInterrupt
            self.happened.append(self.name)
            self.done += 1
            if number < self.topologies - 1:
                yield


def benches(*topologies: int) -> tuple[list[FakeBench], list[str]]:
    happened: list[str] = []
    return [FakeBench(NAMES[n], count, happened) for n, count in enumerate(topologies)], happened


def opened_once(names: str) -> dict[str, int]:
    return {f"{what} {name}": 1 for what in ("open", "close") for name in names}


def take(fakes: list[FakeBench], seed: int = 1, enough_after: int = 10**6) -> None:
    asked: list[None] = []

    def enough() -> bool:
        asked.append(None)
        return len(asked) >= enough_after

    Turns(cast("list[Bench]", fakes), seed, enough).run()


def test_each_turn_has_one_topology_of_each_in_an_order_of_its_own() -> None:
    fakes, happened = benches(8, 8, 8)
    take(fakes)
    assert sorted(happened[0:6:2]) == ["open a", "open b", "open c"]
    assert sorted(happened[-6:][1::2]) == ["close a", "close b", "close c"]
    steps = [each for each in happened if len(each) == 1]
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
    assert Counter(each for each in happened if len(each) == 1) == {"a": 1, "b": 3}
    # Nothing of it is there while the others go on.
    assert happened.index("close a") < happened.index("close b") - 2


def test_it_ends_when_it_is_enough() -> None:
    fakes, happened = benches(9, 9)
    take(fakes, enough_after=3)
    # It is asked after each topology, in the middle of a turn, too.
    steps = [each for each in happened if len(each) == 1]
    assert len(steps) == 3
    assert set(steps[:2]) == {"a", "b"}
    assert Counter(happened) == {**Counter(steps), **opened_once("ab")}


def test_a_lost_engine_ends_all_of_them() -> None:
    fakes, happened = benches(5, 5)
    fakes[1].fails_at = 2
    with pytest.raises(InfrastructureError, match="b lost its engine"):
        take(fakes)
    assert sorted(happened[-2:]) == ["close a", "close b"]
    assert Counter(happened)["b"] == 2


def test_runs_that_ended_badly_are_told_when_all_are_down() -> None:
    fakes, happened = benches(2, 2)
    fakes[0].ended_badly = True
    with pytest.raises(MeasuredFailure, match="run of a failed"):
        take(fakes)
    assert Counter(happened) == {"a": 2, "b": 2, **opened_once("ab")}


def test_of_many_only_a_few_are_open_at_a_time() -> None:
    fakes, happened = benches(*[3] * 20)
    take(fakes)
    is_open: set[str] = set()
    for each in happened:
        what, _, name = each.rpartition(" ")
        if what == "open":
            assert name not in is_open
            is_open.add(name)
        elif what == "close":
            is_open.remove(name)
        else:
            assert name in is_open
        assert len(is_open) <= MOST_OPEN
    assert is_open == set()
    # And still each turn has one of each.
    steps = [each for each in happened if len(each) == 1]
    assert [Counter(steps[n : n + 20]) for n in (0, 20, 40)] == [Counter(NAMES[:20])] * 3


def test_a_failure_of_one_that_was_closed_is_told_at_the_end() -> None:
    fakes, happened = benches(*[3] * 20)
    fakes[4].ended_badly = True
    with pytest.raises(MeasuredFailure, match="run of e failed"):
        take(fakes)
    assert Counter(each for each in happened if len(each) == 1) == dict.fromkeys(NAMES[:20], 3)


def test_an_interruption_is_not_hidden_by_runs_that_ended_badly() -> None:
    fakes, happened = benches(5, 5)
    for fake in fakes:
        fake.ended_badly = True
    fakes[1].interrupted_at = 2
    with pytest.raises(KeyboardInterrupt):
        take(fakes)
    assert sorted(happened[-2:]) == ["close a", "close b"]
