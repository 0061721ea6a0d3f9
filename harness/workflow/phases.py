"""What is around a run: its phases and its time limit.

A time limit for one run in this process: where it was when its time was up, and then its end.

Baseline, run and after phase are set off by marks, at which the samplers write the ledger:

- ``baseline_start`` .. ``baseline_end``: nothing runs, until memory is flat or the time is up;
- ``run_start`` .. ``run_end``: the run;
- then the mode's own clean-up, outside of the clock;
- ``after_start``: what every process still has, as it is;
- ``trimmed``: the same once every process has collected its garbage and given free memory back;
- ``after_end``: the end of whatever time was asked for after that.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from proxystore.connectors.protocols import Connector

from harness.connectors import Held
from harness.core.trim import trim
from harness.plan import Plan
from harness.results.conversation import (
    AFTER_END,
    AFTER_START,
    BASELINE_END,
    BASELINE_START,
    RUN_END,
    RUN_START,
    TRIMMED,
    MarkWriter,
    Settle,
    Settled,
)
from harness.results.events import PhaseRow, StorageRow
from harness.results.rows import RowWriter

# After a run was given up its executor is shut down, which may hang for the same reason.
_SHUTDOWN_S = 15.0


class RunTimeout(Exception):  # noqa: N818
    """The time of a run was up."""


@contextmanager
def bounded(limit_s: float, stacks: Path) -> Iterator[None]:
    """Raise RunTimeout in the main thread if what is done here takes longer than ``limit_s``.

    Args:
        limit_s: seconds; 0 is no limit.
        stacks: gets the stacks of all threads of this process first.
    """
    if limit_s <= 0 or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(_number: int, _frame: object) -> None:
        stacks.parent.mkdir(exist_ok=True)
        with stacks.open("w", encoding="utf-8") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        _end_at_last()
        raise RunTimeout(f"took longer than {limit_s:g} s (--run-timeout)")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _end_at_last() -> None:
    """End this process if it has not ended by itself some seconds from now."""

    def end() -> None:
        sys.stderr.write(f"harness: still shutting down after {_SHUTDOWN_S:g} s: ended\n")
        sys.stderr.flush()
        os._exit(1)

    timer = threading.Timer(_SHUTDOWN_S, end)
    timer.daemon = True
    timer.start()


STAGE = "stage"


class Phases:
    """Goes through the phases of one run after the other.

    Args:
        plan: what is run.
        marks: told of every step.
        settle: says when memory is flat.
        phases: gets a row for each run.
        storage: gets what connector and server hold at marks.
        executor: whose processes are trimmed.
        connector: whose servers are trimmed and asked.
    """

    def __init__(
        self,
        plan: Plan,
        marks: MarkWriter,
        settle: Settle,
        *,
        phases: RowWriter[PhaseRow],
        storage: RowWriter[StorageRow],
        executor: Executor,
        connector: Connector[Any],
    ) -> None:
        self._plan = plan
        self._marks = marks
        self._settle = settle
        self._phases = phases
        self._storage = storage
        self._executor = executor
        self._connector = connector
        self._run_id = ""
        self._before = Held(0, 0)
        self._settled = Settled("")
        self._baseline_ns = 0

    def held(self) -> Held:
        """Count what the storage holds beyond what was there before the run."""
        return self._plan.connector.held(self._connector) - self._before

    def baseline(self, run_id: str) -> None:
        """Wait until memory is flat."""
        self._run_id = run_id
        self._before = self._plan.connector.held(self._connector)
        started_ns = time.monotonic_ns()
        self._marks.write(run_id, BASELINE_START)
        self._settled = self._settle(run_id)
        self._marks.write(run_id, BASELINE_END)
        self._baseline_ns = time.monotonic_ns() - started_ns
        self._note(BASELINE_END, Held(0, 0))

    def run(self, work: Callable[[], Any]) -> Any:
        """Call ``work`` between the two marks of the run and return what it returns."""
        self._marks.write(self._run_id, RUN_START)
        result = work()
        self._marks.write(self._run_id, RUN_END)
        return result

    def audit(self, cycle: int, stage: int) -> None:
        """Write down what the storage holds at a stage boundary."""
        self._note(STAGE, self.held(), cycle, stage)

    def run_ended(self) -> Held:
        """Write down and return what the storage holds before any clean-up."""
        held = self.held()
        self._note(RUN_END, held)
        return held

    def after(self) -> Held:
        """Tell what stays from what is free; return what the storage still holds."""
        left = self.held()
        self._marks.write(self._run_id, AFTER_START)
        self._note(AFTER_START, left)
        started_ns = time.monotonic_ns()
        lacks = self.trim()
        trim_ns = time.monotonic_ns() - started_ns
        self._marks.write(self._run_id, TRIMMED)
        self._note(TRIMMED, left)
        time.sleep(self._plan.general.after)
        self._marks.write(self._run_id, AFTER_END)
        self._phases.write(
            PhaseRow(
                run_id=self._run_id,
                baseline=self._settled.verdict,
                baseline_ns=self._baseline_ns,
                spread_bytes=self._settled.spread_bytes,
                bound_bytes=self._plan.general.baseline_bound,
                window_ns=round(self._plan.general.baseline_window * 1e9),
                trim_ns=trim_ns,
                not_trimmed="; ".join(lacks),
            )
        )
        return left

    def trim(self, *, freeze_workers: bool = False) -> tuple[str, ...]:
        """Trim every process that can be reached; return those that cannot, in words."""
        plan = self._plan
        theirs = partial(trim, freeze=freeze_workers)
        lacks = (*plan.executor.trim(self._executor, theirs), *plan.connector.trim(self._connector))
        # Last, with whatever the trimming of the others has left here.
        return lacks if trim() else (*lacks, "any process: this C library has no malloc_trim")

    def _note(
        self, mark: str, held: Held, cycle: int | None = None, stage: int | None = None
    ) -> None:
        server = self._plan.connector.server_memory(self._connector)
        self._storage.write(
            StorageRow(
                run_id=self._run_id,
                mark=mark,
                cycle=cycle,
                stage=stage,
                t_mono_ns=time.monotonic_ns(),
                objects=held.objects,
                size_bytes=held.size_bytes,
                server_used_bytes=server.used_bytes if server else None,
                server_rss_bytes=server.rss_bytes if server else None,
            )
        )
