"""A workflow of WfCommons: an instance of WfFormat, with its sizes and times scaled.

The instance is part of the plan, reduced to what is run of it: so it is in the run directory and
in a bundle, and reaches the runner's container. What is scaled is told beside it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from harness.core.errors import UsageError
from harness.core.flags import Flag, from_args
from harness.core.text import one_line
from harness.plan.graph import Graph, Start, Task
from harness.plan.workload import MOST_BYTES, MOST_SECONDS, Workload, workloads
from harness.workloads._flag import WORKFLOW
from harness.workloads._instance import (
    MOST_FILE_BYTES,
    PIECE,
    Instance,
    NotMappedError,
    read_instance,
)

_FACTOR_MOST = 1e6


@workloads.register("wfformat")
class WfFormat(Workload):
    """Options of an instance of WfFormat."""

    name = "wfformat"
    sizes_flag = "--workflow: an object of bytes:"

    workflow: Annotated[str, WORKFLOW] = Field(max_length=4096)
    scale_bytes: Annotated[
        float, Flag("--scale-bytes", "each size in the instance times this", "FACTOR")
    ] = Field(default=1.0, ge=0, le=_FACTOR_MOST)
    scale_time: Annotated[
        float, Flag("--scale-time", "each runtime in the instance times this", "FACTOR")
    ] = Field(default=1.0, ge=0, le=_FACTOR_MOST)
    cap_bytes: Annotated[
        int | None,
        Flag("--cap-bytes", "most bytes of one object, once scaled", "BYTES", size=True),
    ] = Field(default=None, ge=0, le=MOST_BYTES)
    cap_time: Annotated[
        float | None, Flag("--cap-time", "most seconds of one task, once scaled", "SECONDS")
    ] = Field(default=None, ge=0, le=MOST_SECONDS)
    with_barriers: Annotated[
        bool,
        Flag(
            "--barriers",
            "start a level of tasks only when all of the one before is done (default: each task"
            " as soon as what it needs is there)",
        ),
    ] = False
    sha256: str = Field(default="", max_length=64)
    """Of the file; no flag says so."""
    instance: tuple[Annotated[str, Field(max_length=PIECE)], ...] = Field(max_length=10_000)
    """What of the file is run, as JSON in pieces; no flag says so."""

    @field_validator("instance")
    @classmethod
    def _is_one(cls, pieces: tuple[str, ...]) -> tuple[str, ...]:
        # A bundle's plan is a stranger's.
        Instance.of_pieces(pieces)
        return pieces

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        graph = self.graph()
        largest = max(graph.sizes, default=0)
        if largest > MOST_BYTES:
            raise ValueError(
                f"--scale-bytes {self.scale_bytes:g}: an object has {largest} bytes then, more than"
                f" {MOST_BYTES}: scale by less, or --cap-bytes"
            )
        if max((task.sleep_s for task in graph.tasks), default=0.0) > MOST_SECONDS:
            raise ValueError(
                f"--scale-time {self.scale_time:g}: a task takes more than {MOST_SECONDS:.0f} s"
                " then: scale by less, or --cap-time"
            )
        return self

    @classmethod
    def from_flags(cls, args: Mapping[str, Any]) -> Self:
        """Read the instance.

        Raises:
            UsageError: one line that names the file, and what of it cannot be run.
        """
        name = args.get("workflow")
        if name is None:
            raise UsageError("--workflow: is required: the instance that --workload wfformat runs")
        where = f"--workflow {one_line(name)[:200]}"
        try:
            with Path(name).open("rb") as file:
                data = file.read(MOST_FILE_BYTES + 1)
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or error
            raise UsageError(f"{where}: {said}: name an instance of WfFormat (JSON)") from None
        try:
            instance = read_instance(data)
        except NotMappedError as error:
            raise UsageError(f"{where}: {one_line(str(error))}") from None
        digest = hashlib.sha256(data).hexdigest()
        # Only the file's name: a plan is published, and its user's folders are not.
        args = {**args, "workflow": Path(name).name}
        return from_args(cls, args, sha256=digest, instance=instance.pieces())

    def graph(self) -> Graph:
        """Make one object of each start file, and one of all that a task writes."""
        instance = Instance.of_pieces(self.instance)
        return Graph(
            tuple(Start(f"start/{name}", self._size(size)) for name, size in instance.start),
            tuple(
                tuple(
                    Task(
                        f"{level}/{task.name}",
                        task.inputs,
                        self._size(task.size),
                        self._seconds(task.seconds),
                        task.after,
                    )
                    for task in tasks
                )
                for level, tasks in enumerate(instance.levels)
            ),
        )

    def _size(self, size: int) -> int:
        scaled = round(size * self.scale_bytes) if self.scale_bytes != 1 else size
        return scaled if self.cap_bytes is None else min(scaled, self.cap_bytes)

    def _seconds(self, seconds: float) -> float:
        scaled = seconds * self.scale_time
        return min(scaled, math.inf if self.cap_time is None else self.cap_time)

    @property
    def barriers(self) -> bool:
        """Whether ``--barriers`` was given."""
        return self.with_barriers
