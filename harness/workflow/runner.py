"""Execute a plan: its runs in order, a row for each as soon as it is known."""

from __future__ import annotations

import gc
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

from proxystore.connectors.protocols import Connector
from proxystore.store import register_store, unregister_store
from proxystore.store.base import Store
from proxystore.store.utils import get_key

from harness.connectors import Held
from harness.core import interrupt
from harness.core.errors import MeasuredFailure
from harness.plan import Mode, Plan, Run
from harness.results.directory import RunDirectory
from harness.results.logs import BENCH
from harness.results.marks import RUN_END, RUN_START, MarkWriter
from harness.results.rows import ObjectsRow, OutcomeRow, ResultRow, RowWriter
from harness.workflow.modes import manager_for
from harness.workflow.prediction import held_at_end
from harness.workflow.tasks import warm_up
from harness.workflow.workflow import Timing, run_workflow

logger = logging.getLogger("run.workflow-memory")

Watch = Callable[[Executor], AbstractContextManager[Callable[[], None]]]
"""Looks at an executor's workers while in its context; what it gives is called between runs."""


def no_watch(_executor: Executor) -> AbstractContextManager[Callable[[], None]]:
    """Look at nothing."""
    return nullcontext(lambda: None)


@contextmanager
def _open_store(plan: Plan) -> Iterator[Store[Any]]:
    with plan.connector.open() as connector:
        # A name of its own: workers of a cluster that runs on keep a store they know by name. And
        # ProxyStore's cache would keep objects alive that the mode has removed.
        name = f"{plan.connector_name}-store-{secrets.token_hex(4)}"
        store: Store[Any] = Store(name, connector, cache_size=0)
        register_store(store)
        # A forked worker must not talk through its parent's sockets: it opens a store of its own.
        os.register_at_fork(after_in_child=partial(unregister_store, store.name))
        try:
            yield store
        finally:
            unregister_store(store.name)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


