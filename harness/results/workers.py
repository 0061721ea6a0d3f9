"""The table of workers that the harness did not start but sampled."""

from __future__ import annotations

from dataclasses import dataclass

from harness.results.rows import column


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A row of ``workers.csv``: one worker of an executor's own cluster, and whose clock it has.

    Rows of ``memory-inside.csv`` with its ``container`` are of its process and all processes below;
    their cgroup usage is that of the cgroup the process is in, whatever else is in there, and
    unique and proportional set sizes are not read. Their times are on the clock of the host that
    ran ``harness run``: on another host's, ``t_mono_ns`` is CLOCK_MONOTONIC there plus the offset,
    taken as linear between two measurements, and ``t_unix_ns`` follows from it.
    """

    container: str = column("its name in memory-inside.csv; workers of one process share it")
    worker: str = column("its name in the cluster")
    address: str = column("its address in the cluster")
    host: str = column("host name where it runs")
    pid: int = column("process number there")
    clock: str = column("same: the clock is the client's; measured: offsets were needed")
    clock_offset_ns: int | None = column(
        "CLOCK_MONOTONIC of the client minus the worker's", signed=True
    )
    offset_error_ns: int | None = column("bound of its error: half of the fastest round trip")
    clock_offset_end_ns: int | None = column("the same when last measured", signed=True)
    offset_end_error_ns: int | None = column("bound of its error")
