"""Reading one cgroup again and again: descriptors opened once, then one ``pread`` per file.

A cgroup's directory vanishes when its container ends, and descriptors kept from before then
answer ENODEV. That is a state here (``ended``), not an error. Having no descriptor left is one:
a file that merely cannot be opened would pass for one that the kernel does not have.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.results.memory import KIND_MAX_USAGE, KIND_PEAK, KIND_PEAK_FD
from harness.sampling.cgroup_files import (
    PRESSURE,
    V2,
    MemoryStat,
    Pressure,
    parse_bytes,
    parse_oom_kill,
    parse_pressure,
    parse_stat,
)

if TYPE_CHECKING:
    from harness.sampling.cgroup_paths import MemoryCgroup

# memory.stat is under 1 KiB on v1 and about 2 KiB on v2; the others are one or a few lines.
_STAT_BYTES = 16 * 1024
_LINE_BYTES = 512
_GONE = frozenset({errno.ENODEV, errno.ENOENT})
NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
# A reader's files (usage, stat, kernel or swap, OOM kills, pressure) and the high-water mark.
_OF_A_CONTAINER = 6
# Standard streams, marks, what is written, and a parent's files while they are read.
_OF_THE_SAMPLER = 30


def descriptors_needed(containers: int, parents: int) -> int:
    """Return how many files the sampler has open at most for so many cgroups.

    Of a parent (a service, the topology) only the high-water mark is open all along.
    """
    return containers * _OF_A_CONTAINER + parents + _OF_THE_SAMPLER


class CgroupReader:
    """The files of one memory cgroup.

    Raises OSError if its usage cannot be opened, or if descriptors run out.

    Files that this kernel lacks read as ``None``. After the cgroup is gone every reading is
    ``None`` and ``ended`` is true.
    """

    def __init__(self, cgroup: MemoryCgroup) -> None:
        files = cgroup.files
        self.source = files.source
        self.ended = False
        self._files = files
        self._usage = _open(Path(cgroup.directory, files.usage))
        self._stat = _open_if_there(Path(cgroup.directory, files.stat))
        self._kernel = _open_if_there(Path(cgroup.directory, files.kernel)) if files.kernel else -1
        self._swap = _open_if_there(Path(cgroup.directory, files.swap)) if files.swap else -1
        self._oom = _open_if_there(Path(cgroup.directory, files.oom))
        self._pressure = _open_if_there(Path(cgroup.pressure, PRESSURE)) if cgroup.pressure else -1

    def usage(self) -> int | None:
        """Return the bytes charged now."""
        return self._number(self._usage)

    def stat(self) -> MemoryStat | None:
        """Return the parts of the usage."""
        text = self._read(self._stat, _STAT_BYTES)
        if text is None:
            return None
        kernel, swap = self._number(self._kernel), self._number(self._swap)
        return parse_stat(self._files, text, kernel, swap)

    def pressure(self) -> Pressure | None:
        """Return the cumulative stall times."""
        text = self._read(self._pressure, _LINE_BYTES)
        return None if text is None else parse_pressure(text)

    def oom_kill(self) -> int | None:
        """Return the cumulative number of OOM kills."""
        text = self._read(self._oom, _LINE_BYTES)
        return None if text is None else parse_oom_kill(text)

    def _number(self, fd: int) -> int | None:
        text = self._read(fd, _LINE_BYTES)
        return None if text is None else parse_bytes(text)

    def _read(self, fd: int, size: int) -> bytes | None:
        if fd < 0 or self.ended:
            return None
        try:
            return os.pread(fd, size, 0)
        except OSError as error:
            if error.errno in _GONE:
                self.ended = True
            elif fd == self._usage:
                raise
            # Else one optional file refuses to be read, for example memory.pressure of a kernel
            # started with psi=0 (EOPNOTSUPP); the rest is still worth having.
            return None

    def close(self) -> None:
        """Close all descriptors."""
        self.ended = True
        for fd in (self._usage, self._stat, self._kernel, self._swap, self._oom, self._pressure):
            if fd >= 0:
                os.close(fd)


class HighWaterMark:
    """The kernel's own peak of one cgroup, for one run after the other.

    v1: any write to ``memory.max_usage_in_bytes`` sets it to the present usage, for everyone.
    v2: from Linux 6.12 a write to an open ``memory.peak`` resets what that one descriptor shows.
    Where neither is possible (v2 before 6.12, or no permission) the mark still tells the peak of
    a run in which it rose. Raises OSError if the kernel has no such file (v2 before 5.19).
    """

    def __init__(self, cgroup: MemoryCgroup) -> None:
        self._v2 = cgroup.files is V2
        path = Path(cgroup.directory, cgroup.files.peak)
        try:
            self._fd = _open(path, os.O_RDWR)
            self._writable = True
        except FileNotFoundError:
            raise
        except OSError:
            self._fd = _open(path)
            self._writable = False
        self._floor: int | None = None

    def reset(self) -> None:
        """Begin a run."""
        if self._writable:
            try:
                os.pwrite(self._fd, b"0\n", 0)
            except OSError as error:
                # EINVAL: memory.peak before 6.12. A cgroup that is gone shows when it is read.
                self._writable = error.errno in _GONE
            else:
                self._floor = None
                return
        self._floor = self._value()

    def read(self) -> tuple[int, str] | None:
        """Return the peak since ``reset`` and its kind; ``None`` if the mark cannot tell."""
        value = self._value()
        if value is None:
            return None
        if self._floor is None:
            return value, KIND_PEAK_FD if self._v2 else KIND_MAX_USAGE
        if value > self._floor:
            return value, KIND_PEAK if self._v2 else KIND_MAX_USAGE
        return None

    def _value(self) -> int | None:
        try:
            return parse_bytes(os.pread(self._fd, _LINE_BYTES, 0))
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return None

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)


def _open(path: Path, mode: int = os.O_RDONLY) -> int:
    return os.open(path, mode | os.O_CLOEXEC)


def _open_if_there(path: Path) -> int:
    try:
        return _open(path)
    except OSError as error:
        if error.errno in NO_DESCRIPTORS:
            raise
        return -1
