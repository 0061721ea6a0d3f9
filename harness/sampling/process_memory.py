"""Sums over the processes of one container, as psutil sees them from inside."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STATM_BYTES = 256
# Reading unique and proportional set sizes walks the page tables: 13 ms for each GiB.
_FULL_LIMIT_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class RssSum:
    """Number of processes and their resident set sizes together, in bytes."""

    n_procs: int
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class FullSum:
    """Unique and proportional set sizes together, in bytes."""

    uss_bytes: int
    pss_bytes: int


class SampledProcess:
    """One process: psutil's view of it, and its resident set size through a kept descriptor.

    That size is the figure psutil reads as well, at a fifth of the cost. An open
    ``/proc/PID/statm`` belongs to its process: once that has ended there is nothing to read, also
    if the number is in use again. Raises psutil.Error if there is no such process.
    """

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)
        try:
            self._fd = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1  # no procfs, or no descriptor left: psutil has other ways
        if not self.process.is_running():
            self.close()
            raise psutil.NoSuchProcess(pid)

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        if self._fd < 0:
            return not self.process.is_running()
        try:
            self.rss()
        except psutil.NoSuchProcess:
            return True
        return False

    def rss(self) -> int:
        """Return the resident set size in bytes. Raises psutil.Error."""
        if self._fd < 0:
            return int(self.process.memory_info().rss)
        try:
            return int(os.pread(self._fd, _STATM_BYTES, 0).split(b" ", 2)[1]) * _PAGE_BYTES
        except ProcessLookupError:
            raise psutil.NoSuchProcess(self.process.pid) from None

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class ProcessSums:
    """The processes below the one that this one descends from, in a container the first; not this.

    What the engine puts into a running container, health checks and ``docker exec``, has no parent
    in it: neither that nor what it starts is counted. What was found is kept because finding
    processes costs ten times what reading them does; ``refresh`` looks for new ones.
    """

    def __init__(self) -> None:
        self._own_pid = os.getpid()
        self._own = SampledProcess(self._own_pid)
        self._known: dict[int, SampledProcess] = {}
        self._foreign: set[psutil.Process] = set()
        own = self._own.process
        self._first = [own, *own.parents()][-1]
        self.refresh()

    def refresh(self) -> None:
        """Take up new processes and drop those that ended, also if the number is in use again."""
        known = {}
        for pid in self._pids():
            process = self._known.get(pid)
            if process is None or process.ended:
                process = self._found(pid)
            if process is not None:
                known[pid] = process
        for pid, process in self._known.items():
            if known.get(pid) is not process:
                process.close()
        self._known = known
        self._foreign = {process for process in self._foreign if process.is_running()}

    def _found(self, pid: int) -> SampledProcess | None:
        if pid == self._own_pid:
            return None
        try:
            process = SampledProcess(pid)
        except psutil.Error:
            return None
        try:
            if self._is_counted(process.process):
                return process
        except psutil.Error:
            pass
        process.close()
        return None

    def _pids(self) -> list[int]:
        """Return the processes to look at."""
        return psutil.pids()

    def _is_counted(self, process: psutil.Process) -> bool:
        """Return whether a process that is new belongs into the sums. Raises psutil.Error."""
        # A process that outlives what started it becomes a child of the first one; one that was
        # seen before stays foreign, then too.
        if process == self._first or process in self._foreign:
            return False
        above = process.parents()
        if self._first in above and self._foreign.isdisjoint(above):
            return True
        if above or process.ppid() == 0:  # else its parent ended just now: look again
            self._foreign.add(process)
        return False

    def rss(self) -> RssSum:
        """Return the sum of the resident set sizes; processes that vanish are dropped."""
        total = 0
        gone = []
        for pid, process in self._known.items():
            try:
                total += process.rss()
            except psutil.Error:
                gone.append(pid)
        for pid in gone:
            self._known.pop(pid).close()
        return RssSum(len(self._known), total)

    def full(self) -> FullSum | None:
        """Return unique and proportional sums, or ``None`` if one process cannot be read.

        A process of more than 2 GiB is not read, for the time it would be held up; a sum without
        it would say something else than it claims.
        """
        uss = pss = 0
        for process in list(self._known.values()):
            try:
                if process.rss() > _FULL_LIMIT_BYTES:
                    return None
                full = process.process.memory_full_info()
            except psutil.NoSuchProcess:
                continue
            except psutil.AccessDenied:
                return None
            uss += full.uss
            pss += full.pss
        return FullSum(uss, pss)

    def own_rss(self) -> int:
        """Return this process's resident set size."""
        return self._own.rss()