class PlanRunner:
    """Executes the runs of a plan.

    Args:
        plan: what to run.
        directory: where rows go.
        marks: told when each run starts and ends.
        watch: entered when the workers are ready, left before they end.
    """

    def __init__(
        self, plan: Plan, directory: RunDirectory, marks: MarkWriter, watch: Watch = no_watch
    ) -> None:
        self._plan = plan
        self._directory = directory
        self._marks = marks
        self._watch = watch

    def execute(self) -> dict[str, Any]:
        """Start the executor, wait until its workers are ready, execute all runs.

        Returns:
            Facts about the executor for the manifest.

        Raises:
            MeasuredFailure: if a run failed or left objects behind; later runs are not tried.
            InfrastructureError: if executor or connector could not be started.
        """
        plan, directory = self._plan, self._directory
        with ExitStack() as stack:
            results = stack.enter_context(RowWriter(directory.results, ResultRow))
            objects = stack.enter_context(RowWriter(directory.objects, ObjectsRow))
            outcomes = stack.enter_context(RowWriter(directory.outcomes, OutcomeRow))
            store = stack.enter_context(_open_store(plan))
            executor = stack.enter_context(plan.executor.start(plan.general.start_timeout))
            facts = self._wait_ready(executor, store)
            stack.callback(plan.executor.tidy, executor, partial(unregister_store, store.name))
            between_runs = stack.enter_context(self._watch(executor))
            # Collecting garbage before each run need not look at the libraries' objects again.
            gc.collect()
            gc.freeze()
            runs = plan.runs()
            brief = {key: fact for key, fact in facts.items() if isinstance(fact, int | str)}
            logger.log(BENCH, "Executor ready: %s", brief)
            for number, run in enumerate(runs, 1):
                try:
                    timing, held = self._measure(run, executor, store)
                except Exception as error:
                    logger.debug("run %s failed", run.run_id, exc_info=True)
                    outcomes.write(_outcome(run, "failed", _one_line(error)))
                    raise MeasuredFailure(f"run {run.run_id} failed: {_one_line(error)}") from error
                except BaseException as error:
                    outcomes.write(self._stopped(run, error))
                    raise
                results.write(self._result_row(run, timing, executor, store.connector))
                objects.write(held)
                leak = _leak(held)
                outcomes.write(_outcome(run, "leak" if leak else "ok", leak))
                logger.log(
                    BENCH,
                    "Run %d/%d %s completed in %.3fs",
                    number,
                    len(runs),
                    run.run_id,
                    timing.makespan_s,
                )
                between_runs()
                if leak:
                    raise MeasuredFailure(f"run {run.run_id} leaks: {leak}")
            at_end = plan.executor.facts_at_end(executor)
            return {"class": type(executor).__name__, **facts, **at_end}

    def _wait_ready(self, executor: Executor, store: Store[Any]) -> dict[str, Any]:
        """Wait until every worker has resolved a proxy, so that no run pays for its start."""
        plan = self._plan
        # Workers elsewhere may not reach a store that no run uses.
        uses_store = any(mode != Mode.NONE for mode in plan.workload.modes)
        probe = store.proxy(b"ready", evict=False) if uses_store else None
        facts = plan.executor.wait_ready(
            executor, partial(warm_up, probe), plan.general.start_timeout
        )
        if probe is not None:
            store.evict(get_key(probe))
        return dict(facts)

    def _stopped(self, run: Run, error: BaseException) -> OutcomeRow:
        """Return how a run ended that was stopped from outside: by the user, or for a reason."""
        try:
            reason = " ".join(self._directory.abort.read_text().split())
        except FileNotFoundError:
            return _outcome(run, "interrupted", type(error).__name__)
        return _outcome(run, "failed", reason)

    def _measure(
        self, run: Run, executor: Executor, store: Store[Any]
    ) -> tuple[Timing, ObjectsRow]:
        plan = self._plan
        manager = manager_for(run.mode, store)
        # Garbage of the run before is nobody's memory in this one. The reference collects it inside
        # of the measured window, where it takes 60 ms.
        gc.collect()
        interrupt.check()
        before = plan.connector.held(store.connector)
        self._marks.write(run.run_id, RUN_START)
        timing = run_workflow(executor, manager, plan.workload)
        self._marks.write(run.run_id, RUN_END)
        at_end = plan.connector.held(store.connector) - before
        manager.clean_up()
        left = plan.connector.held(store.connector) - before
        return timing, _objects_row(run, held_at_end(plan.workload, run.mode), at_end, left)

    def _result_row(
        self, run: Run, timing: Timing, executor: Executor, connector: Connector[Any]
    ) -> ResultRow:
        workload = self._plan.workload
        return ResultRow(
            executor=type(executor).__name__,
            connector="None" if run.mode == Mode.NONE else type(connector).__name__,
            data_management=run.mode,
            stage_task_counts="-".join(map(str, workload.stage_task_counts)),
            stage_bytes_sizes="-".join(map(str, workload.stage_bytes_sizes)),
            stage_repeat=workload.stage_repeat,
            task_sleep=workload.task_sleep,
            workflow_start_timestamp=timing.start_s,
            workflow_end_timestamp=timing.end_s,
            workflow_makespan_s=timing.makespan_s,
        )


def _outcome(run: Run, outcome: str, reason: str) -> OutcomeRow:
    return OutcomeRow(run.run_id, run.mode, run.repetition, outcome, reason)


def _objects_row(run: Run, predicted: Held, at_end: Held, left: Held) -> ObjectsRow:
    return ObjectsRow(
        run.run_id,
        run.mode,
        predicted.objects,
        predicted.size_bytes,
        at_end.objects,
        at_end.size_bytes,
        left.objects,
        left.size_bytes,
    )


def _leak(held: ObjectsRow) -> str:
    """Return what the connector holds against the mode's rule, or an empty string."""
    if held.objects_at_end != held.objects_predicted:
        return (
            f"{held.objects_at_end} objects at the end of the run where the flags predict"
            f" {held.objects_predicted}"
        )
    if held.objects_left:
        return f"{held.objects_left} objects after the clean-up"
    return ""
