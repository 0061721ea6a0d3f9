"""The simulated workflow, as flags describe it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.core.flags import Flag
from harness.core.pairs import Payloads


class Mode(StrEnum):
    """How the data of a workflow is managed."""

    NONE = "none"
    DEFAULT_PROXY = "default-proxy"
    MANUAL_PROXY = "manual-proxy"
    OWNED_PROXY = "owned-proxy"


class FlagModel(BaseModel):
    """Some of a plan's flags."""

    # A plan file or a bundle may be anybody's: every number in it is finite, and bounded.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# Far above what anybody runs, and low enough to be counted, waited for and estimated.
MOST_SECONDS = 10_000_000.0
MOST_BYTES = 10**15
MOST_TASKS = 1_000_000


class Workload(FlagModel):
    """The simulated workflow and the modes it is run under."""

    modes: Annotated[
        tuple[str, ...],
        Flag(
            "--data-management",
            "data management modes, each repeated --repeat times",
            choices=tuple(Mode),
        ),
    ] = Field(default=(Mode.DEFAULT_PROXY, Mode.MANUAL_PROXY, Mode.OWNED_PROXY), min_length=1)
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
    seed: Annotated[int, Flag("--seed", "seed of all payloads", "N")] = 0
    no_populate_target: Annotated[
        bool,
        Flag(
            "--no-populate-target",
            "make proxies that do not keep the object they were made of (ProxyStore's"
            " populate_target), which psbench's do",
        ),
    ] = False

    @field_validator("modes")
    @classmethod
    def _each_once(cls, modes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(Mode(mode).value for mode in modes))

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

    def payloads(self) -> Payloads:
        """Return what an executor has to carry at most."""
        counts, sizes = self.stage_task_counts, self.stage_bytes_sizes
        before = (counts[0], *counts)
        inputs = (
            size * (had if count == 1 else 1)
            for had, count, size in zip(before, counts, sizes, strict=False)
        )
        return Payloads(self.modes, max(inputs), max(sizes[1:]))

    @property
    def sleep_s(self) -> float:
        """Seconds a workflow sleeps at least: its stages run one after the other."""
        return self.stage_repeat * len(self.stage_task_counts) * self.task_sleep
