"""The graph that the flags of stages describe."""

from __future__ import annotations

import pytest

from harness.plan.graph import Start, Task
from harness.workloads.stages import Stages


def stages(*counts: int, sizes: tuple[int, ...] = ()) -> Stages:
    return Stages(
        stage_task_counts=counts,
        stage_bytes_sizes=sizes or (0,) * (len(counts) + 1),
        task_sleep=0.5,
    )


def inputs(workload: Stages) -> list[list[tuple[int, ...]]]:
    return [[task.inputs for task in level] for level in workload.graph().levels]


def test_equal_counts_map_one_to_one() -> None:
    assert inputs(stages(2, 2)) == [[(0,), (1,)], [(2,), (3,)]]


def test_one_object_fans_out() -> None:
    assert inputs(stages(1, 3)) == [[(0,)], [(1,), (1,), (1,)]]


def test_many_objects_fan_in() -> None:
    assert inputs(stages(3, 1)) == [[(0,), (1,), (2,)], [(3, 4, 5)]]


def test_other_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="stage 1 has 3 tasks but follows 2"):
        stages(2, 3)


def test_labels_are_those_of_the_bytes_that_were_always_made() -> None:
    graph = stages(2, 1, sizes=(10, 4, 1)).graph()
    assert graph.start == (Start("start/0", 10), Start("start/1", 10))
    assert graph.levels == (
        (Task("0/0", (0,), 4, 0.5), Task("0/1", (1,), 4, 0.5)),
        (Task("1/0", (2, 3), 1, 0.5),),
    )
