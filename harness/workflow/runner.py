"""Execute a plan: its runs in order, a row for each as soon as it is known."""

from __future__ import annotations

import gc
import logging
import os
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from proxystore.connectors.protocols import Connector
from proxystore.store import register_store, unregister_store
from proxystore.store.base import Store
from proxystore.store.utils import get_key

from harness.connectors import Held
from harness.core import interrupt
from harness.core.errors import InfrastructureError, MeasuredFailure
from harness.plan import Mode, Plan, Run, Workload
from harness.plan.estimate import run_timeout_s
from harness.plan.prediction import boundaries, held_at_end
from harness.plan.schedule import with_warm_ups
from harness.plan.workload import graph_of
from harness.results.conversation import MarkWriter, Settle, not_watched
from harness.results.directory import RunDirectory
from harness.results.logs import BENCH
from harness.results.outcomes import Ending, Outcome, error_for, write_ending
from harness.results.rows import ObjectsRow, OutcomeRow, ResultRow, RowWriter
from harness.results.schema import CompletionRow, PhaseRow, PredictionRow, StorageRow, TaskRow
from harness.workflow.completions import StorageAudit
from harness.workflow.modes import DataManager, manager_for
from harness.workflow.phases import Phases, RunTimeout, bounded
from harness.workflow.server_watch import watched_server, watched_stores
from harness.workflow.tasks import ContainerName, no_container, warm_up
from harness.workflow.tracing import Tracing
from harness.workflow.workflow import NO_AUDIT, Timing, run_workflow

logger = logging.getLogger("run.workflow-memory")

_VERBS = {
    Outcome.FAILED: "failed",
    Outcome.TIMEOUT: "ran out of time",
    Outcome.KILLED: "lost a worker",
    Outcome.INFRASTRUCTURE: "could not be measured",
}

