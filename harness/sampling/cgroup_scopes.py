"""What is measured, as the host sampler keeps it: containers, and the scopes peaks are taken of.

A scope is a container, a service (all its containers) or the topology (all containers). Its
exact peak comes from a cgroup's high-water mark: a container's own, or that of a parent cgroup
which outlives its containers and, for the topology, knows the simultaneous peak. Where there is
none, the highest sampled sum takes its place.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.results.memory import KIND_SAMPLED, SCOPE_CONTAINER, PeakRow, peak_label
from harness.sampling.cgroup_files import V2
from harness.sampling.cgroup_reader import NO_DESCRIPTORS, CgroupReader, HighWaterMark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.sampling.cgroup_files import MemoryStat, Pressure
    from harness.sampling.cgroup_paths import MemoryCgroup


class Container:
    """One container's readings; the last value of each is kept past its end."""

    def __init__(self, name: str, service: str, cgroup: MemoryCgroup) -> None:
        self.name = name
        self.service = service
        self.cgroup = cgroup
        self.reader = CgroupReader(cgroup)
        self.source = self.reader.source
        self.usage: int | None = None
        self.anon: int | None = None
        self.oom_kill: int | None = None
        self.end_noted = False

    def read_usage(self) -> int | None:
        """Read the usage; a container that ended counts as 0 in sums."""
        value = self.reader.usage()
        self.usage = 0 if self.reader.ended else value
        return value

    def read_stat(self) -> MemoryStat | None:
        """Read the parts of the usage."""
        stat = self.reader.stat()
        if stat is not None:
            self.anon = stat.anon_bytes
        elif self.reader.ended:
            self.anon = 0
        return stat

    def read_slow(self) -> tuple[Pressure | None, int | None]:
        """Read pressure and the OOM counter."""
        oom_kill = self.reader.oom_kill()
        if oom_kill is not None:
            self.oom_kill = oom_kill
        return self.reader.pressure(), oom_kill


class Scope:
    """One scope's peaks during the run in progress.

    ``cgroup`` is the one whose high-water mark speaks for the scope, if there is one.
    """

    def __init__(
        self, kind: str, name: str, members: list[Container], cgroup: MemoryCgroup | None
    ) -> None:
        self.kind = kind
        self.name = name
        self.members = members
        self._mark: HighWaterMark | None = None
        self._cgroup = cgroup
        self._hierarchical_oom = cgroup is not None and cgroup.files is V2
        self.reason = ""
        if cgroup is not None:
            try:
                self._mark = HighWaterMark(cgroup)
            except OSError as error:
                if error.errno in NO_DESCRIPTORS:
                    raise
                self.reason = f"{cgroup.files.peak}: {error.strerror}"
        self._usage_peak: int | None = None
        self._anon_peak: int | None = None
        self._baseline: int | None = None
        self._oom_start: int | None = None
        self.over = False

    @contextmanager
    def own(self) -> Iterator[CgroupReader | None]:
        """Read the scope's own cgroup, if it has one.

        A container's files are open all along. A parent's are needed at marks only, so they are
        opened then: descriptors are few.
        """
        if self.kind == SCOPE_CONTAINER:
            yield self.members[0].reader
            return
        reader = None
        try:
            if self._cgroup is not None:
                reader = CgroupReader(self._cgroup)
        except OSError as error:
            if error.errno in NO_DESCRIPTORS:
                raise
        try:
            yield reader
        finally:
            if reader is not None:
                reader.close()

    def start(self) -> None:
        """Begin a run: reset the high-water mark, then note baseline and counters.

        The members' readings must be fresh. A container that ended before is ``over``: it has no
        part in this run and gets no row.
        """
        self.over = self.kind == SCOPE_CONTAINER and all(m.reader.ended for m in self.members)
        with self.own() as own:
            if self._mark is not None:
                self._mark.reset()
            self._baseline = None if own is None else own.usage()
        if self._baseline is None:
            self._baseline = self._sum_usage()
        self._usage_peak = None
        self._anon_peak = None
        self.saw_usage()
        self.saw_anon()
        self._oom_start = self.oom_now()

    def saw_usage(self) -> None:
        """Take the members' latest usage into the sampled peak."""
        usage = self._sum_usage()
        if usage is not None and (self._usage_peak is None or usage > self._usage_peak):
            self._usage_peak = usage

    def saw_anon(self) -> None:
        """Take the members' latest anon into the sampled peak."""
        total = 0
        for member in self.members:
            if member.anon is None:
                return
            total += member.anon
        if self.members and (self._anon_peak is None or total > self._anon_peak):
            self._anon_peak = total

    def peak(self, run_id: str, usage_interval_ns: int) -> PeakRow:
        """Return the run's row."""
        exact = None if self._mark is None else self._mark.read()
        if exact is None:
            peak, kind, interval = self._usage_peak, KIND_SAMPLED, usage_interval_ns
        else:
            peak, kind, interval = *exact, 0
        oom_now = self.oom_now()
        known = oom_now is not None and self._oom_start is not None
        return PeakRow(
            run_id=run_id,
            scope=self.kind,
            name=self.name,
            peak_bytes=peak,
            peak_kind=kind,
            baseline_bytes=self._baseline,
            sampled_anon_peak_bytes=self._anon_peak,
            interval_ns=interval,
            oom_events=(oom_now or 0) - (self._oom_start or 0) if known else None,
            label=peak_label(kind, interval),
        )

    def _sum_usage(self) -> int | None:
        total = 0
        for member in self.members:
            if member.usage is None:
                return None
            total += member.usage
        return total if self.members else None

    def oom_now(self) -> int | None:
        """Return the OOM kills so far, as far as they can be counted."""
        # A v2 parent counts its descendants' kills and outlives them; v1 counts each cgroup's own.
        if self._hierarchical_oom:
            with self.own() as own:
                counted = None if own is None else own.oom_kill()
            if counted is not None:
                return counted
        counts = [member.oom_kill for member in self.members if member.oom_kill is not None]
        return sum(counts) if counts else None
