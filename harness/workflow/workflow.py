"""One workflow: stages of tasks that pass data on."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from harness.executors import together
from harness.plan import Workload
from harness.plan.prediction import START, inputs_of_tasks
from harness.workflow.modes import DataManager
from harness.workflow.tasks import payload

Audit = Callable[[int, int], object]
"""Called at every stage boundary with cycle and stage, inside of the clock."""


def no_audit(_cycle: int, _stage: int) -> None:
    """Look at nothing."""


@dataclass(frozen=True)
class Timing:
    """When a workflow ran.

    Attributes:
        start_s, end_s: UNIX time in seconds.
        makespan_s: seconds between them, from the monotonic clock.
    """

    start_s: float
    end_s: float
    makespan_s: float


def run_workflow(
    executor: Executor, manager: DataManager, workload: Workload, audit: Audit = no_audit
) -> Timing:
    """Run the workload once, from making the start data to dropping the last results.

    Args:
        executor: runs the tasks.
        manager: for this run only.
        workload: what to run.
        audit: called at every stage boundary (see ``prediction``); what it takes is measured too.

    Raises:
        Exception: whatever a task or the executor raised.
    """
    start_s, start = time.time(), time.perf_counter()
    for cycle in range(workload.stage_repeat):
        _run_stages(executor, manager, workload, cycle, audit)
    return Timing(start_s, time.time(), time.perf_counter() - start)


def _run_stages(
    executor: Executor, manager: DataManager, workload: Workload, cycle: int, audit: Audit
) -> None:
    counts, sizes = workload.stage_task_counts, workload.stage_bytes_sizes
    data: list[Any] = [
        manager.enter(payload(workload.seed, f"{cycle}/start/{number}", sizes[0]))
        for number in range(counts[0])
    ]
    audit(cycle, START)
    futures: list[Any] = []
    # Said to tasks only where it is not what they do anyway: what travels is measured.
    more = {} if manager.populate_target else {"populate_target": False}
    for stage, count in enumerate(counts):
        manager.log.begin(cycle, stage)
        inputs = inputs_of_tasks(data, count)
        options = [
            {
                "seed": workload.seed,
                "label": f"{cycle}/{stage}/{task}",
                "size": sizes[stage + 1],
                "sleep_s": workload.task_sleep,
                **more,
            }
            for task in range(count)
        ]
        # The executor may drop a stage's results once its futures are gone. Dask's client sends
        # at most one message each 10 ms: let go of here, the release travels with the next
        # stage's tasks instead of holding them up.
        futures.clear()
        with together(executor):
            futures.extend(manager.submit(executor, inputs, options))
        del inputs
        results = manager.results(futures)
        manager.consumed(data)
        data = results
        del results
        audit(cycle, stage)
    futures.clear()
    manager.consumed(data)
    del data
    audit(cycle, len(counts))
