"""The sampling loop of the inside view; ``inside`` imports it once the service runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.clock import reference
from harness.results.conversation import BASELINE_START, RUN_END, STOP
from harness.results.directory import RunDirectory
from harness.results.rows import columns
from harness.results.schema import InsideRow, row_line
from harness.sampling.cgroup.paths import Unreachable, own_cgroup
from harness.sampling.cgroup.reader import CgroupReader
from harness.sampling.grid import Every, Grid
from harness.sampling.marks import MarksTail
from harness.sampling.meminfo import HostMemoryReader
from harness.sampling.process_memory import ProcessSums
from harness.sampling.report import Stopwatch, ViewReport, own_rss_max_bytes, write_report
from harness.sampling.writer import LineWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.sampling.grid import Tick

_SLOW_NS = 1_000_000_000
# Not at the start of the run: the reading, up to a tick later, would fall into it.
_SET_SIZE_MARKS = frozenset({BASELINE_START, RUN_END})
SAMPLES_FILE = RunDirectory(Path()).memory("inside").name
MARKS_FILE = RunDirectory(Path()).marks.name


class InsideSampler:
    """Reads one container from inside and appends rows to the run directory's shared file.

    ``processes`` are those that are summed up, by default all of the container.
    """

    def __init__(
        self,
        run_dir: Path,
        container: str,
        interval_ns: int,
        processes: ProcessSums | None = None,
    ) -> None:
        self.absent: dict[str, str] = {}
        self.stopped = False
        self._container = container
        self._processes = processes or ProcessSums()
        self._host = HostMemoryReader()
        self._slow = Every(_SLOW_NS, interval_ns)
        self._cgroup = self._open_cgroup()
        self._marks = MarksTail(str(run_dir / MARKS_FILE))
        self._writer = LineWriter(str(run_dir / SAMPLES_FILE), columns(InsideRow))

    def _open_cgroup(self) -> CgroupReader | None:
        found = own_cgroup()
        if isinstance(found, Unreachable):
            self.absent["cg_usage_bytes"] = found.reason
            return None
        try:
            return CgroupReader(found)
        except OSError as error:
            self.absent["cg_usage_bytes"] = f"{found.directory}: {error.strerror}"
            return None

    def tick(self, tick: Tick) -> None:
        """Write one row; at a mark with unique and proportional set sizes."""
        run_id = self._marks.current_run
        at_mark = False
        for mark in self._marks.poll():
            at_mark = at_mark or mark.mark in _SET_SIZE_MARKS
            self.stopped = self.stopped or mark.mark == STOP
        # A row at the end of a run is still that run's.
        run_id = self._marks.current_run or run_id
        slow = self._slow.due(tick.index)
        if slow or at_mark:
            self._processes.refresh()
        t_mono_ns, t_unix_ns = reference().now()
        rss = self._processes.rss()
        full = self._processes.full() if at_mark else None
        host = self._host.read() if slow or at_mark else None
        row = InsideRow(
            run_id=run_id,
            container=self._container,
            t_mono_ns=t_mono_ns,
            t_unix_ns=t_unix_ns,
            late_ns=tick.late_ns,
            n_procs=rss.n_procs,
            rss_sum_bytes=rss.rss_bytes,
            uss_sum_bytes=full.uss_bytes if full else None,
            pss_sum_bytes=full.pss_bytes if full else None,
            sampler_rss_bytes=self._processes.own_rss(),
            cg_usage_bytes=self._cgroup.usage() if self._cgroup else None,
            host_total_bytes=host.total if host else None,
            host_available_bytes=host.available if host else None,
        )
        self._writer.write(row_line(row))
        if at_mark or self.stopped:
            self._writer.flush()
        else:
            self._writer.flush_if_due()

    def close(self) -> None:
        """Write out what is buffered."""
        self._writer.close()
        self._marks.close()


def sample_until(
    ended: Callable[[], bool],
    *,
    sleep: Callable[[float], object],
    run_dir: str,
    container: str,
    interval_s: float,
    processes: ProcessSums | None = None,
) -> None:
    """Sample every ``interval_s`` seconds until ``ended()`` or the stop mark, then report.

    Raises OSError if the run directory cannot be written, ValueError for a bad interval.
    """
    directory = Path(run_dir)
    interval_ns = round(interval_s * 1e9)
    grid = Grid(interval_ns, sleep=sleep)
    sampler = InsideSampler(directory, container, interval_ns, processes)
    watch = Stopwatch()
    try:
        for tick in grid.ticks(lambda: ended() or sampler.stopped):
            sampler.tick(tick)
    finally:
        sampler.close()
    write_report(
        directory,
        ViewReport(
            view="inside",
            name=container,
            grid=grid.report(),
            elapsed_ns=watch.elapsed_ns(),
            cpu_ns=watch.cpu_ns(),
            rss_max_bytes=own_rss_max_bytes(),
            absent=sampler.absent,
        ),
    )
