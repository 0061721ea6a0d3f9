"""A directed graph of tasks: what each reads, makes and how long it works (pure).

Objects are numbered: the start data first, then one object for each task, in the order of levels.
A task's level is one more than the highest level of those it waits for. An object lives from its
producer, start data from its first reader, to its last reader; what nobody reads is the workflow's
outcome, and lives to its end.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from typing import NamedTuple

from harness.connectors import Held


class Start(NamedTuple):
    """An object of start data: its name within a cycle, and its size in bytes."""

    label: str
    size: int


class Task(NamedTuple):
    """A task.

    Attributes:
        label: its name within a cycle; its result's bytes follow from it.
        inputs: numbers of the objects it reads.
        size: of its result, in bytes.
        sleep_s: how long it works, in seconds.
        after: numbers of tasks' objects that it does not read, but waits for.
    """

    label: str
    inputs: tuple[int, ...]
    size: int
    sleep_s: float
    after: tuple[int, ...] = ()


class Schedule(NamedTuple):
    """How long a graph takes, in seconds, and the most that is alive at once."""

    length_s: float
    most: Held


@dataclass(frozen=True)
class Graph:
    """Start data, and tasks by level."""

    start: tuple[Start, ...]
    levels: tuple[tuple[Task, ...], ...]

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks, level by level: task ``n`` makes object ``len(start) + n``."""
        return tuple(task for level in self.levels for task in level)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Each object's size in bytes."""
        return (*(item.size for item in self.start), *(task.size for task in self.tasks))

    @cached_property
    def level_of(self) -> tuple[int, ...]:
        """Each task's level."""
        return tuple(number for number, level in enumerate(self.levels) for _ in level)

    @cached_property
    def enter(self) -> tuple[tuple[int, ...], ...]:
        """Start data by the level that is the first to read it."""
        found: list[list[int]] = [[] for _ in self.levels]
        seen = [False] * len(self.start)
        for number, level in enumerate(self.levels):
            for read in (read for task in level for read in task.inputs):
                if read < len(self.start) and not seen[read]:
                    seen[read] = True
                    found[number].append(read)
        return tuple(map(tuple, found))

    @cached_property
    def end(self) -> tuple[tuple[int, ...], ...]:
        """Objects by the level that is the last to read them; behind these, those of the end."""
        last = [len(self.levels)] * len(self.sizes)
        for number, level in enumerate(self.levels):
            for task in level:
                for read in task.inputs:
                    last[read] = number
        found: list[list[int]] = [[] for _ in range(len(self.levels) + 1)]
        for item, number in enumerate(last):
            found[number].append(item)
        return tuple(map(tuple, found))

    @cached_property
    def readers(self) -> tuple[int, ...]:
        """How many tasks read each object."""
        found = [0] * len(self.sizes)
        for task in self.tasks:
            for read in task.inputs:
                found[read] += 1
        return tuple(found)

    @cached_property
    def next_tasks(self) -> tuple[tuple[int, ...], ...]:
        """Which tasks wait for each task."""
        found: list[list[int]] = [[] for _ in self.tasks]
        for number, task in enumerate(self.tasks):
            for needed in self._needs(task):
                found[needed].append(number)
        return tuple(map(tuple, found))

    def _needs(self, task: Task) -> set[int]:
        first = len(self.start)
        return {item - first for item in (*task.inputs, *task.after) if item >= first}

    def waiting(self) -> list[int]:
        """Return for how many tasks each task waits."""
        return [len(self._needs(task)) for task in self.tasks]

    def held(self, objects: Iterable[int]) -> Held:
        """Return number and bytes of some objects."""
        found = [self.sizes[item] for item in objects]
        return Held(len(found), sum(found))

    def layers(self) -> list[Held]:
        """Return the start data, then each level's results."""
        made = [Held(len(level), sum(task.size for task in level)) for level in self.levels]
        return [self.held(range(len(self.start))), *made]

    def least_s(self, *, barriers: bool) -> float:
        """Return how long one cycle takes in seconds where only its tasks' work takes time.

        That is its critical path, with barriers the longest task of each level.
        """
        if barriers:
            return sum(max((task.sleep_s for task in level), default=0.0) for level in self.levels)
        ends: list[float] = []
        for task in self.tasks:
            ends.append(max((ends[n] for n in self._needs(task)), default=0.0) + task.sleep_s)
        return max(ends, default=0.0)

    def schedule(self, workers: int | None, overhead_s: float = 0.0) -> Schedule:
        """Run the tasks as soon as they can be, in their order, on some workers, in thought.

        Args:
            workers: how many there are; None is as many as there are tasks.
            overhead_s: what each task takes beside its work.
        """
        waiting, readers = self.waiting(), list(self.readers)
        fresh = [number for number, count in enumerate(waiting) if count == 0]
        ready: deque[int] = deque()
        running: list[tuple[float, int]] = []
        there: set[int] = set()
        now_s, alive, most = 0.0, Held(0, 0), Held(0, 0)
        while fresh or ready or running:
            # Start data enters as soon as a task that reads it could run.
            entering = {read for number in fresh for read in self.tasks[number].inputs} - there
            entering = {read for read in entering if read < len(self.start)}
            there |= entering
            alive += self.held(entering)
            ready.extend(fresh)
            fresh = []
            while ready and (workers is None or len(running) < workers):
                number = ready.popleft()
                alive += self.held([len(self.start) + number])  # while its inputs are there
                end_s = now_s + self.tasks[number].sleep_s + overhead_s
                heapq.heappush(running, (end_s, number))
            most = max(most, alive, key=lambda held: held.size_bytes)
            now_s, number = heapq.heappop(running)
            for read in self.tasks[number].inputs:
                readers[read] -= 1
                alive -= self.held([read] if readers[read] == 0 else [])
            for following in self.next_tasks[number]:
                waiting[following] -= 1
                if waiting[following] == 0:
                    fresh.append(following)
        return Schedule(now_s, most)


def levels_of(needs: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return names by level, in the order given within one.

    Args:
        needs: name to the names it waits for, all of which are keys.

    Raises:
        graphlib.CycleError: if some wait for each other; its second argument names them in order.
    """
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    place = {name: number for number, name in enumerate(needs)}
    found: list[list[str]] = []
    while sorter.is_active():
        found.append(sorted(sorter.get_ready(), key=place.__getitem__))
        sorter.done(*found[-1])
    return found
