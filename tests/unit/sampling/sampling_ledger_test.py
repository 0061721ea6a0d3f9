from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from harness.sampling.cgroup_ledger import SetSizes, parse_rollup, set_sizes
from harness.sampling.meminfo import proc_size

ROLLUP = b"""562678b75000-7ffd6b8c7000 ---p 00000000 00:00 0                          [rollup]
Rss:                1748 kB
Pss:                 225 kB
Pss_Dirty:           112 kB
Shared_Clean:       1596 kB
Private_Clean:        40 kB
Private_Dirty:       112 kB
Private_Hugetlb:       8 kB
"""


def test_set_sizes_of_a_process() -> None:
    assert parse_rollup(ROLLUP) == SetSizes(225 * 1024, 160 * 1024)
    assert parse_rollup(b"") is None  # a kernel thread


def test_they_are_what_psutil_says(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    found = set_sizes(str(tmp_path))
    full = psutil.Process().memory_full_info()
    assert found is not None
    assert found.pss_bytes == pytest.approx(full.pss, rel=0.05)
    assert found.uss_bytes == pytest.approx(full.uss, rel=0.05)


def test_a_process_that_has_ended_does_not_spoil_the_sum(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text(f"4194304\n{os.getpid()}\n")
    assert set_sizes(str(tmp_path)) is not None


def test_processes_that_cannot_be_seen_leave_the_cell_empty(tmp_path: Path) -> None:
    assert set_sizes(str(tmp_path)) is None
    (tmp_path / "cgroup.procs").write_text("0\n")
    assert set_sizes(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (b"VmPTE:\t      52 kB\n", 52 * 1024),
        (b"VmRSS:\t 12 kB\nVmPTE:\t      52 kB\n", 52 * 1024),
        (b"VmRSS:\t 12 kB\n", None),
        (b"XVmPTE: 1 kB\nVmPTE: 2 kB\n", 2 * 1024),
        (b"VmPTE:\t      52", None),
        (b"VmPTE: 52\nVmRSS: 12 kB\n", None),
        (b"", None),
    ],
)
def test_a_size_in_procfs(text: bytes, size: int | None) -> None:
    assert proc_size(text, b"VmPTE") == size
