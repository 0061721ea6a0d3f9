"""The memory of the harness's own processes, for runs outside of containers."""

from __future__ import annotations

import os

import psutil

from harness.results.settled import Settle, Settled
from harness.sampling.process_memory import SampledProcess
from harness.sampling.process_tree import ProcessTree
from harness.sampling.settling import settle_by_reading


def settle_own_processes(window_s: float, bound_bytes: int, timeout_s: float) -> Settle:
    """Return what waits until this process and those below it have flat resident memory.

    Samplers of this package are not counted, and neither are workers on other hosts.
    """

    def settle(_run_id: str) -> Settled:
        below = ProcessTree(os.getpid())
        runner = SampledProcess(os.getpid())

        def read() -> int | None:
            try:
                below.refresh()  # a worker that starts now counts, too
                return runner.rss() + below.rss().rss_bytes
            except psutil.Error:
                return None

        try:
            return settle_by_reading(read, window_s, bound_bytes, timeout_s)
        finally:
            runner.close()

    return settle
