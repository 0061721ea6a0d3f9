"""Waiting for a topology's runner: how far it is, and all that may end before it.

How far the runner of a topology is, by the files it writes.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from docker.errors import DockerException

from harness.core import interrupt
from harness.results.conversation import STOP
from harness.results.directory import RunDirectory
from harness.results.intake import Intake
from harness.results.outcomes import Ending, Outcome
from harness.results.shared import SharedFolder
from harness.sampling.marks import parse_marks
from harness.topology.compose import role
from harness.topology.events import Event, Kind
from harness.topology.judge import Judge
from harness.topology.part import Part

_TAIL_BYTES = 4096


class RunProgress:
    """Follows outcomes and marks of a topology, and takes its rows in as they come.

    Args:
        directory: the run directory.
        intake: of the topology.

    Attributes:
        rows: number of outcomes in the run directory.
        run_id: run of the last mark since the beginning; empty before the first.
    """

    def __init__(self, directory: RunDirectory, intake: Intake) -> None:
        self._directory = directory
        self._intake = intake
        self._marks_size = 0
        self._outcomes_size = -1
        self._changed = time.monotonic()
        self.rows = 0
        self.run_id = ""

    def idle_s(self) -> float:
        """Return for how many seconds the same run, or its absence, has been going on."""
        return time.monotonic() - self._changed

    def look(self) -> bool:
        """Look at the files; return whether there are more outcomes than at the last look."""
        shared = self._intake.shared
        size = shared.size(self._directory.outcomes.name)
        more = size != self._outcomes_size
        marks_size = shared.size(self._directory.marks.name)
        if more or marks_size != self._marks_size:
            self._intake.take()
        if more:
            self._outcomes_size = size
            self.rows = self.count()
            self._changed = time.monotonic()
        if marks_size != self._marks_size:
            self._marks_size = marks_size
            run_id = last_run(shared, self._directory)
            if run_id and run_id != self.run_id:
                self.run_id = run_id
                self._changed = time.monotonic()
        return more

    def count(self) -> int:
        """Return the number of outcomes on disk."""
        try:
            return max(0, self._directory.outcomes.read_bytes().count(b"\n") - 1)
        except FileNotFoundError:
            return 0


def last_run(shared: SharedFolder, directory: RunDirectory) -> str:
    """Return the run of the last complete mark of a topology, empty without one."""
    text = shared.read_end(directory.marks.name, _TAIL_BYTES)
    marks, _ = parse_marks(text)
    return next((mark.run_id for mark in reversed(marks) if mark.run_id and mark.mark != STOP), "")


POLL_S = 0.1
# Asking costs the engine a millisecond. With the time an answer may take (`judge`) it bounds how
# late a frozen engine is noticed.
_PING_EVERY_S = 2.0
# An event that got lost is noticed this late.
_LOOK_EVERY_S = 10.0
# One fault has several consequences, each with an event of its own.
_GRACE_S = 1.0
# For a runner whose last run is done: it only has to shut its executor down.
_SHUTDOWN_S = 30.0


@dataclass
class RunnerWatch:
    """Watches one topology until its runner ends, or something else that it needs does.

    Args:
        parts: the topology's shares of all nodes, which are up, the runner's first.
        directory: the run directory.
        intake: of the runner's share.
        happened: from ``events``, entered before the topology was up.
        progress: told the number of finished runs as it grows.
        sampler_end: why sampling from outside has ended, None while it goes on.
        silent_agent: asks the agents; says who is there and does not answer, else None.
        killed: each container's kills for lack of memory so far.
        run_timeout_s: how long a run may take; 0 is for ever.
        start_timeout_s: how long the runner may take until its first run.
        rows_in_all: how many outcomes the topology's runs make.
    """

    parts: Sequence[Part]
    directory: RunDirectory
    intake: Intake
    happened: queue.SimpleQueue[Event]
    progress: Callable[[int], None]
    sampler_end: Callable[[], str | None]
    silent_agent: Callable[[], str | None]
    killed: Callable[[], Mapping[str, int]]
    run_timeout_s: float
    start_timeout_s: float
    rows_in_all: int
    _ping_at: float = 0.0
    _look_at: float = 0.0
    _rows_at_end: int = 0
    _seen: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._judge = Judge(self.parts, self.directory, self.killed)

    def wait(self) -> Ending | None:
        """Wait for the end; return what went wrong, None if nothing did.

        Raises:
            KeyboardInterrupt: if a signal came.
        """
        runs = RunProgress(self.directory, self.intake)
        self._rows_at_end = runs.count() + self.rows_in_all
        try:
            while True:
                interrupt.check()
                self._next_event(POLL_S)
                if runs.look():
                    self.progress(runs.rows)
                ending = self._ending(runs)
                if ending is not None:
                    self.progress(runs.count())
                    return ending if ending.outcome != Outcome.OK else None
        finally:
            self._judge.close()

    def _ending(self, runs: RunProgress) -> Ending | None:
        if self._seen:
            return self._judge_events()
        why = self.sampler_end()
        if why is not None:
            reason = f"the host's memory sampler ended: {why}"
            return self._judge.of_the_machine(reason, "sampler")
        return self._asked() or self._too_long(runs)

    def _judge_events(self) -> Ending:
        """Wait for what else happens at the same time, unless the runner has simply ended."""
        deadline = time.monotonic() + _GRACE_S
        while not _runner_is_done(self._seen):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._next_event(left)
        return self._judge.of_events(self._seen)

    def _next_event(self, timeout_s: float) -> None:
        try:
            self._seen.append(self.happened.get(timeout=timeout_s))
        except queue.Empty:
            return

    def _asked(self) -> Ending | None:
        """Ask the engine now and then whether it is there, and for what it may not have told."""
        now = time.monotonic()
        if now >= self._ping_at:
            lost = self._judge.engine_lost()
            if lost is not None:
                return lost
            why = self.silent_agent()
            if why is not None:
                reason = f"the host's memory sampler stands still: {why}"
                return self._judge.of_the_machine(reason, "sampler")
            self._ping_at = time.monotonic() + _PING_EVERY_S
        if now >= self._look_at:
            self._look_at = now + _LOOK_EVERY_S
            self._look()
        return None

    def _look(self) -> None:
        """Notice containers that have ended without an event."""
        for part in self.parts:
            try:
                containers = part.project.containers(part.client)
            except (DockerException, OSError):
                continue  # the next ping tells
            for container in containers:
                if container.status in ("exited", "dead"):
                    code = int(container.attrs["State"]["ExitCode"])
                    names = str(container.id), str(container.name), role(container)
                    self._seen.append(Event(Kind.DIED, *names, code, part.node.name))

    def _too_long(self, runs: RunProgress) -> Ending | None:
        if runs.rows >= self._rows_at_end:
            if runs.idle_s() > _SHUTDOWN_S:
                # All that was measured is on disk; that shutting down hangs changes none of it.
                return Ending(Outcome.OK)
            return None
        if not runs.run_id:
            if runs.idle_s() > self.start_timeout_s:
                reason = f"no run began within {self.start_timeout_s:g} s (--start-timeout)"
                return Ending(Outcome.TIMEOUT, reason, "runner-1")
            return None
        if 0 < self.run_timeout_s < runs.idle_s():
            return self._judge.of_a_timeout(runs.run_id, self.run_timeout_s)
        return None


def _runner_is_done(seen: Sequence[Event]) -> bool:
    return any(
        event.kind == Kind.DIED and event.service == "runner" and event.exit_code == 0
        for event in seen
    )
