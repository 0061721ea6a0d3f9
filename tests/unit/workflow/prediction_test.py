from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from harness.connectors import Held
from harness.plan import Mode
from harness.plan.prediction import (
    START,
    boundaries,
    held_at_end,
    ideal_peak_bytes,
    made,
    peak_held,
)
from harness.workloads.stages import Stages as Workload

PAPER = Workload(
    stage_task_counts=(32, 1),
    stage_bytes_sizes=(100_000_000, 10_000_000, 1_000_000),
    stage_repeat=8,
    task_sleep=5.0,
)
MODES = tuple(mode.value for mode in Mode)
REMOVING = ("manual-proxy", "owned-proxy")


def some_workloads(number: int) -> Iterator[Workload]:
    """Yield workloads of all shapes, the same ones each time."""
    chance = random.Random(5)
    for _ in range(number):
        counts: list[int] = [chance.randint(1, 9)]
        for _ in range(chance.randint(0, 5)):
            before = counts[-1]
            counts.append(chance.choice([1, before, chance.randint(1, 9) if before == 1 else 1]))
        yield Workload(
            stage_task_counts=tuple(counts),
            stage_bytes_sizes=tuple(chance.randint(0, 10**9) for _ in range(len(counts) + 1)),
            stage_repeat=chance.randint(1, 4),
            task_sleep=0.0,
        )


def test_the_papers_arithmetic() -> None:
    assert made(PAPER) == Held(8 * (32 + 32 + 1), 28_168_000_000)
    assert held_at_end(PAPER, "default-proxy").size_bytes == 28_168_000_000
    # Inputs and results of the first stage are there together, but for one mode only once.
    assert peak_held(PAPER, "owned-proxy") == Held(64, 32 * 110_000_000)
    assert ideal_peak_bytes(PAPER) == 3_200_000_000


def test_only_default_proxy_keeps_objects() -> None:
    assert held_at_end(PAPER, "default-proxy") == made(PAPER)
    for mode in ("none", "futures", *REMOVING):
        assert held_at_end(PAPER, mode) == Held(0, 0)


def test_an_executor_must_hold_what_a_store_does_that_is_kept_tidy() -> None:
    for workload in some_workloads(50):
        futures = list(boundaries(workload, "futures"))
        assert futures == list(boundaries(workload, "manual-proxy"))
    assert peak_held(PAPER, "futures").size_bytes == 32 * 110_000_000


def test_boundaries_of_a_small_chain() -> None:
    chain = Workload(
        stage_task_counts=(2, 1), stage_bytes_sizes=(10, 4, 1), stage_repeat=2, task_sleep=0.0
    )
    removing = [(b.cycle, b.stage, b.held, b.peak) for b in boundaries(chain, "owned-proxy")][:4]
    assert removing == [
        (0, START, Held(2, 20), Held(2, 20)),
        (0, 0, Held(2, 8), Held(4, 28)),
        (0, 1, Held(1, 1), Held(3, 9)),
        (0, 2, Held(0, 0), Held(1, 1)),
    ]
    keeping = [b.held.size_bytes for b in boundaries(chain, "default-proxy")]
    assert keeping == [20, 28, 29, 29, 49, 57, 58, 58]
    assert [b.ideal_bytes for b in boundaries(chain, "none")][:4] == [20, 8, 1, 0]


@pytest.mark.parametrize("mode", MODES)
def test_what_holds_for_every_workload(mode: str) -> None:
    for workload in some_workloads(200):
        found = list(boundaries(workload, mode))
        per_cycle = len(workload.stage_task_counts) + 2
        assert len(found) == workload.stage_repeat * per_cycle
        for boundary in found:
            assert boundary.held.objects >= 0
            assert boundary.held.size_bytes <= boundary.peak.size_bytes
            # No mode with a store holds less than is still needed; mode none holds it elsewhere.
            if mode == "none":
                assert boundary.peak == Held(0, 0)
            else:
                assert boundary.held.size_bytes >= boundary.ideal_bytes
        if mode in REMOVING:
            assert [b.held.size_bytes for b in found] == [b.ideal_bytes for b in found]
        if mode == "default-proxy":
            held = [b.held.size_bytes for b in found]
            assert held == sorted(held)
            assert found[-1].held == made(workload)


def test_the_two_modes_that_remove_hold_the_same() -> None:
    for workload in some_workloads(50):
        manual, owned = (list(boundaries(workload, mode)) for mode in REMOVING)
        assert manual == owned
