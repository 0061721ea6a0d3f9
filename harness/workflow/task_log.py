"""What the client writes down of a run's tasks while it runs; rows are made when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from harness.core.clock import clock_id
from harness.results.events import TaskRow
from harness.workflow.tasks import Event

ContainerName = Callable[[str], str | None]
"""Host name -> the container's name in the memory files, None outside of containers."""


def no_container(_host: str) -> str | None:
    """Know no containers."""
    return None


@dataclass
class _Stage:
    cycle: int
    stage: int
    submitted_ns: list[int] = field(default_factory=list)
    received: list[tuple[int, Event]] = field(default_factory=list)


class TaskLog:
    """The events of one run, a hundred bytes or two for each task."""

    def __init__(self) -> None:
        self._stages: list[_Stage] = []

    def begin(self, cycle: int, stage: int) -> None:
        """Begin a stage."""
        self._stages.append(_Stage(cycle, stage))

    def submitting(self) -> None:
        """Note that the stage's next task is about to be submitted."""
        self._stages[-1].submitted_ns.append(time.monotonic_ns())

    def received(self, event: Event) -> None:
        """Note that the result of the stage's next task is here, and what it says of itself."""
        self._stages[-1].received.append((time.monotonic_ns(), event))

    def rows(self, run_id: str, container: ContainerName = no_container) -> Iterator[TaskRow]:
        """Yield a row for each task that was submitted, also if no result came back."""
        clock = clock_id()
        for stage in self._stages:
            for task, submitted_ns in enumerate(stage.submitted_ns):
                came = stage.received[task] if task < len(stage.received) else None
                row = TaskRow(
                    run_id=run_id,
                    cycle=stage.cycle,
                    stage=stage.stage,
                    task=task,
                    worker="",
                    submitted_mono_ns=submitted_ns,
                )
                yield row if came is None else _with_result(row, *came, clock, container)


def _with_result(
    row: TaskRow, received_ns: int, event: Event, clock: str, container: ContainerName
) -> TaskRow:
    host, thread, its_clock, started_ns, resolved_ns, finished_ns, bytes_in, bytes_out = event
    same = its_clock == clock
    return replace(
        row,
        worker=f"{host}:{thread}",
        started_mono_ns=started_ns if same else None,
        resolved_mono_ns=resolved_ns if same else None,
        finished_mono_ns=finished_ns if same else None,
        received_mono_ns=received_ns,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        container=container(host),
    )
