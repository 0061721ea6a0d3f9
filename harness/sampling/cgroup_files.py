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
    """Names of the files of one cgroup version; empty is what memory.stat has."""

    source: str
    usage: str
    stat: str
    kernel: str
    peak: str
    oom: str
    swap: str


V1 = FileNames(
    source="v1",
    usage="memory.usage_in_bytes",
    stat="memory.stat",
    kernel="memory.kmem.usage_in_bytes",
    peak="memory.max_usage_in_bytes",
    oom="memory.oom_control",
    swap="",
)
V2 = FileNames(
    source="v2",
    usage="memory.current",
    stat="memory.stat",
    kernel="",
    peak="memory.peak",
    oom="memory.events",
    swap="memory.swap.current",
)
PRESSURE = "memory.pressure"


@dataclass(frozen=True, slots=True)
class MemoryStat:
    """The parts of a cgroup's usage, descendants included, in bytes."""

    anon_bytes: int | None
    file_bytes: int | None
    shmem_bytes: int | None
    kernel_bytes: int | None
    inactive_file_bytes: int | None
    active_file_bytes: int | None = None
    swap_bytes: int | None = None


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


def parse_stat_v1(
    text: bytes, kernel_bytes: int | None = None, swap_bytes: int | None = None
) -> MemoryStat:
    """Parse a v1 ``memory.stat``; its ``total_`` fields include descendants.

    ``total_cache`` includes tmpfs and shared memory, which the ledger counts apart. Kernel memory
    is in a file of its own and taken from ``kernel_bytes``.
    """
    cache = _field(text, b"\ntotal_cache ")
    shmem = _field(text, b"\ntotal_shmem ")
    return MemoryStat(
        anon_bytes=_field(text, b"\ntotal_rss "),
        file_bytes=_without(cache, shmem),
        shmem_bytes=shmem,
        kernel_bytes=kernel_bytes,
        inactive_file_bytes=_field(text, b"\ntotal_inactive_file "),
        active_file_bytes=_field(text, b"\ntotal_active_file "),
        swap_bytes=_field(text, b"\ntotal_swap ") if swap_bytes is None else swap_bytes,
    )


def parse_stat_v2(
    text: bytes, kernel_bytes: int | None = None, swap_bytes: int | None = None
) -> MemoryStat:
    """Parse a v2 ``memory.stat``, which is hierarchical; ``kernel`` is there from Linux 5.18.

    Swap is in a file of its own and taken from ``swap_bytes``.
    """
    text = b"\n" + text
    shmem = _field(text, b"\nshmem ")
    return MemoryStat(
        anon_bytes=_field(text, b"\nanon "),
        file_bytes=_without(_field(text, b"\nfile "), shmem),
        shmem_bytes=shmem,
        kernel_bytes=_field(text, b"\nkernel ") if kernel_bytes is None else kernel_bytes,
        inactive_file_bytes=_field(text, b"\ninactive_file "),
        active_file_bytes=_field(text, b"\nactive_file "),
        swap_bytes=swap_bytes,
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
