"""Dask: samplers reach the workers as a worker plug-in, their rows come back through the client."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.sampling.workers._protocol import WorkerSampling, worker_samplings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor
    from contextlib import AbstractContextManager

    from distributed import Client


@worker_samplings.register("dask")
class DaskWorkerSampling(WorkerSampling):
    """Samples the workers of a local or an external Dask cluster."""

    @contextmanager
    def _watch(self, executor: Executor) -> Iterator[Callable[[], None]]:
        from harness.sampling.workers._dask_cluster import Cluster  # noqa: PLC0415  # 0.3 s

        client: Client = executor.client  # type: ignore[attr-defined]  # only a DaskExecutor comes
        cluster = Cluster(client, self.directory, self.interval_s)
        try:
            cluster.start()
            self.found = cluster.collector.found()
            yield cluster.collect
        finally:
            cluster.stop()

    def watch(self, executor: Executor) -> AbstractContextManager[Callable[[], None]]:
        """Register the plug-in, and on exit take back all it did."""
        return self._watch(executor)
