"""What brings samplers to an executor's workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from harness.core.plug_ins import Registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from contextlib import AbstractContextManager

    from harness.results.directory import RunDirectory
    from harness.sampling.spool import Sampled


class WorkerSampling(ABC):
    """Samples the workers of one executor; register the subclass under the executor's name.

    Args:
        directory: where rows and reports go.
        interval_s: seconds between two readings of one worker.
    """

    def __init__(self, directory: RunDirectory, interval_s: float) -> None:
        self.directory = directory
        self.interval_s = interval_s
        self.found: dict[str, Sampled] = {}
        """The processes that are sampled, by their names, once they are watched."""

    @abstractmethod
    def watch(self, executor: Executor) -> AbstractContextManager[Callable[[], None]]:
        """Return a context in which all workers are sampled, and nothing of it is left after.

        What it gives is called between runs, outside of every measured window. A worker that
        cannot be sampled is said in the log and in ``sampling.json`` and fails nothing.
        """


worker_samplings: Registry[WorkerSampling] = Registry(
    "harness.sampling.workers", "workflow_memory_harness.worker_samplings"
)
