"""The process pool of the standard library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager
from typing import Annotated, Any

from pydantic import Field

from harness.core.flags import Flag
from harness.executors._pools import CALL_TIMEOUT_S, PoolConfig, trim_pool
from harness.executors._protocol import ExecutorTopology, executors


class ProcessPoolTopology(ExecutorTopology[PoolConfig]):
    """The runner alone."""

    @classmethod
    def variants(cls, name: str) -> Mapping[str, tuple[str, ...]]:
        """Have one row."""
        return {name: ("--process-pool-max-workers", "2")}


@executors.register("process")
class ProcessPoolConfig(PoolConfig):
    """Options of the process pool."""

    name = "process"
    topology = ProcessPoolTopology

    max_workers: Annotated[
        int | None,
        Flag("--process-pool-max-workers", "processes in the pool (default: number of CPUs)", "N"),
    ] = Field(default=None, gt=0)

    def start(self, timeout_s: float) -> AbstractContextManager[Executor]:  # noqa: ARG002
        """Start the pool."""
        return ProcessPoolExecutor(self.workers)

    def trim(self, executor: Executor, trim: Callable[[], Any]) -> tuple[str, ...]:
        """Trim every process of the pool."""
        return trim_pool(executor, self.workers, trim)

    def call_in_each(self, executor: Executor, call: Callable[[], Any]) -> tuple[str, ...]:
        """Call it in every worker."""
        return trim_pool(executor, self.workers, call, CALL_TIMEOUT_S)
