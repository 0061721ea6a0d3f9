"""Agents of several nodes: one mark, one confirmation, one word on memory that is flat."""

from __future__ import annotations

from typing import Any

import pytest

from harness.results.conversation import (
    BASELINE_START,
    NOT_WATCHED,
    RUN_START,
    SETTLED,
    STOP,
    TIMED_OUT,
    Settled,
)
from harness.results.schema import MarkRow
from harness.sampling.agent.several import Several, together

NODES = ("a", "b", "c")


class Watch:
    """One node's watch, which writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.why: str | None = None
        self.kills: dict[str, int] = {}
        self.frozen = False

    def mark(self, mark: MarkRow) -> None:
        self.told.append(mark.mark)

    def confirm(self) -> None:
        self.told.append("confirmed")

    def tell_settled(self, run_id: str, found: Settled) -> None:
        self.told.append((run_id, found))

    def poll(self) -> str | None:
        return self.why

    def is_silent(self, timeout_s: float) -> bool:
        assert timeout_s == 6
        return self.frozen

    def killed(self) -> dict[str, int]:
        return self.kills


def joined(*names: str) -> tuple[Several, dict[str, Watch]]:
    watches = {name: Watch() for name in names}
    several = Several(names[0], names)
    several.watches.update(watches)  # type: ignore[arg-type]
    return several, watches


def mark(name: str) -> MarkRow:
    return MarkRow("0001-none-1", name, 1, 2)


def test_a_mark_is_confirmed_when_all_nodes_have_handled_it() -> None:
    several, watches = joined(*NODES)
    several.handled("a", mark(RUN_START))
    assert watches["a"].told == []
    assert watches["b"].told == watches["c"].told == [RUN_START]
    several.handled("c", mark(RUN_START))
    assert watches["a"].told == []
    several.handled("b", mark(RUN_START))
    assert watches["a"].told == ["confirmed"]


def test_the_only_node_is_confirmed_at_once() -> None:
    several, watches = joined("")
    several.handled("", mark(BASELINE_START))
    assert watches[""].told == ["confirmed"]


def test_the_end_is_told_to_nobody_else() -> None:
    several, watches = joined(*NODES)
    several.handled("a", mark(STOP))
    assert watches["a"].told == ["confirmed"]
    assert watches["b"].told == []


def test_memory_is_flat_when_it_is_flat_everywhere() -> None:
    several, watches = joined("a", "b")
    several.settled("b", "0001-none-1", Settled(SETTLED, 5))
    assert watches["a"].told == []
    several.settled("a", "0001-none-1", Settled(SETTLED, 7))
    assert watches["a"].told == [("0001-none-1", Settled(SETTLED, 12))]
    assert watches["b"].told == []


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([Settled(SETTLED, 1), Settled(TIMED_OUT, 9)], Settled(TIMED_OUT, 10)),
        ([Settled(SETTLED, 1), Settled(NOT_WATCHED)], Settled(SETTLED, 1)),
        ([Settled(NOT_WATCHED), Settled(NOT_WATCHED)], Settled(NOT_WATCHED)),
    ],
)
def test_the_worst_word_counts(verdicts: list[Settled], expected: Settled) -> None:
    assert together(verdicts) == expected


def test_whoever_has_ended_is_named_by_its_node() -> None:
    several, watches = joined("a", "b")
    assert several.poll() is None
    watches["b"].why = "its stream ended"
    assert several.poll() == "its stream ended (node b)"
    alone, only = joined("")
    only[""].why = "its stream ended"
    assert alone.poll() == "its stream ended"


def test_kills_of_all_nodes_are_told() -> None:
    several, watches = joined("a", "b")
    watches["a"].kills, watches["b"].kills = {"worker-1": 0}, {"worker-2": 1}
    assert several.killed() == {"worker-1": 0, "worker-2": 1}


def test_whoever_stands_still_is_named_by_its_node() -> None:
    several, watches = joined("a", "b")
    assert several.ask(6) is None
    watches["b"].frozen = True
    assert several.ask(6) == "its agent of node b did not answer within 6 s"
    alone, only = joined("")
    only[""].frozen = True
    assert alone.ask(6) == "its agent did not answer within 6 s"
