"""The thread pool of the standard library."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Annotated

from pydantic import Field

from harness.core.flags import Flag
from harness.executors._pools import PoolConfig
from harness.executors._protocol import ExecutorTopology, executors


class ThreadPoolTopology(ExecutorTopology[PoolConfig]):
    """The runner alone."""

    @classmethod
    def variants(cls, name: str) -> Mapping[str, tuple[str, ...]]:
        """Have one row."""
        return {name: ("--thread-pool-max-workers", "2")}


@executors.register("thread")
class ThreadPoolConfig(PoolConfig):
    """Options of the thread pool."""

    name = "thread"
    topology = ThreadPoolTopology

    max_workers: Annotated[
        int | None,
        Flag("--thread-pool-max-workers", "threads in the pool (default: number of CPUs)", "N"),
    ] = Field(default=None, gt=0)

    @property
    def in_client_process(self) -> bool:
        """Threads do."""
        return True

    def start(self, timeout_s: float) -> AbstractContextManager[Executor]:  # noqa: ARG002
        """Start the pool."""
        return ThreadPoolExecutor(self.workers)
