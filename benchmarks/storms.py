"""How our part grows with the number of tasks: storms of 1,250 to 10,000 tasks of 1 KB.

    .venv/bin/python benchmarks/storms.py [--tasks 1250 2500 5000 10000] [--containers]

Without ``--containers`` a pool of one thread runs the tasks and a dictionary keeps the objects:
what is left is the workload itself, its events and rows, and ProxyStore. The CPU time of a task is
printed for each number of tasks, and how it grew from the least to the most: 1.0 is linear.

What owned proxies take in ``atexit.unregister`` is ProxyStore's own, and printed beside: each proxy
registers a function for the end of the process, and its ``__del__`` compares with all that are
registered (proxystore/store/ref.py). Below it stands ``weakref.finalize``, which does the same at
a constant price.

With ``--containers`` the same storms are benched with Dask and Redis, and their pages are made.
Printed are a task's makespan, and the CPU time of the bench and of the report on the host.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import resource
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from _benches import bench
from proxystore.store import ref

from harness.analysis.figures import group_runs
from harness.analysis.readers import read_session
from harness.plan import Mode, Plan
from harness.results.conversation import MarkWriter
from harness.results.directory import RunDirectory
from harness.workflow.runner import PlanRunner

TASKS = (1250, 2500, 5000, 10_000)
MODES = [mode.value for mode in Mode]
# Twice the tasks may not cost more than this for each: the rest is noise of a shared machine.
TARGET = 1.5


def in_process_s(mode: str, tasks: int) -> float:
    """Return the CPU seconds of a plan in this process: its run, and all that is written of it."""
    workload = {
        "modes": [mode],
        "stage_task_counts": [tasks],
        "stage_bytes_sizes": [1000, 1000],
        "task_sleep": 0.0,
    }
    plan = Plan.model_validate(
        {
            "executor_name": "thread",
            "executor": {"max_workers": 1},
            "connector_name": "local",
            "connector": {},
            "workload": workload,
            "general": {"baseline_window": 0},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder, "run"))
        directory.path.mkdir()
        begin = time.process_time()
        with MarkWriter(directory.marks) as marks:
            PlanRunner(plan, directory, marks).execute()
        return time.process_time() - begin


@contextmanager
def unregistering() -> Iterator[list[float]]:
    """Yield a list that gets the CPU seconds of ProxyStore's calls of ``atexit.unregister``."""
    took: list[float] = []

    def unregister(function: Callable[[], object]) -> None:
        begin = time.thread_time()
        atexit.unregister(function)
        took.append(time.thread_time() - begin)

    instead = SimpleNamespace(register=atexit.register, unregister=unregister)
    with mock.patch.object(ref, "atexit", instead):
        yield took


class _Thing:
    pass


def finalizers_s(count: int) -> float:
    """Return the CPU seconds of giving up three finalizers of the standard library a task."""
    things = [_Thing() for _ in range(3 * count)]
    finalizers = [weakref.finalize(each, int) for each in things]
    begin = time.process_time()
    for each in finalizers:
        each.detach()
    return time.process_time() - begin


def _each(seconds: float, tasks: int) -> str:
    return f"{seconds / tasks * 1e6:9.0f}"


def show(what: str, tasks: Sequence[int], measure: Callable[[int], float]) -> float:
    """Print microseconds a task for each number of tasks; return the last beside the first."""
    found = []
    for count in tasks:
        gc.collect()
        found.append(measure(count))
    growth = (found[-1] / tasks[-1]) / (found[0] / tasks[0])
    cells = "".join(_each(s, count) for s, count in zip(found, tasks, strict=True))
    print(f"{what:34}{cells}{growth:9.2f}", flush=True)
    return growth


def in_process(tasks: Sequence[int]) -> bool:
    """Print what a task costs without an executor's part; say whether it stayed linear."""
    in_process_s(Mode.OWNED_PROXY, 100)  # imports
    header = "".join(f"{count:9}" for count in tasks)
    print(f"{'CPU us a task, of':34}{header}   growth")
    growths = [
        show(mode, tasks, partial(in_process_s, mode)) for mode in MODES if mode != Mode.OWNED_PROXY
    ]
    dropping: dict[int, float] = {}

    def owned(count: int) -> float:
        with unregistering() as took:
            whole = in_process_s(Mode.OWNED_PROXY, count)
        dropping[count] = sum(took)
        return whole - dropping[count]

    growths.append(show(f"{Mode.OWNED_PROXY.value}, all but", tasks, owned))
    show("  atexit.unregister (ProxyStore)", tasks, lambda count: dropping[count])
    show("  weakref.finalize instead", tasks, finalizers_s)
    return max(growths) <= TARGET


def in_containers(tasks: Sequence[int]) -> bool:
    """Bench storms and make their pages; say whether both stayed linear."""
    print(f"{'tasks':>8}  {'mode':14}{'makespan ms a task':>20}")
    bench_s: dict[int, float] = {}
    report_s: dict[int, float] = {}
    for count in tasks:
        with tempfile.TemporaryDirectory() as folder:
            flags = ["--executor", "dask", "--dask-workers", "2", "--ps-connector", "redis"]
            flags += ["--data-management", *MODES, "--task-sleep", "0", "--no-report"]
            flags += ["--stage-task-counts", str(count // 2), str(count // 2)]
            flags += ["--stage-bytes-sizes", "1KB", "1KB", "1KB"]
            before = _children_s()
            directory = bench(flags, Path(folder, "runs"))
            bench_s[count] = _children_s() - before
            for group in group_runs([read_session(directory.path)]):
                assert group.makespan is not None
                each = group.makespan.median / count * 1000
                print(f"{count:8}  {group.mode:14}{each:20.2f}", flush=True)
            before = _children_s()
            command = [sys.executable, "-m", "harness", "report", str(directory.path)]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            report_s[count] = _children_s() - before
    print(f"{'tasks':>8}{'bench, CPU s':>14}{'report, CPU s':>15}")
    for count in tasks:
        print(f"{count:8}{bench_s[count]:14.1f}{report_s[count]:15.1f}")
    factor = tasks[-1] / tasks[0]
    growth = max(s[tasks[-1]] / s[tasks[0]] / factor for s in (bench_s, report_s))
    print(f"{factor:g} times the tasks: {growth:.2f} times as much for each at the most")
    return growth <= TARGET


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Measure and print; the exit code says whether our part stayed linear."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, nargs="+", default=list(TASKS))
    parser.add_argument("--containers", action="store_true")
    args = parser.parse_args()
    linear = in_containers(args.tasks) if args.containers else in_process(args.tasks)
    return 0 if linear else 1


if __name__ == "__main__":
    sys.exit(main())
