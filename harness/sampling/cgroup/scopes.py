"""What is measured, as the host sampler keeps it: containers, and the scopes peaks are taken of.

A scope is a container, a service (all its containers) or the topology (all containers). Its
exact peak comes from a cgroup's high-water mark: a container's own, or that of a parent cgroup
which outlives its containers and, for the topology, knows the simultaneous peak. Where there is
none, the highest sampled sum takes its place.

The ledger: at each mark, where the memory of every container, service and of the whole is.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.results.conversation import AFTER_START, BASELINE_END, TRIMMED
from harness.results.schema import KIND_SAMPLED, SCOPE_CONTAINER, LedgerRow, PeakRow, peak_label
from harness.sampling.cgroup.reader import (
    NO_DESCRIPTORS,
    V2,
    CgroupReader,
    HighWaterMark,
    MemoryStat,
    Pressure,
)
from harness.sampling.meminfo import proc_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.sampling.cgroup.paths import MemoryCgroup
    from harness.sampling.cgroup.reader import MemoryStat, Pressure


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

    def close(self) -> None:
        """Let go of the high-water mark."""
        if self._mark is not None:
            self._mark.close()

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


@contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """Use files and look at processes as another user, if this one may.

    Containers' processes without any capability can be looked at by their own user; root without
    capabilities can not.
    """
    if os.geteuid() != 0 or not (uid or gid):
        yield
        return
    try:
        os.setegid(gid)
        os.seteuid(uid)
    except OSError:
        pass  # that was not granted; what follows from it is said where it shows
    try:
        yield
    finally:
        if os.geteuid() != 0:
            os.seteuid(0)
        if os.getegid() != 0:
            os.setegid(0)


# Set sizes are read where nothing is being measured: 11 ms for each GiB of small pages.
_SET_SIZE_MARKS = frozenset({BASELINE_END, AFTER_START, TRIMMED})
_SET_SIZE_LIMIT_BYTES = 16 * 1024**3
_USS_FIELDS = (b"Private_Clean", b"Private_Dirty", b"Private_Hugetlb")


@dataclass(frozen=True, slots=True)
class SetSizes:
    """Proportional and unique set sizes, in bytes."""

    pss_bytes: int
    uss_bytes: int

    def __add__(self, other: SetSizes) -> SetSizes:
        return SetSizes(self.pss_bytes + other.pss_bytes, self.uss_bytes + other.uss_bytes)


def parse_rollup(text: bytes) -> SetSizes | None:
    """Parse ``/proc/<pid>/smaps_rollup`` (from Linux 4.14); ``None`` for a process without memory.

    The unique set size is what is private to the process, as psutil defines it.
    """
    pss = proc_size(text, b"Pss")
    parts = [proc_size(text, field) for field in _USS_FIELDS]
    if pss is None:
        return None
    return SetSizes(pss, sum(part for part in parts if part is not None))


def set_sizes(cgroup_directory: str) -> SetSizes | None:
    """Return the sums over the processes in a cgroup; ``None`` if one cannot be read.

    That is without root on the container's machine, or with processes this one cannot see.
    """
    total = SetSizes(0, 0)
    try:
        pids = Path(cgroup_directory, "cgroup.procs").read_text(encoding="ascii").split()
    except OSError:
        return None
    for pid in pids:
        try:
            text = Path("/proc", pid, "smaps_rollup").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            if pid == "0":  # a process of another PID namespace
                return None
            continue  # it has ended meanwhile
        except OSError:
            return None
        total += parse_rollup(text) or SetSizes(0, 0)
    return total


def ledger_rows(
    scopes: Iterable[Scope],
    containers: Iterable[Container],
    run_id: str,
    mark: str,
    user: tuple[int, int] = (0, 0),
) -> Iterator[LedgerRow]:
    """Yield a row for each scope; the containers' readings are made here and now.

    ``user`` is whom the containers run as, who may look at their processes.
    """
    readings = {container.name: _read(container, mark, user) for container in containers}
    for scope in scopes:
        members = [readings[member.name] for member in scope.members if member.name in readings]
        if scope.kind == SCOPE_CONTAINER and members and members[0].usage_bytes is None:
            continue  # it has ended
        own = None if scope.kind == SCOPE_CONTAINER else _read_parent(scope)
        if own is not None:
            yield own.row(scope, run_id, mark, _sum_sizes(members))
        elif members:
            yield _sum(members).row(scope, run_id, mark, _sum_sizes(members))


@dataclass(frozen=True, slots=True)
class _Reading:
    t_mono_ns: int
    usage_bytes: int | None
    stat: MemoryStat | None
    pressure: Pressure | None
    oom_kill: int | None
    sizes: SetSizes | None

    def row(self, scope: Scope, run_id: str, mark: str, sizes: SetSizes | None) -> LedgerRow:
        stat, pressure = self.stat, self.pressure
        return LedgerRow(
            run_id=run_id,
            mark=mark,
            scope=scope.kind,
            name=scope.name,
            usage_bytes=self.usage_bytes,
            anon_bytes=stat.anon_bytes if stat else None,
            shmem_bytes=stat.shmem_bytes if stat else None,
            active_file_bytes=stat.active_file_bytes if stat else None,
            inactive_file_bytes=stat.inactive_file_bytes if stat else None,
            kernel_bytes=stat.kernel_bytes if stat else None,
            pss_bytes=sizes.pss_bytes if sizes else None,
            uss_bytes=sizes.uss_bytes if sizes else None,
            swap_bytes=stat.swap_bytes if stat else None,
            psi_some_us=pressure.some_us if pressure else None,
            psi_full_us=pressure.full_us if pressure else None,
            oom_kill=self.oom_kill,
            file_bytes=stat.file_bytes if stat else None,
            sock_bytes=stat.sock_bytes if stat else None,
            t_mono_ns=self.t_mono_ns,
        )


def _read(container: Container, mark: str, user: tuple[int, int]) -> _Reading:
    now_ns = time.monotonic_ns()
    usage = container.read_usage()
    stat = container.read_stat()
    pressure, oom_kill = container.read_slow()
    sizes = None
    if mark in _SET_SIZE_MARKS and (usage or 0) <= _SET_SIZE_LIMIT_BYTES:
        with acting_as(*user):
            sizes = set_sizes(container.cgroup.directory)
    ended = container.reader.ended
    return _Reading(now_ns, None if ended else usage, stat, pressure, oom_kill, sizes)


def _read_parent(scope: Scope) -> _Reading | None:
    with scope.own() as own:
        if own is None:
            return None
        now_ns = time.monotonic_ns()
        usage, pressure, stat = own.usage(), own.pressure(), own.stat()
    return _Reading(now_ns, usage, stat, pressure, scope.oom_now(), None)


def _total(values: Iterable[int | None]) -> int | None:
    known = list(values)
    numbers = [value for value in known if value is not None]
    return sum(numbers) if known and len(numbers) == len(known) else None


def _sum_sizes(members: list[_Reading]) -> SetSizes | None:
    alive = [member for member in members if member.usage_bytes is not None]
    sizes = [member.sizes for member in alive if member.sizes is not None]
    return sum(sizes, SetSizes(0, 0)) if sizes and len(sizes) == len(alive) else None


def _sum(members: list[_Reading]) -> _Reading:
    """Add up what adds up: not pressure, which is time, not memory."""
    if len(members) == 1:
        return members[0]
    alive = [member for member in members if member.usage_bytes is not None]
    stats = [member.stat or MemoryStat(None, None, None, None, None) for member in alive]
    return _Reading(
        t_mono_ns=members[0].t_mono_ns,
        usage_bytes=_total(member.usage_bytes for member in alive),
        stat=MemoryStat(
            anon_bytes=_total(stat.anon_bytes for stat in stats),
            file_bytes=_total(stat.file_bytes for stat in stats),
            shmem_bytes=_total(stat.shmem_bytes for stat in stats),
            kernel_bytes=_total(stat.kernel_bytes for stat in stats),
            inactive_file_bytes=_total(stat.inactive_file_bytes for stat in stats),
            active_file_bytes=_total(stat.active_file_bytes for stat in stats),
            swap_bytes=_total(stat.swap_bytes for stat in stats),
            sock_bytes=_total(stat.sock_bytes for stat in stats),
        ),
        pressure=None,
        oom_kill=_total(member.oom_kill for member in members),
        sizes=None,
    )
