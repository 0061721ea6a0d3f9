from __future__ import annotations

from pathlib import Path

import pytest

from harness.sampling.cgroup.reader import (
    V1,
    V2,
    FileNames,
    MemoryStat,
    Pressure,
    parse_bytes,
    parse_oom_kill,
    parse_pressure,
    parse_stat,
)

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> bytes:
    return (RECORDED / name).read_bytes()


def kernel_stat(version: str, kernel: str) -> bytes:
    return recorded(f"{version}/memory.stat-{kernel}")


def usage_in_head(text: bytes) -> int:
    """Return the usage that the recording's first lines name beside it."""
    return int(text.partition(b"# usage ")[2].partition(b"\n")[0])


def test_v1_stat_is_the_hierarchical_one_with_shmem_taken_out_of_the_cache() -> None:
    assert parse_stat(V1, recorded("v1/memory.stat")) == MemoryStat(
        anon_bytes=72867840,
        file_bytes=40067072 - 10002432,
        shmem_bytes=10002432,
        kernel_bytes=None,
        inactive_file_bytes=30007296,
        active_file_bytes=61440,
        swap_bytes=0,
    )


def test_v1_parts_add_up_to_the_usage() -> None:
    stat = parse_stat(V1, recorded("v1/memory.stat"))
    kernel = parse_bytes(recorded("v1/memory.kmem.usage_in_bytes"))
    usage = parse_bytes(recorded("v1/memory.usage_in_bytes"))
    assert stat.anon_bytes is not None
    assert stat.file_bytes is not None
    assert stat.shmem_bytes is not None
    assert kernel is not None
    assert usage is not None
    parts = stat.anon_bytes + stat.file_bytes + stat.shmem_bytes + kernel
    # The difference is what each of the two CPUs holds in stock, up to 64 pages.
    assert 0 <= usage - parts <= 2 * 64 * 4096


def test_v2_stat() -> None:
    assert parse_stat(V2, recorded("v2/memory.stat")) == MemoryStat(
        anon_bytes=23871488,
        file_bytes=13004800 - 10002432,
        shmem_bytes=10002432,
        kernel_bytes=417792,
        inactive_file_bytes=3002368,
        active_file_bytes=0,
        sock_bytes=0,
    )


def test_v2_parts_add_up_to_the_usage() -> None:
    stat = parse_stat(V2, recorded("v2/memory.stat"))
    parts = (stat.anon_bytes, stat.file_bytes, stat.shmem_bytes, stat.kernel_bytes)
    assert sum(part or 0 for part in parts) == parse_bytes(recorded("v2/memory.current"))


PAGE = 4096
KERNELS = ("5.4", "5.10", "5.15", "6.1", "6.6", "6.12", "6.18")
# Page tables are charged, but told from Linux 5.11 on only.
PAGE_TABLES = {"5.4": 135 * PAGE, "5.10": 135 * PAGE}


@pytest.mark.parametrize("kernel", KERNELS)
def test_v2_parts_add_up_on_every_kernel_with_sockets_in_a_part_of_their_own(kernel: str) -> None:
    text = kernel_stat("v2", kernel)
    stat = parse_stat(V2, text)
    assert (stat.anon_bytes, stat.file_bytes, stat.shmem_bytes, stat.sock_bytes) == (
        104857600,
        16777216,
        4194304,
        8388608,
    )
    parts = (stat.anon_bytes, stat.file_bytes, stat.shmem_bytes, stat.kernel_bytes, stat.sock_bytes)
    usage = usage_in_head(text)
    assert usage - sum(part or 0 for part in parts) == PAGE_TABLES.get(kernel, 0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_v1_parts_add_up_on_every_kernel_with_sockets_in_none(kernel: str) -> None:
    text = kernel_stat("v1", kernel)
    stat = parse_stat(V1, text, kernel_bytes=3145728)
    assert (stat.anon_bytes, stat.file_bytes, stat.shmem_bytes, stat.sock_bytes) == (
        104857600,
        16777216,
        4194304,
        None,
    )
    parts = (stat.anon_bytes, stat.file_bytes, stat.shmem_bytes, stat.kernel_bytes)
    assert usage_in_head(text) == sum(part or 0 for part in parts)
    assert stat.swap_bytes == 40960


def test_kernel_memory_is_the_sum_where_the_kernel_tells_it() -> None:
    # All of the others are in it, zswap's too.
    text = b"kernel 100\nkernel_stack 10\npagetables 20\npercpu 5\nvmalloc 7\nzswap 3\nslab 9\n"
    assert parse_stat(V2, text).kernel_bytes == 100


def test_parts_of_kernel_memory_are_not_counted_twice() -> None:
    text = b"kernel_stack 10\nslab_reclaimable 4\nslab_unreclaimable 5\nslab 9\nvmalloc 7\nsock 1\n"
    assert parse_stat(V2, text).kernel_bytes == 26


def test_a_difference_never_goes_below_zero() -> None:
    assert parse_stat(V2, b"anon 1\nfile 4096\nshmem 8192\n").file_bytes == 0


@pytest.mark.parametrize("files", [V1, V2])
def test_an_empty_stat_has_no_values(files: FileNames) -> None:
    assert parse_stat(files, b"") == MemoryStat(None, None, None, None, None)


def test_the_last_line_may_lack_its_newline() -> None:
    assert parse_stat(V2, b"anon 12").anon_bytes == 12
    assert parse_oom_kill(b"oom_kill 3") == 3


def test_oom_kills() -> None:
    assert parse_oom_kill(recorded("v1/memory.oom_control")) == 0
    # oom_kill_disable and oom_group_kill are other fields.
    assert parse_oom_kill(b"oom_kill_disable 1\nunder_oom 0\noom_kill 2\n") == 2
    assert parse_oom_kill(recorded("v2/memory.events")) == 1
    assert parse_oom_kill(b"oom_kill_disable 0\nunder_oom 0\n") is None  # before Linux 4.13


def test_pressure_is_the_cumulative_stall_time() -> None:
    assert parse_pressure(recorded("v2/memory.pressure")) == Pressure(574005, 574005)
    assert parse_pressure(recorded("v1/memory.pressure")) == Pressure(0, 0)
    assert parse_pressure(b"some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n") == Pressure(7, None)
    assert parse_pressure(b"") == Pressure(None, None)


def test_single_values() -> None:
    assert parse_bytes(recorded("v1/memory.max_usage_in_bytes")) == 114704384
    assert parse_bytes(recorded("v2/memory.current")) == 37294080
    assert parse_bytes(b"max\n") is None
    assert parse_bytes(b"") is None
