"""Sums over the processes of one container, as psutil sees them from inside."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil

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


class ProcessSums:
    """All processes of this PID namespace except this one and those without a parent in it.

    Without a parent is what the engine put into a running container: health checks and ``docker
    exec``. Process objects are kept because finding processes costs ten times what reading them
    does; ``refresh`` looks for new ones.
    """

    def __init__(self) -> None:
        self._own_pid = os.getpid()
        self._own = psutil.Process(self._own_pid)
        self._known: dict[int, psutil.Process] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take up new processes and drop those that ended, also if the number is in use again."""
        known = {}
        for pid in self._pids():
            if pid == self._own_pid:
                continue
            process = self._known.get(pid)
            try:
                if process is None or not process.is_running():
                    process = psutil.Process(pid)
                    if not self._is_counted(process):
                        continue
            except psutil.Error:
                continue
            known[pid] = process
        self._known = known

    def _pids(self) -> list[int]:
        """Return the processes to look at."""
        return psutil.pids()

    def _is_counted(self, process: psutil.Process) -> bool:
        """Return whether a process that is new belongs into the sums. Raises psutil.Error."""
        return process.ppid() != 0

    def rss(self) -> RssSum:
        """Return the sum of the resident set sizes; processes that vanish are dropped."""
        total = 0
        gone = []
        for pid, process in self._known.items():
            try:
                total += process.memory_info().rss
            except psutil.Error:
                gone.append(pid)
        for pid in gone:
            del self._known[pid]
        return RssSum(len(self._known), total)

    def full(self) -> FullSum | None:
        """Return unique and proportional sums, or ``None`` if one process cannot be read.

        A process of more than 2 GiB is not read, for the time it would be held up; a sum without
        it would say something else than it claims.
        """
        uss = pss = 0
        for process in list(self._known.values()):
            try:
                if process.memory_info().rss > _FULL_LIMIT_BYTES:
                    return None
                full = process.memory_full_info()
            except psutil.NoSuchProcess:
                continue
            except psutil.AccessDenied:
                return None
            uss += full.uss
            pss += full.pss
        return FullSum(uss, pss)

    def own_rss(self) -> int:
        """Return this process's resident set size."""
        return int(self._own.memory_info().rss)
