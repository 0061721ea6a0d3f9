"""How the objects of one stage become the inputs of the next stage's tasks (pure).

What a workload must keep alive, from the flags alone (pure).

Counts objects and payload bytes: what a connector stores for an object is a few bytes more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness.connectors import Held
from harness.plan import Mode, Workload

T = TypeVar("T")


def inputs_of_tasks(data: Sequence[T], task_count: int) -> list[list[T]]:
    """Return one list of inputs for each task.

    Equal counts map one to one, one object fans out to all tasks, many objects fan in to one.

    Raises:
        ValueError: for any other pair of counts (a plan refuses them earlier).
    """
    if len(data) == task_count:
        return [[item] for item in data]
    if len(data) == 1:
        return [[data[0]] for _ in range(task_count)]
    if task_count == 1:
        return [list(data)]
    raise ValueError(f"{len(data)} objects cannot be spread over {task_count} tasks")


NOTHING = Held(0, 0)
START = -1
"""The stage of the boundary at which a cycle's start data has been made."""


@dataclass(frozen=True)
class Boundary:
    """A moment at which nothing is under way: between two stages, before or after them.

    Attributes:
        cycle: repetition of the stages, from 0.
        stage: ``START``, then the stage that is done, its inputs removed where the mode does
            that; the number of stages when the cycle's last results have been dropped too.
        held: what the connector holds.
        peak: the most it has held since the boundary before. While a stage runs, its inputs and
            its results are both there.
        ideal_bytes: the least that any implementation could hold at this moment, wherever: what a
            later task still needs, once each.
    """

    cycle: int
    stage: int
    held: Held
    peak: Held
    ideal_bytes: int


def _layers(workload: Workload) -> list[Held]:
    """Return the start data, then each stage's results."""
    counts = (workload.stage_task_counts[0], *workload.stage_task_counts)
    sizes = workload.stage_bytes_sizes
    return [Held(count, count * size) for count, size in zip(counts, sizes, strict=True)]


def made(workload: Workload) -> Held:
    """Return how many objects, and how many payload bytes, one workflow makes in all.

    ``stage_task_counts[0]`` objects of start data, then one result for each task, all of it
    ``stage_repeat`` times. With the flags of the paper's experiment (TPDS 2024) that is
    28.168 GB.
    """
    once = sum(_layers(workload), NOTHING)
    repeat = workload.stage_repeat
    return Held(repeat * once.objects, repeat * once.size_bytes)


def boundaries(workload: Workload, mode: str) -> Iterator[Boundary]:
    """Yield what must be alive at each boundary of a workflow under one mode, in order."""
    layers = _layers(workload)
    kept = NOTHING  # what default-proxy has not removed so far
    for cycle in range(workload.stage_repeat):
        yield from _cycle(cycle, layers, mode, kept)
        if mode == Mode.DEFAULT_PROXY:
            kept = sum(layers, kept)


def _cycle(cycle: int, layers: Sequence[Held], mode: str, kept: Held) -> Iterator[Boundary]:
    uses_store = mode != Mode.NONE
    keeps = mode == Mode.DEFAULT_PROXY
    alive = kept
    consumed = NOTHING
    for number, layer in enumerate((*layers, NOTHING)):
        peak = alive + layer if uses_store else NOTHING
        alive = peak if keeps else peak - consumed
        consumed = layer if uses_store else NOTHING
        yield Boundary(cycle, START + number, alive, peak, layer.size_bytes)


def held_at_end(workload: Workload, mode: str) -> Held:
    """Return what the connector holds when the workflow ends, before any clean-up.

    Only ``default-proxy`` keeps objects: nothing removes them inside the run.
    """
    return list(boundaries(workload, mode))[-1].held


def peak_held(workload: Workload, mode: str) -> Held:
    """Return the most that the connector must hold at once during a workflow."""
    return max((b.peak for b in boundaries(workload, mode)), key=lambda held: held.size_bytes)


def ideal_peak_bytes(workload: Workload) -> int:
    """Return the least that any implementation holds at its fullest boundary."""
    return max(b.ideal_bytes for b in boundaries(workload, Mode.NONE))
