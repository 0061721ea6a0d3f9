"""What a workload must keep alive, from its graph alone (pure).

Counts objects and payload bytes: what a connector stores for an object is a few bytes more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.connectors import Held
from harness.plan import Mode, Workload
from harness.plan.graph import Graph
from harness.plan.workload import graph_of

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
            later task still needs, or nobody reads but whoever asked for the workflow, once each.
    """

    cycle: int
    stage: int
    held: Held
    peak: Held
    ideal_bytes: int


def made(workload: Workload) -> Held:
    """Return how many objects, and how many payload bytes, one workflow makes in all.

    The start data, then one result for each task, all of it once in each cycle. With the flags of
    the paper's experiment (TPDS 2024) that is 28.168 GB.
    """
    once = sum(graph_of(workload).layers(), NOTHING)
    return Held(workload.cycles * once.objects, workload.cycles * once.size_bytes)


def boundaries(workload: Workload, mode: str) -> Iterator[Boundary]:
    """Yield what must be alive at each boundary of a workflow under one mode, in order.

    Without barriers something is under way from the first task to the last: then only a cycle's
    start and its end are boundaries, and the peak between them is that of as many workers as there
    are tasks to run.
    """
    graph = graph_of(workload)
    if not graph.levels:
        return  # nothing is known ahead
    kept = NOTHING  # what default-proxy has not removed so far
    for cycle in range(workload.cycles):
        cycle_of = _cycle if workload.barriers else _cycle_without_barriers
        for boundary in cycle_of(cycle, graph, mode, kept):
            # Bytes that go through the executor are in no store.
            yield boundary if mode != Mode.NONE else replace(boundary, held=NOTHING, peak=NOTHING)
        if mode == Mode.DEFAULT_PROXY:
            kept = sum(graph.layers(), kept)


def _cycle(cycle: int, graph: Graph, mode: str, kept: Held) -> Iterator[Boundary]:
    keeps = mode == Mode.DEFAULT_PROXY
    layers = graph.layers()[1:]
    enters = [graph.held(objects) for objects in graph.enter]
    ends = [graph.held(objects) for objects in graph.end]
    needed = enters[0]
    held = kept + needed
    yield Boundary(cycle, START, held, held, needed.size_bytes)
    for stage, layer in enumerate(layers):
        comes = layer + enters[stage] if stage else layer
        peak = held + comes
        needed = needed + comes - ends[stage]
        held = peak if keeps else needed
        yield Boundary(cycle, stage, held, peak, needed.size_bytes)
    peak, held = held, held if keeps else NOTHING
    yield Boundary(cycle, len(layers), held, peak, NOTHING.size_bytes)


def _cycle_without_barriers(cycle: int, graph: Graph, mode: str, kept: Held) -> Iterator[Boundary]:
    keeps = mode == Mode.DEFAULT_PROXY
    needed = graph.held(graph.enter[0])
    yield Boundary(cycle, START, kept + needed, kept + needed, needed.size_bytes)
    everything = sum(graph.layers(), kept)
    held = everything if keeps else NOTHING
    peak = everything if keeps else graph.schedule(None).most
    yield Boundary(cycle, len(graph.levels), held, peak, NOTHING.size_bytes)


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