SamplerExit = Callable[[], int | None]
"""Gives the exit code of the sampler that every run needs, None while it runs."""

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
        marks: told when each phase starts and ends.
        watch: entered when the workers are ready, left before they end.
        settle: says when memory is flat before a run.
        container: names the containers that tasks ran in.
        places: which of the plan's runs to execute; all by default.
        ending: where to say how a run ended badly, if somebody else has the last word on that and
            writes its row; by default the row is written here.
        own_workers: whether the workers were started for these runs and end with them.
        sampler_exit: says whether the sampler of the host's memory has ended.
    """

    def __init__(
        self,
        plan: Plan,
        directory: RunDirectory,
        marks: MarkWriter,
        watch: Watch = no_watch,
        *,
        settle: Settle = not_watched,
        container: ContainerName = no_container,
        places: range | None = None,
        ending: Path | None = None,
        own_workers: bool = False,
        sampler_exit: SamplerExit = lambda: None,
    ) -> None:
        self._plan = plan
        self._directory = directory
        self._marks = marks
        self._watch = watch
        self._settle = settle
        self._container = container
        self._own_workers = own_workers
        self._sampler_exit = sampler_exit
        self._ending = ending
        runs = plan.runs()
        self._total = len(runs)
        self._places = range(self._total) if places is None else places
        self._runs = runs[self._places.start : self._places.stop]

    def execute(self) -> dict[str, Any]:
        """Start the executor, wait until its workers are ready, execute the runs.

        Returns:
            Facts about the executor for the manifest.

        Raises:
            MeasuredFailure: if a run failed or left objects behind; later runs are not tried.
            InfrastructureError: if executor or connector could not be started.
        """
        plan, directory = self._plan, self._directory
        write_predictions(directory.predictions, plan.workload)
        with ExitStack() as stack:
            rows = _Rows.open(directory, stack)
            store = stack.enter_context(_open_store(plan))
            executor = stack.enter_context(plan.executor.start(plan.general.start_timeout))
            facts = self._wait_ready(executor, store)
            stack.callback(plan.executor.tidy, executor, partial(unregister_store, store.name))
            between_runs = stack.enter_context(self._watch(executor))
            # Collecting garbage before each run need not look at the libraries' objects again.
            gc.collect()
            gc.freeze()
            brief = {key: fact for key, fact in facts.items() if isinstance(fact, int | str)}
            logger.log(BENCH, "Executor ready: %s", brief)
            phases = Phases(
                plan,
                self._marks,
                self._settle,
                phases=rows.phases,
                storage=rows.storage,
                executor=executor,
                connector=store.connector,
            )
            # What starting up has left is in nobody's baseline.
            lacks = phases.trim(freeze_workers=self._own_workers)
            for run in with_warm_ups(self._runs, plan.general.warmup):
                self._execute_run(run, _Measuring(rows, phases, executor, store))
                between_runs()
            at_end = plan.executor.facts_at_end(executor)
            return {
                "class": type(executor).__name__,
                **facts,
                "not_trimmed": list(lacks),
                **at_end,
            }

    def _execute_run(self, run: Run, on: _Measuring) -> None:
        try:
            # In a topology the host keeps the time: this process may be what hangs.
            limit_s = 0.0 if self._ending else run_timeout_s(self._plan)
            with bounded(limit_s, self._directory.stacks / f"{run.run_id}.txt"):
                timing, held = self._measure(run, on)
        except Exception as error:
            logger.debug("run %s failed", run.run_id, exc_info=True)
            ending = _ending(error, self._plan.executor.death_errors)
            self._ended_badly(run, ending, on)
            raise error_for(
                [ending], f"run {run.run_id} {_VERBS[ending.outcome]}: {ending.reason}"
            ) from error
        except BaseException as error:
            reason = interrupt.name() or type(error).__name__
            self._ended_badly(run, Ending(Outcome.INTERRUPTED, reason), on)
            raise
        leak = _leak(held)
        if run.warm_up and not leak:
            logger.log(BENCH, "%s completed in %.3fs", run.run_id, timing.makespan_s)
            return
        if not run.warm_up:
            row = self._result_row(run, timing, on.executor, on.store.connector)
            on.rows.results.write(row)
            on.rows.objects.write(held)
        # Last: a run is finished when its outcome is on disk.
        said = leak or ("traced" if self._plan.general.traced else "")
        on.rows.outcomes.write(_outcome(run, Ending(Outcome.LEAK if leak else Outcome.OK, said)))
        number = self._places.start + self._runs.index(run) + 1
        text = "Run %d/%d %s completed in %.3fs"
        logger.log(BENCH, text, number, self._total, run.run_id, timing.makespan_s)
        if leak:
            if self._ending is not None:
                write_ending(self._ending, Ending(Outcome.LEAK, leak))
            raise MeasuredFailure(f"run {run.run_id} leaks: {leak}")

    def _wait_ready(self, executor: Executor, store: Store[Any]) -> dict[str, Any]:
        """Wait until every worker has resolved a proxy, so that no run pays for its start."""
        plan = self._plan
        # Workers elsewhere may not reach a store that no run uses.
        uses_store = any(mode not in (Mode.NONE, Mode.FUTURES) for mode in plan.workload.modes)
        probe = store.proxy(b"ready", evict=False) if uses_store else None
        facts = plan.executor.wait_ready(
            executor, partial(warm_up, probe), plan.general.start_timeout
        )
        if probe is not None:
            store.evict(get_key(probe))
        return dict(facts)

    def _ended_badly(self, run: Run, ending: Ending, on: _Measuring) -> None:
        if self._ending is not None:
            write_ending(self._ending, ending)
        else:
            on.rows.outcomes.write(_outcome(run, ending))

    def _measure(self, run: Run, on: _Measuring) -> tuple[Timing, ObjectsRow]:
        populate = not self._plan.workload.no_populate_target
        manager = manager_for(run.mode, on.store, populate_target=populate, executor=on.executor)
        # Garbage of the run before is nobody's memory in this one. The reference collects it inside
        # of the measured window, where it takes 60 ms.
        gc.collect()
        interrupt.check()
        with self._traced(run, on):
            return self._measured(run, on, manager)

    @contextmanager
    def _traced(self, run: Run, on: _Measuring) -> Iterator[None]:
        """Trace a run from before its baseline to after it, if that is what the plan is for."""
        plan, directory = self._plan, self._directory
        if not plan.general.traced or run.warm_up:
            yield
            return
        with (
            Tracing(plan, directory, self._container).of_run(run.run_id, on.executor),
            watched_server(plan.connector, on.store.connector, directory, run.run_id),
        ):
            yield

    def _measured(
        self, run: Run, on: _Measuring, manager: DataManager
    ) -> tuple[Timing, ObjectsRow]:
        plan, phases = self._plan, on.phases
        phases.baseline(run.run_id)
        audits = plan.general.audit_stages or run.warm_up
        audit = None
        if audits and manager.uses_store:
            audit = StorageAudit(phases, keeps=run.mode == Mode.DEFAULT_PROXY)
        workers = plan.executor.alive(on.executor)
        stores = watched_stores(
            plan.executor, on.executor, self._directory, run.run_id, self._container
        )
        try:
            with stores:
                timing: Timing = phases.run(
                    lambda: run_workflow(on.executor, manager, plan.workload, audit or NO_AUDIT)
                )
        finally:
            for row in manager.log.rows(run.run_id, self._container):
                on.rows.tasks.write(row)
        at_end = phases.run_ended()
        if audit is not None:
            self._write_completions(run, audit, manager)
        manager.clean_up()
        left = phases.after()
        self._require_alive(workers, on.executor)
        predicted = timing.held
        if predicted is None:
            predicted = held_at_end(plan.workload, run.mode)
        return timing, _objects_row(run, predicted, at_end, left)

    def _write_completions(self, run: Run, audit: StorageAudit, manager: DataManager) -> None:
        if not audit.completions:
            return
        with RowWriter(self._directory.completions, CompletionRow) as rows:
            for row in audit.rows(run.run_id, manager.log, graph_of(self._plan.workload)):
                rows.write(row)

    def _require_alive(self, workers: Mapping[str, str], executor: Executor) -> None:
        """Raise what ended a run that looks as if nothing had happened."""
        code = self._sampler_exit()
        if code is not None:
            raise _EndedBadlyError(
                Ending(
                    Outcome.INFRASTRUCTURE,
                    f"the sampler of the host's memory ended (exit code {code}) before the run did",
                    "sampler",
                )
            )
        alive = self._plan.executor.alive(executor)
        dead = {place: name for place, name in workers.items() if place not in alive}
        if dead:
            hosts = {place: self._plan.executor.host_of(executor, place) for place in dead}
            places = {place: self._container(host) for place, host in hosts.items() if host}
            called = [
                (name if place in name else f"{name} ({place})")
                + (f" in {places[place]}" if places.get(place) else "")
                for place, name in dead.items()
            ]
            reason = f"{' and '.join(called)} ended during the run; its tasks were done again"
            service = next(filter(None, places.values()), called[0])
            raise _EndedBadlyError(Ending(Outcome.KILLED, reason, service))

    def _result_row(
        self, run: Run, timing: Timing, executor: Executor, connector: Connector[Any]
    ) -> ResultRow:
        workload = self._plan.workload
        counts, sizes, sleep_s = workload.columns()
        return ResultRow(
            executor=type(executor).__name__,
            connector="None" if run.mode in (Mode.NONE, Mode.FUTURES) else type(connector).__name__,
            data_management=run.mode,
            stage_task_counts=counts,
            stage_bytes_sizes=sizes,
            stage_repeat=workload.cycles,
            task_sleep=sleep_s,
            workflow_start_timestamp=timing.start_s,
            workflow_end_timestamp=timing.end_s,
            workflow_makespan_s=timing.makespan_s,
        )


@dataclass(frozen=True)
class _Rows:
    results: RowWriter[ResultRow]
    objects: RowWriter[ObjectsRow]
    outcomes: RowWriter[OutcomeRow]
    tasks: RowWriter[TaskRow]
    phases: RowWriter[PhaseRow]
    storage: RowWriter[StorageRow]

    @classmethod
    def open(cls, directory: RunDirectory, stack: ExitStack) -> _Rows:
        """Open all files; they are closed with the stack."""
        return cls(
            results=stack.enter_context(RowWriter(directory.results, ResultRow)),
            objects=stack.enter_context(RowWriter(directory.objects, ObjectsRow)),
            outcomes=stack.enter_context(RowWriter(directory.outcomes, OutcomeRow)),
            tasks=stack.enter_context(RowWriter(directory.tasks, TaskRow)),
            phases=stack.enter_context(RowWriter(directory.phases, PhaseRow)),
            storage=stack.enter_context(RowWriter(directory.storage, StorageRow)),
        )


@dataclass(frozen=True)
class _Measuring:
    """What a run needs that starts with the executor."""

    rows: _Rows
    phases: Phases
    executor: Executor
    store: Store[Any]


def write_predictions(path: Path, workload: Workload) -> None:
    """Write what must be alive at every stage boundary, once for all modes of a plan."""
    if path.exists() and path.stat().st_size:  # another topology's runner was first
        return
    with RowWriter(path, PredictionRow) as rows:
        for mode in workload.modes:
            for boundary in boundaries(workload, mode):
                rows.write(
                    PredictionRow(
                        data_management=mode,
                        cycle=boundary.cycle,
                        stage=boundary.stage,
                        objects=boundary.held.objects,
                        size_bytes=boundary.held.size_bytes,
                        ideal_bytes=boundary.ideal_bytes,
                        peak_objects=boundary.peak.objects,
                        peak_size_bytes=boundary.peak.size_bytes,
                    )
                )


class _EndedBadlyError(Exception):
    """A run whose ending is known."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


def _ending(error: Exception, death_errors: Collection[str]) -> Ending:
    """Return what an error says of the run it ended."""
    if isinstance(error, _EndedBadlyError):
        return error.ending
    if type(error).__name__ in death_errors:
        return Ending(Outcome.KILLED, _one_line(error), "a worker")
    if isinstance(error, RunTimeout):
        return Ending(Outcome.TIMEOUT, str(error), "runner")
    if isinstance(error, InfrastructureError):
        return Ending(Outcome.INFRASTRUCTURE, str(error), "runner")
    return Ending(Outcome.FAILED, _one_line(error))


def _outcome(run: Run, ending: Ending) -> OutcomeRow:
    return OutcomeRow(
        run.run_id,
        run.mode,
        run.repetition,
        ending.outcome,
        ending.reason,
        ending.service,
    )


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
