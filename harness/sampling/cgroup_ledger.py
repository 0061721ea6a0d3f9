"""The ledger: at each mark, where the memory of every container, service and of the whole is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.results.marks import AFTER_START, BASELINE_END, TRIMMED
from harness.results.memory import SCOPE_CONTAINER, LedgerRow
from harness.sampling.cgroup_files import MemoryStat, Pressure
from harness.sampling.meminfo import proc_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.sampling.cgroup_scopes import Container, Scope

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
    scopes: Iterable[Scope], containers: Iterable[Container], run_id: str, mark: str
) -> Iterator[LedgerRow]:
    """Yield a row for each scope; the containers' readings are made here and now."""
    readings = {container.name: _read(container, mark) for container in containers}
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


def _read(container: Container, mark: str) -> _Reading:
    now_ns = time.monotonic_ns()
    usage = container.read_usage()
    stat = container.read_stat()
    pressure, oom_kill = container.read_slow()
    sizes = None
    if mark in _SET_SIZE_MARKS and (usage or 0) <= _SET_SIZE_LIMIT_BYTES:
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
