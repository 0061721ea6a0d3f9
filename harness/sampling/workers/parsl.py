"""Parsl: samplers reach the pools in tasks, one beside the manager of each."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from harness.sampling.workers._parsl_pools import Pools, PoolsExecutor
from harness.sampling.workers._protocol import WorkerSampling, worker_samplings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor
    from contextlib import AbstractContextManager


@worker_samplings.register("parsl")
class ParslWorkerSampling(WorkerSampling):
    """Samples the worker pools of Parsl's high-throughput executor."""

    @contextmanager
    def _watch(self, executor: Executor) -> Iterator[Callable[[], None]]:
        pools_executor = cast(PoolsExecutor, executor)
        if not pools_executor.has_pools:  # threads, or workers that do not stay
            yield lambda: None
            return
        pools = Pools(pools_executor, self.directory, self.interval_s)
        try:
            pools.start()
            self.found = pools.collector.found()
            yield pools.collect
        finally:
            pools.stop()

    def watch(self, executor: Executor) -> AbstractContextManager[Callable[[], None]]:
        """Start a sampler beside each pool, and on exit take back all of it."""
        return self._watch(executor)
