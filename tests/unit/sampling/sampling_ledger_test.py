from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from harness.results.memory import LedgerRow
from harness.sampling.cgroup import scopes
from harness.sampling.cgroup.paths import MemoryCgroup, cgroup_at
from harness.sampling.cgroup.scopes import (
    Container,
    Scope,
    SetSizes,
    ledger_rows,
    parse_rollup,
    set_sizes,
)
from harness.sampling.meminfo import proc_size
from tests.unit.sampling.cgroup_dirs import v1, v2

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


class Tree:
    """Two containers of one service, with or without a cgroup above them."""

    def __init__(self, place: Path, *, version: int = 2, parent: bool = False) -> None:
        make = v2 if version == 2 else v1
        self.top = make(place / "worker", 900, anon=500)
        self.paths = [make(self.top / "c1", 100), make(self.top / "c2", 200, anon=60)]
        self.containers = [
            Container(f"worker-{number}", "worker", cgroup(path))
            for number, path in enumerate(self.paths, 1)
        ]
        above = cgroup(self.top) if parent else None
        self.scopes = [
            *(Scope("container", c.name, [c], c.cgroup) for c in self.containers),
            Scope("service", "worker", self.containers, above),
        ]

    def rows(self, mark: str = "run_end") -> dict[str, LedgerRow]:
        return {row.name: row for row in ledger_rows(self.scopes, self.containers, "r1", mark)}


def cgroup(path: Path) -> MemoryCgroup:
    found = cgroup_at(str(path))
    assert isinstance(found, MemoryCgroup)
    return found


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_has_every_part(tmp_path: Path, version: int) -> None:
    row = Tree(tmp_path, version=version).rows()["worker-2"]
    assert (row.run_id, row.mark, row.scope) == ("r1", "run_end", "container")
    assert (row.usage_bytes, row.anon_bytes, row.shmem_bytes) == (200, 60, 10)
    # Page cache without shared memory, which is a part of its own.
    assert (row.file_bytes, row.kernel_bytes, row.inactive_file_bytes) == (20, 7, 5)
    assert row.oom_kill == 1
    if version == 2:
        assert (row.psi_some_us, row.psi_full_us) == (11, 12)
    else:
        assert (row.active_file_bytes, row.swap_bytes, row.psi_some_us) == (15, 3, None)


def test_a_service_without_a_cgroup_is_the_sum_of_what_adds_up(tmp_path: Path) -> None:
    row = Tree(tmp_path).rows()["worker"]
    assert (row.scope, row.usage_bytes, row.anon_bytes) == ("service", 300, 110)
    assert (row.shmem_bytes, row.file_bytes, row.kernel_bytes) == (20, 40, 14)
    assert (row.inactive_file_bytes, row.oom_kill) == (10, 2)
    # Stall times are no memory: two containers that wait at once wait once.
    assert (row.psi_some_us, row.psi_full_us) == (None, None)
    # What no container says is not said of all.
    assert (row.active_file_bytes, row.swap_bytes, row.sock_bytes) == (None, None, None)


def test_what_one_container_does_not_say_is_not_summed_up(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    (tree.paths[0] / "memory.stat").write_text("file 30\nshmem 10\n")
    row = tree.rows()["worker"]
    assert (row.anon_bytes, row.file_bytes, row.usage_bytes) == (None, 40, 300)


@pytest.mark.parametrize("version", [1, 2])
def test_a_service_with_a_cgroup_of_its_own_is_read_there(tmp_path: Path, version: int) -> None:
    row = Tree(tmp_path, version=version, parent=True).rows()["worker"]
    assert (row.usage_bytes, row.anon_bytes) == (900, 500)
    # v2 counts descendants' kills above them, v1 each cgroup's own.
    assert row.oom_kill == (1 if version == 2 else 2)
    assert row.psi_some_us == (11 if version == 2 else None)


def test_a_container_that_has_ended_has_no_row_and_is_no_part_of_a_sum(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.containers[0].reader.close()  # as if ENODEV had been read
    rows = tree.rows("trimmed")
    assert set(rows) == {"worker-2", "worker"}
    assert (rows["worker"].usage_bytes, rows["worker"].anon_bytes) == (200, 60)


@pytest.mark.parametrize(
    ("mark", "read"),
    [
        ("baseline_start", False),
        ("baseline_end", True),
        ("run_start", False),
        ("run_end", False),
        ("after_start", True),
        ("trimmed", True),
        ("after_end", False),
    ],
)
def test_set_sizes_are_read_where_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str, read: bool
) -> None:
    monkeypatch.setattr(scopes, "set_sizes", lambda _: SetSizes(40, 30))
    rows = Tree(tmp_path).rows(mark)
    sizes = [(rows[name].pss_bytes, rows[name].uss_bytes) for name in ("worker-1", "worker")]
    assert sizes == ([(40, 30), (80, 60)] if read else [(None, None)] * 2)


def test_set_sizes_that_would_take_long_are_left_out_and_spoil_the_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scopes, "set_sizes", lambda _: SetSizes(40, 30))
    tree = Tree(tmp_path)
    (tree.paths[0] / "memory.current").write_text(f"{16 * 2**30 + 1}\n")
    rows = tree.rows("trimmed")
    assert [rows[name].pss_bytes for name in ("worker-1", "worker-2", "worker")] == [None, 40, None]
    (tree.paths[0] / "memory.current").write_text(f"{16 * 2**30}\n")
    assert tree.rows("trimmed")["worker"].pss_bytes == 80


def test_every_row_says_when_it_was_read(tmp_path: Path) -> None:
    times = [row.t_mono_ns for row in Tree(tmp_path, parent=True).rows().values()]
    assert None not in times
    assert times == sorted(times, key=int)
