"""One workflow: tasks that pass data on, level by level or each as soon as it can run."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

from harness.connectors import Held
from harness.core.user_module import UserModule
from harness.executors import together
from harness.plan import Workload
from harness.plan.graph import Graph
from harness.plan.prediction import START
from harness.plan.workload import graph_of
from harness.workflow.client import Client
from harness.workflow.modes import DataManager
from harness.workflow.tasks import Entry, payload


class Audit(Protocol):
    """Looks at the storage while a workflow runs, inside of the clock."""

    def boundary(self, cycle: int, stage: int) -> object:
        """Be called at every boundary (see ``prediction``)."""

    def completion(self, entry: Entry, alive: Callable[[], Held], made: Held) -> object:
        """Be called when a task's result is here and what it was the last to read is gone.

        Args:
            entry: the task's.
            alive: gives the objects that the client knows of and that are still needed.
            made: all objects that the client has known of in this cycle.
        """


class NoAudit:
    """Looks at nothing."""

    def boundary(self, _cycle: int, _stage: int) -> None:
        """Look at nothing."""

    def completion(self, _entry: Entry, _alive: Callable[[], Held], _made: Held) -> None:
        """Look at nothing."""


@dataclass(frozen=True)
class Timing:
    """When a workflow ran.

    Attributes:
        start_s, end_s: UNIX time in seconds.
        makespan_s: seconds between them, from the monotonic clock.
        held: what the store holds at the end by the mode's rule; None if the plan says it.
    """

    start_s: float
    end_s: float
    makespan_s: float
    held: Held | None = None


NO_AUDIT = NoAudit()


def run_workflow(
    executor: Executor, manager: DataManager, workload: Workload, audit: Audit = NO_AUDIT
) -> Timing:
    """Run the workload once, from making the start data to dropping the last results.

    Args:
        executor: runs the tasks.
        manager: for this run only.
        workload: what to run.
        audit: called at every boundary, and without barriers at every completion; what it takes is
            measured too.

    Raises:
        Exception: whatever a task or the executor raised.
    """
    program = workload.program()
    if program is not None:
        return _run_program(executor, manager, *program)
    cycle_of = _run_stages if workload.barriers else _run_when_ready
    graph = graph_of(workload)
    start_s, start = time.time(), time.perf_counter()
    for cycle in range(workload.cycles):
        cycle_of(executor, manager, _Cycle(workload, graph, cycle), audit)
    return Timing(start_s, time.time(), time.perf_counter() - start)


def _run_program(
    executor: Executor, manager: DataManager, module: UserModule, function: str
) -> Timing:
    call = getattr(module.load(), function)
    client = Client(executor, manager, module)
    start_s, start = time.time(), time.perf_counter()
    call(client)
    client.close()
    makespan_s = time.perf_counter() - start
    return Timing(start_s, time.time(), makespan_s, client.held_at_end())


class _Cycle:
    """One cycle of a workload, in words that tasks and managers understand."""

    def __init__(self, workload: Workload, graph: Graph, cycle: int) -> None:
        self.graph = graph
        self.cycle = cycle
        self._seed = workload.seed

    def start(self, item: int) -> bytes:
        """Make an object of start data."""
        label, size = self.graph.start[item]
        return payload(self._seed, f"{self.cycle}/{label}", size)

    def options(self, manager: DataManager, number: int) -> dict[str, Any]:
        """Return what a task is told beside its inputs."""
        task = self.graph.tasks[number]
        found = {
            "seed": self._seed,
            "label": f"{self.cycle}/{task.label}",
            "size": task.size,
            "sleep_s": task.sleep_s,
        }
        # Said to tasks only where it is not what they do anyway: what travels is measured.
        return found if manager.populate_target else {**found, "populate_target": False}


def _run_stages(executor: Executor, manager: DataManager, of: _Cycle, audit: Audit) -> None:
    """Run one level after the other."""
    graph = of.graph
    alive: dict[int, Any] = {}
    futures: list[Any] = []
    number = 0
    for stage, level in enumerate(graph.levels):
        alive.update((item, manager.enter(of.start(item))) for item in graph.enter[stage])
        if stage == 0:
            audit.boundary(of.cycle, START)
        manager.log.begin(of.cycle, stage)
        inputs = [[alive[item] for item in task.inputs] for task in level]
        options = [of.options(manager, number + place) for place in range(len(level))]
        # The executor may drop a stage's results once its futures are gone. Dask's client sends
        # at most one message each 10 ms: let go of here, the release travels with the next
        # stage's tasks instead of holding them up.
        futures.clear()
        with together(executor):
            futures.extend(manager.submit(executor, inputs, options))
        del inputs
        made = len(graph.start) + number
        alive.update(enumerate(manager.results(futures), made))
        number += len(level)
        _consume(manager, alive, graph.end[stage])
        audit.boundary(of.cycle, stage)
    futures.clear()
    _consume(manager, alive, graph.end[-1])
    audit.boundary(of.cycle, len(graph.levels))


def _consume(manager: DataManager, alive: dict[int, Any], items: tuple[int, ...]) -> None:
    """Let go of objects that no task will read again."""
    consumed = [alive.pop(item) for item in items]
    manager.consumed(consumed)


def _run_when_ready(executor: Executor, manager: DataManager, of: _Cycle, audit: Audit) -> None:
    """Run each task as soon as what it waits for is there."""
    _WhenReady(executor, manager, of, audit).run()


class _WhenReady:
    """What is there, what runs and what waits, while one cycle runs without barriers."""

    def __init__(self, executor: Executor, manager: DataManager, of: _Cycle, audit: Audit) -> None:
        graph = of.graph
        self._executor, self._manager, self._of, self._audit = executor, manager, of, audit
        self._graph = graph
        self._waiting, self._readers = graph.waiting(), list(graph.readers)
        self._places = [place for level in graph.levels for place in range(len(level))]
        self._alive: dict[int, Any] = {}
        self._made = Held(0, 0)
        self._running: dict[int, tuple[Any, Entry]] = {}
        self._done: SimpleQueue[int] = SimpleQueue()

    def run(self) -> None:
        """Run all of it."""
        cycle, graph = self._of.cycle, self._graph
        ready = [number for number, count in enumerate(self._waiting) if count == 0]
        self._enter(ready)
        self._audit.boundary(cycle, START)
        self._submit(ready)
        while self._running:
            numbers = [self._done.get()]
            while not self._done.empty():
                numbers.append(self._done.get())
            ready = [following for number in numbers for following in self._receive(number)]
            self._enter(ready)
            self._submit(ready)
        _consume(self._manager, self._alive, tuple(self._alive))
        self._audit.boundary(cycle, len(graph.levels))

    def _keep(self, item: int, data: Any) -> None:
        self._alive[item] = data
        self._made += Held(1, self._graph.sizes[item])

    def _held(self) -> Held:
        return self._graph.held(self._alive)

    def _enter(self, numbers: list[int]) -> None:
        """Make the start data of tasks that can run now."""
        for item in (item for number in numbers for item in self._graph.tasks[number].inputs):
            if item < len(self._graph.start) and item not in self._alive:
                self._keep(item, self._manager.enter(self._of.start(item)))

    def _submit(self, numbers: list[int]) -> None:
        manager, graph = self._manager, self._graph
        with together(self._executor):
            for number in numbers:
                entry = manager.log.begin(
                    self._of.cycle, graph.level_of[number], self._places[number]
                )
                inputs = [self._alive[item] for item in graph.tasks[number].inputs]
                options = self._of.options(manager, number)
                (future,) = manager.submit(self._executor, [inputs], [options])
                self._running[number] = future, entry
                future.add_done_callback(lambda _, number=number: self._done.put(number))

    def _receive(self, number: int) -> list[int]:
        """Take a result, let go of what is not needed any more, return what can run now."""
        graph, readers = self._graph, self._readers
        future, entry = self._running.pop(number)
        self._manager.log.take(entry)
        self._keep(len(graph.start) + number, *self._manager.results([future]))
        del future
        inputs = graph.tasks[number].inputs
        for item in inputs:
            readers[item] -= 1
        _consume(self._manager, self._alive, tuple(i for i in inputs if readers[i] == 0))
        self._audit.completion(entry, self._held, self._made)
        for following in graph.next_tasks[number]:
            self._waiting[following] -= 1
        return [after for after in graph.next_tasks[number] if self._waiting[after] == 0]
