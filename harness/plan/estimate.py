"""How long a plan takes and how much it needs, from the plan alone (pure).

Good to a factor of two: enough to refuse what cannot work, and to tell slow from stuck.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from harness.plan import Isolate, Mode, Plan, Workload
from harness.plan.graph import Task
from harness.plan.prediction import boundaries, made
from harness.plan.workload import graph_of

# Measured with the images of this repository on a machine of two cores, rounded up.
_PROCESS_BYTES = 80_000_000
_TASK_S = 0.01
_BYTES_PER_S = 100e6
_PHASES_S = 1.0
_TOPOLOGY_S = 12.0
# Samples of all views, rows and logs, per container and second.
_SAMPLE_BYTES_PER_S = 12_000
# Copies of a task's input and of its result while they are made, (de)serialised and sent.
_COPIES = 3

_TIMEOUT_FACTOR = 5
_TIMEOUT_LEAST_S = 120.0
# Storms of tasks take twice as long traced, and their traces are read before the run is over.
_TRACED_FACTOR = 2
_TRACES_S = 240.0


@dataclass(frozen=True)
class Estimate:
    """What a plan needs.

    Attributes:
        containers: in one topology.
        peak_bytes: memory at once, all containers together, page cache of a file connector too.
        run_s: one run, with the phases around it.
        total_s: all runs and all starts of topologies.
        disk_bytes: of the run directory.
        store_bytes: most that the connector holds at once.
    """

    containers: int
    peak_bytes: int
    run_s: float
    total_s: float
    disk_bytes: int
    store_bytes: int


def estimate(plan: Plan, containers: int, topologies: int) -> Estimate:
    """Estimate a plan.

    Args:
        plan: what is run.
        containers: in one of its topologies.
        topologies: how many there are, one after the other (two at once while they change).
    """
    workers = plan.executor.worker_count
    workload = plan.workload
    store = max(_store_peak(workload, mode) for mode in workload.modes)
    flight = _in_flight(workload, workers)
    direct = _direct_peak(workload) if Mode.NONE in workload.modes else 0
    # Worker processes that share the runner's container are processes all the same.
    processes = containers + max(
        0, plan.executor.worker_processes - plan.executor.worker_containers
    )
    processes = max(processes, plan.executor.worker_processes + 1)
    peak = processes * _PROCESS_BYTES + max(store + flight, direct + flight)
    run_s = makespan_s(workload, workers) + _PHASES_S + plan.general.after
    runs = plan.run_count + plan.general.warmup * len(workload.modes)
    total_s = runs * run_s + topologies * _TOPOLOGY_S
    return Estimate(
        containers=containers,
        peak_bytes=peak + containers * plan.executor.idle_bytes,
        run_s=run_s,
        total_s=total_s,
        disk_bytes=round(containers * total_s * _SAMPLE_BYTES_PER_S) + 1_000_000,
        store_bytes=store,
    )


def topologies_of(plan: Plan) -> int:
    """Return how many topologies a plan has at most."""
    isolate = Isolate.NONE if plan.topology is None else plan.topology.isolate
    if isolate == Isolate.RUN:
        return plan.run_count
    return len(plan.workload.modes) if isolate == Isolate.MODE else 1


def makespan_s(workload: Workload, workers: int) -> float:
    """Return about how long one workflow takes: sleeping in waves, calling, moving bytes."""
    graph = graph_of(workload)
    if workload.barriers:
        once = sum(_level_s(level, workers) for level in graph.levels)
    else:
        once = graph.schedule(workers, _TASK_S).length_s
    return workload.cycles * once + 2 * made(workload).size_bytes / _BYTES_PER_S


def _level_s(level: Sequence[Task], workers: int) -> float:
    """Return how long tasks take that wait for nothing: in waves where they are equal."""
    ends = [0.0] * min(workers, len(level))
    for task in level:
        heapq.heapreplace(ends, ends[0] + task.sleep_s)
    return max(ends) + len(level) * _TASK_S


def run_timeout_s(plan: Plan) -> float:
    """Return after how many seconds a run is given up: as given, else several times the estimate.

    0 is never. A traced run has twice as long, and the time in which its traces are read.
    """
    general = plan.general
    given = general.run_timeout
    if given is not None:
        # It was given for a run, not for one that is traced, and whose traces are read.
        return _TRACED_FACTOR * given + _TRACES_S if given and general.traced else given
    phases = general.baseline_timeout + general.after
    expected = makespan_s(plan.workload, plan.executor.worker_count)
    if general.traced:
        expected, phases = _TRACED_FACTOR * expected, phases + _TRACES_S
    return _TIMEOUT_LEAST_S + phases + _TIMEOUT_FACTOR * expected


def _store_peak(workload: Workload, mode: str) -> int:
    peaks = (boundary.peak.size_bytes for boundary in boundaries(workload, mode))
    return max(peaks, default=0)


def _direct_peak(workload: Workload) -> int:
    """Return what client, scheduler and workers hold of what is alive at once, with no store."""
    return 2 * _store_peak(workload, Mode.MANUAL_PROXY)


def _in_flight(workload: Workload, workers: int) -> int:
    """Return the most that tasks which run at once hold of inputs and results."""
    graph = graph_of(workload)
    sizes = graph.sizes
    levels = graph.levels if workload.barriers else (graph.tasks,)
    each = ([sum(sizes[n] for n in task.inputs) + task.size for task in level] for level in levels)
    return _COPIES * max((sum(heapq.nlargest(workers, one)) for one in each), default=0)
