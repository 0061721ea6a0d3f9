"""What the kernel's memory cgroup files say, as pure functions from their text.

The parsers take the bytes of a file and search only for the fields they need: a full parse of
``memory.stat`` costs twice as much and the samplers do it thousands of times a minute. A field
that a kernel does not have is ``None``. Definitions: Documentation/admin-guide/cgroup-v1/
memory.rst and cgroup-v2.rst of the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass


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
