"""One cgroup's memory files: what they say, and reading them again and again.

What the kernel's memory cgroup files say, as pure functions from their text.

The parsers take the bytes of a file and search only for the fields they need: a full parse of
``memory.stat`` costs twice as much and the samplers do it thousands of times a minute. A field
that a kernel does not have is ``None``. Definitions: Documentation/admin-guide/cgroup-v1/
memory.rst and cgroup-v2.rst of the kernel.

Reading one cgroup again and again: descriptors opened once, then one ``pread`` per file.

A cgroup's directory vanishes when its container ends, and descriptors kept from before then
answer ENODEV. That is a state here (``ended``), not an error. Having no descriptor left is one:
a file that merely cannot be opened would pass for one that the kernel does not have.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.results.memory import KIND_MAX_USAGE, KIND_PEAK, KIND_PEAK_FD

if TYPE_CHECKING:
    from harness.sampling.cgroup.paths import MemoryCgroup


@dataclass(frozen=True, slots=True)
class FileNames:
    """Names of the files of one cgroup version; empty is what memory.stat has.

    ``prefix`` stands in ``memory.stat`` before the fields that include descendants; ``anon`` and
    ``file`` are what it calls anonymous memory and page cache.
    """

    source: str
    usage: str
    stat: str
    kernel: str
    peak: str
    oom: str
    swap: str
    prefix: bytes
    anon: bytes
    file: bytes


V1 = FileNames(
    source="v1",
    usage="memory.usage_in_bytes",
    stat="memory.stat",
    kernel="memory.kmem.usage_in_bytes",
    peak="memory.max_usage_in_bytes",
    oom="memory.oom_control",
    swap="",
    prefix=b"total_",
    anon=b"rss",
    file=b"cache",
)
V2 = FileNames(
    source="v2",
    usage="memory.current",
    stat="memory.stat",
    kernel="",
    peak="memory.peak",
    oom="memory.events",
    swap="memory.swap.current",
    prefix=b"",
    anon=b"anon",
    file=b"file",
)
# What v2's memory.stat tells of kernel memory before it has the sum, ``kernel`` (Linux 5.18). None
# of them holds another: a kernel stack is not counted as vmalloc, slab is its two kinds together.
# Page tables are told from 5.11, percpu from 5.9, vmalloc from 5.17 on.
_KERNEL_PARTS = (b"slab", b"kernel_stack", b"pagetables", b"percpu", b"vmalloc", b"sec_pagetables")
PRESSURE = "memory.pressure"


@dataclass(frozen=True, slots=True)
class MemoryStat:
    """The parts of a cgroup's usage, descendants included, in bytes.

    ``sock_bytes`` are the buffers of sockets; v1 charges them to no usage and tells none.
    """

    anon_bytes: int | None
    file_bytes: int | None
    shmem_bytes: int | None
    kernel_bytes: int | None
    inactive_file_bytes: int | None
    active_file_bytes: int | None = None
    swap_bytes: int | None = None
    sock_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Pressure:
    """Cumulative stall times of ``memory.pressure`` in microseconds."""

    some_us: int | None
    full_us: int | None


def parse_bytes(text: bytes) -> int | None:
    """Return the number in a file of one value; ``None`` for ``max`` and for no number."""
    try:
        return int(text)
    except ValueError:
        return None


def parse_stat(
    files: FileNames, text: bytes, kernel_bytes: int | None = None, swap_bytes: int | None = None
) -> MemoryStat:
    """Parse ``memory.stat``: the fields that include descendants.

    The page cache includes tmpfs and shared memory, which the ledger counts apart. What is in a
    file of its own is passed: v1's kernel memory, v2's swap. v2's kernel memory is ``kernel``, or
    before Linux 5.18 the sum of its parts as far as they are told.
    """
    text = b"\n" + text

    def field(name: bytes) -> int | None:
        return _field(text, b"\n%b%b " % (files.prefix, name))

    shmem = field(b"shmem")
    v2 = files is V2
    if kernel_bytes is None and v2:
        kernel_bytes = field(b"kernel")
        if kernel_bytes is None:
            told = [part for part in map(field, _KERNEL_PARTS) if part is not None]
            kernel_bytes = sum(told) if told else None
    return MemoryStat(
        anon_bytes=field(files.anon),
        file_bytes=_without(field(files.file), shmem),
        shmem_bytes=shmem,
        kernel_bytes=kernel_bytes,
        inactive_file_bytes=field(b"inactive_file"),
        active_file_bytes=field(b"active_file"),
        swap_bytes=swap_bytes if swap_bytes is not None or v2 else field(b"swap"),
        sock_bytes=field(b"sock") if v2 else None,
    )


def parse_oom_kill(text: bytes) -> int | None:
    """Return ``oom_kill`` of v1 ``memory.oom_control`` or v2 ``memory.events``.

    The v1 counter does not include descendants, the v2 one does.
    """
    return _field(b"\n" + text, b"\noom_kill ")


def parse_pressure(text: bytes) -> Pressure:
    """Parse ``memory.pressure`` (PSI): the ``total=`` of its ``some`` and ``full`` lines."""
    return Pressure(some_us=_total(text, b"some "), full_us=_total(text, b"full "))


def _field(text: bytes, key: bytes) -> int | None:
    start = text.find(key)
    if start < 0:
        return None
    start += len(key)
    end = text.find(b"\n", start)
    return parse_bytes(text[start:] if end < 0 else text[start:end])


def _total(text: bytes, line: bytes) -> int | None:
    start = text.find(line)
    start = text.find(b"total=", start) if start >= 0 else -1
    if start < 0:
        return None
    end = text.find(b"\n", start)
    return parse_bytes(text[start + 6 :] if end < 0 else text[start + 6 : end])


def _without(whole: int | None, part: int | None) -> int | None:
    # The kernel sums per-CPU counters while they change, so a difference may dip below zero.
    if whole is None or part is None:
        return None
    return max(whole - part, 0)


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
