"""How the objects of one stage become the inputs of the next stage's tasks (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

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
