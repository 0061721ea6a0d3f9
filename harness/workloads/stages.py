"""The reference's workload: stages of equal tasks, one after the other."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from harness.core.flags import Flag
from harness.plan.graph import Graph, Start, Task
from harness.plan.workload import MOST_BYTES, MOST_SECONDS, MOST_TASKS, Workload, workloads


@workloads.register("stages")
class Stages(Workload):
    """Options of the workload of stages."""

    name = "stages"
    sizes_flag = "--stage-bytes-sizes"

    stage_task_counts: Annotated[
        tuple[int, ...], Flag("--stage-task-counts", "number of tasks in each stage", "COUNT")
    ] = Field(min_length=1)
    stage_bytes_sizes: Annotated[
        tuple[int, ...],
        Flag(
            "--stage-bytes-sizes",
            "size of the start data, then of what each stage's tasks return (MB is 10^6,"
            " MiB is 2^20)",
            "BYTES",
            size=True,
        ),
    ]
    stage_repeat: Annotated[
        int, Flag("--stage-repeat", "times the stages are run within one workflow", "N")
    ] = 1
    task_sleep: Annotated[
        float, Flag("--task-sleep", "seconds each task sleeps, as its simulated work", "SECONDS")
    ]

    @field_validator("stage_task_counts")
    @classmethod
    def _stage_order(cls, counts: tuple[int, ...]) -> tuple[int, ...]:
        for stage, count in enumerate(counts):
            if count <= 0:
                raise ValueError(f"{count} is not a number of tasks: it must be greater than zero")
            if stage and count > 1 and counts[stage - 1] not in (1, count):
                raise ValueError(
                    f"stage {stage} has {count} tasks but follows {counts[stage - 1]}: a stage of"
                    f" many tasks may only follow a stage of one task or of the same number"
                )
        return counts

    @field_validator("stage_repeat")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value <= 0:
            raise ValueError(f"must be greater than zero, not {value}")
        return value

    @field_validator("stage_bytes_sizes")
    @classmethod
    def _sizes(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        wrong = next((size for size in sizes if not 0 <= size <= MOST_BYTES), None)
        if wrong is not None:
            raise ValueError(f"{wrong} is not a size between 0 and {MOST_BYTES} bytes")
        return sizes

    @field_validator("task_sleep")
    @classmethod
    def _duration(cls, value: float) -> float:
        if not 0 <= value <= MOST_SECONDS:
            raise ValueError(f"must be a number of seconds from 0 to {MOST_SECONDS:.0f}")
        return value

    @model_validator(mode="after")
    def _one_size_more(self) -> Self:
        sizes, counts = len(self.stage_bytes_sizes), len(self.stage_task_counts)
        if sizes != counts + 1:
            raise ValueError(
                f"--stage-bytes-sizes: {sizes} sizes given, but {counts} stages"
                f" (--stage-task-counts) need {counts + 1}: one for the start data and one for"
                " each stage's results"
            )
        tasks = self.stage_repeat * sum(self.stage_task_counts)
        if tasks > MOST_TASKS:
            raise ValueError(
                f"--stage-task-counts: {tasks} tasks with --stage-repeat {self.stage_repeat}; one"
                f" workflow has at most {MOST_TASKS}"
            )
        return self

    def graph(self) -> Graph:
        """Spread what one stage made over the tasks of the next.

        Equal counts map one to one, one object fans out to all tasks, many objects fan in to one.
        """
        sizes = self.stage_bytes_sizes
        start = tuple(Start(f"start/{n}", sizes[0]) for n in range(self.stage_task_counts[0]))
        levels = []
        made = range(len(start))
        for stage, count in enumerate(self.stage_task_counts):
            size = sizes[stage + 1]
            if count == 1 or len(made) == 1:
                inputs = [tuple(made)] * count
            else:
                inputs = [(number,) for number in made]
            levels.append(
                tuple(
                    Task(f"{stage}/{number}", inputs[number], size, self.task_sleep)
                    for number in range(count)
                )
            )
            made = range(made.stop, made.stop + count)
        return Graph(start, tuple(levels))

    @property
    def cycles(self) -> int:
        """As often as ``--stage-repeat`` says."""
        return self.stage_repeat

    def columns(self) -> tuple[str, str, float]:
        """Return the flags, to psbench's letter."""
        counts = "-".join(map(str, self.stage_task_counts))
        return counts, "-".join(map(str, self.stage_bytes_sizes)), self.task_sleep

    @property
    def sleep_s(self) -> float:
        """Seconds a workflow sleeps at least: its stages run one after the other."""
        return self.stage_repeat * len(self.stage_task_counts) * self.task_sleep
