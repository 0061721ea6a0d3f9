"""Readers on plain files; what plain files cannot do, the system calls are made to say."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.sampling.cgroup.paths import MemoryCgroup
from harness.sampling.cgroup.reader import (
    V1,
    V2,
    CgroupReader,
    HighWaterMark,
    Pressure,
    descriptors_needed,
)
from harness.sampling.cgroup.scopes import Container, Scope


def make(path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (path / name).write_text(text)


@pytest.fixture
def v1(tmp_path: Path) -> MemoryCgroup:
    make(tmp_path, {"memory.usage_in_bytes": "100\n", "memory.max_usage_in_bytes": "8\n"})
    return MemoryCgroup(V1, str(tmp_path), None)


@pytest.fixture
def v2(tmp_path: Path) -> MemoryCgroup:
    make(tmp_path, {"memory.current": "100\n", "memory.peak": "8\n"})
    return MemoryCgroup(V2, str(tmp_path), str(tmp_path))


def failing(number: int) -> Callable[..., bytes]:
    def fail(*_: object) -> bytes:
        raise OSError(number, os.strerror(number))

    return fail


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_files_a_kernel_lacks_read_as_nothing(v2: MemoryCgroup) -> None:
    reader = CgroupReader(v2)
    assert reader.usage() == 100
    assert reader.stat() is None
    assert reader.pressure() is None
    assert reader.oom_kill() is None
    assert not reader.ended
    reader.close()


def test_values_are_read_anew_each_time(v2: MemoryCgroup) -> None:
    reader = CgroupReader(v2)
    assert reader.usage() == 100
    make(Path(v2.directory), {"memory.current": "250\n"})
    assert reader.usage() == 250


def test_pressure_is_read_where_it_is(v1: MemoryCgroup, tmp_path: Path) -> None:
    unified = tmp_path / "unified"
    unified.mkdir()
    make(unified, {"memory.pressure": "some total=3\nfull total=2\n"})
    reader = CgroupReader(MemoryCgroup(V1, v1.directory, str(unified)))
    assert reader.pressure() == Pressure(3, 2)


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ENOENT])
def test_a_cgroup_that_is_gone_has_ended(
    v1: MemoryCgroup, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    reader = CgroupReader(v1)
    monkeypatch.setattr(os, "pread", failing(number))
    assert reader.usage() is None
    assert reader.ended


def test_a_refusing_optional_file_is_nothing_but_a_refusing_usage_is_an_error(
    v2: MemoryCgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(Path(v2.directory), {"memory.pressure": ""})
    reader = CgroupReader(v2)
    monkeypatch.setattr(os, "pread", failing(errno.EOPNOTSUPP))
    assert reader.pressure() is None
    assert not reader.ended
    with pytest.raises(OSError, match="not supported"):
        reader.usage()


def test_a_container_without_a_cgroup_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CgroupReader(MemoryCgroup(V1, str(tmp_path), None))


def test_a_v1_mark_is_reset_by_writing(v1: MemoryCgroup) -> None:
    mark = HighWaterMark(v1)
    mark.reset()
    assert Path(v1.directory, "memory.max_usage_in_bytes").read_text() == "0\n"
    make(Path(v1.directory), {"memory.max_usage_in_bytes": "7\n"})
    assert mark.read() == (7, "max_usage")


def test_a_v2_mark_reset_for_its_descriptor(v2: MemoryCgroup) -> None:
    mark = HighWaterMark(v2)
    mark.reset()
    make(Path(v2.directory), {"memory.peak": "5\n"})
    assert mark.read() == (5, "memory.peak-fd")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EACCES, errno.EPERM])
def test_a_mark_that_cannot_be_reset_is_exact_only_if_it_rose(
    v2: MemoryCgroup, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "pwrite", failing(number))
    mark = HighWaterMark(v2)
    mark.reset()
    assert mark.read() is None  # still 8: the peak may be of an earlier run
    make(Path(v2.directory), {"memory.peak": "9\n"})
    assert mark.read() == (9, "memory.peak")
    mark.reset()
    assert mark.read() is None


def test_a_mark_without_write_permission_is_opened_for_reading(
    v1: MemoryCgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = os.open

    def read_only(path: Path, flags: int, *rest: int) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real_open(path, flags, *rest)

    monkeypatch.setattr(os, "open", read_only)
    mark = HighWaterMark(v1)
    mark.reset()
    make(Path(v1.directory), {"memory.max_usage_in_bytes": "9\n"})
    assert mark.read() == (9, "max_usage")


def test_a_kernel_without_the_mark(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HighWaterMark(MemoryCgroup(V2, str(tmp_path), None))


def test_a_container_that_ends_in_a_run_leaves_a_sampled_peak(
    v1: MemoryCgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = Container("worker-1", "worker", v1)
    scope = Scope("container", "worker-1", [container], v1)
    container.read_usage()
    container.oom_kill = 1
    scope.start()
    make(Path(v1.directory), {"memory.usage_in_bytes": "300\n"})
    container.read_usage()
    scope.saw_usage()
    monkeypatch.setattr(os, "pread", failing(errno.ENODEV))
    assert container.read_usage() is None
    scope.saw_usage()
    row = scope.peak("r1", 20)
    assert (row.peak_bytes, row.peak_kind, row.interval_ns) == (300, "sampled", 20)
    assert (row.baseline_bytes, row.oom_events) == (100, 0)
    assert not scope.over
    # In the next run it has no part.
    scope.start()
    assert scope.over


def test_a_service_outlives_its_container(
    v1: MemoryCgroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent_path = tmp_path / "parent"
    parent_path.mkdir()
    make(parent_path, {"memory.usage_in_bytes": "110\n", "memory.max_usage_in_bytes": "8\n"})
    container = Container("worker-1", "worker", v1)
    scope = Scope("service", "worker", [container], MemoryCgroup(V1, str(parent_path), None))
    container.read_usage()
    scope.start()
    make(parent_path, {"memory.max_usage_in_bytes": "555\n"})
    container.reader.close()  # as if ENODEV had been read
    container.read_usage()
    row = scope.peak("r1", 20)
    assert (row.peak_bytes, row.peak_kind, row.interval_ns) == (555, "max_usage", 0)
    assert row.baseline_bytes == 110


def members(place: Path, *usages: int) -> list[Container]:
    found = []
    for number, usage in enumerate(usages, 1):
        path = place / f"c{number}"
        path.mkdir()
        make(path, {"memory.usage_in_bytes": f"{usage}\n", "memory.max_usage_in_bytes": "0\n"})
        make(path, {"memory.stat": f"total_rss {usage // 2}\n"})
        make(path, {"memory.oom_control": "oom_kill 1\n"})
        found.append(Container(f"worker-{number}", "worker", MemoryCgroup(V1, str(path), None)))
    return found


def read_all(containers: list[Container]) -> None:
    for container in containers:
        container.read_usage()
        container.read_stat()
        container.read_slow()


def test_a_scope_without_a_mark_takes_the_highest_sum_that_was_sampled(tmp_path: Path) -> None:
    both = members(tmp_path, 100, 200)
    scope = Scope("service", "worker", both, None)
    read_all(both)
    scope.start()
    # Highest at the same time: not the sum of the highest of each.
    for usages in ((400, 100), (100, 350), (150, 150)):
        for container, usage in zip(both, usages, strict=True):
            path = Path(container.cgroup.directory)
            make(path, {"memory.usage_in_bytes": f"{usage}\n"})
            make(path, {"memory.stat": f"total_rss {usage // 2}\n"})
        read_all(both)
        scope.saw_usage()
        scope.saw_anon()
    make(Path(both[0].cgroup.directory), {"memory.oom_control": "oom_kill 4\n"})
    read_all(both)
    row = scope.peak("r1", 20)
    assert (row.scope, row.name, row.run_id) == ("service", "worker", "r1")
    assert (row.peak_bytes, row.peak_kind, row.interval_ns) == (500, "sampled", 20)
    assert (row.baseline_bytes, row.sampled_anon_peak_bytes, row.oom_events) == (300, 250, 3)
    # The next run begins anew.
    scope.start()
    row = scope.peak("r2", 20)
    assert (row.peak_bytes, row.baseline_bytes, row.oom_events) == (300, 300, 0)
    assert row.sampled_anon_peak_bytes == 150


def test_what_was_not_read_of_one_is_no_sum(tmp_path: Path) -> None:
    both = members(tmp_path, 100, 200)
    scope = Scope("service", "worker", both, None)
    read_all(both[:1])
    scope.start()
    row = scope.peak("r1", 20)
    assert (row.peak_bytes, row.baseline_bytes, row.sampled_anon_peak_bytes) == (None, None, None)
    assert row.oom_events == 0  # as far as they can be counted


def test_a_scope_of_nobody_has_no_figures() -> None:
    scope = Scope("topology", "topology", [], None)
    scope.start()
    row = scope.peak("r1", 20)
    assert (row.peak_bytes, row.baseline_bytes, row.oom_events) == (None, None, None)
    assert row.sampled_anon_peak_bytes is None
    assert not scope.over


def test_one_that_ended_counts_as_nothing_in_sums(tmp_path: Path) -> None:
    both = members(tmp_path, 100, 200)
    read_all(both)
    both[0].reader.close()
    read_all(both)
    scope = Scope("service", "worker", both, None)
    scope.start()
    row = scope.peak("r1", 20)
    assert (row.peak_bytes, row.sampled_anon_peak_bytes) == (200, 100)
    # A service goes on with what is left of it.
    assert not scope.over


def test_a_v2_scope_counts_the_kills_above_its_containers(v2: MemoryCgroup, tmp_path: Path) -> None:
    inner = members(tmp_path, 100)
    make(Path(v2.directory), {"memory.events": "oom_kill 5\n"})
    scope = Scope("service", "worker", inner, v2)
    read_all(inner)
    scope.start()
    make(Path(v2.directory), {"memory.events": "oom_kill 7\n", "memory.peak": "3\n"})
    assert scope.oom_now() == 7
    assert scope.peak("r1", 20).oom_events == 2
    # Where it cannot be read, the containers' own are added up.
    Path(v2.directory, "memory.events").unlink()
    assert scope.oom_now() == 1


def test_a_scope_says_why_its_peak_is_sampled(tmp_path: Path) -> None:
    inner = members(tmp_path, 100)
    above = tmp_path / "above"
    above.mkdir()
    make(above, {"memory.current": "300\n"})
    scope = Scope("service", "worker", inner, MemoryCgroup(V2, str(above), None))
    assert scope.reason == "memory.peak: No such file or directory"
    read_all(inner)
    scope.start()
    # The baseline is still the cgroup's own.
    assert scope.peak("r1", 20).baseline_bytes == 300
    with scope.own() as own:
        assert own is not None
        assert own.usage() == 300


def test_a_parent_is_opened_only_while_it_is_read(v2: MemoryCgroup, tmp_path: Path) -> None:
    scope = Scope("service", "worker", members(tmp_path, 100), v2)
    before = open_files()
    with scope.own() as own:
        assert own is not None
        assert open_files() > before
    assert open_files() == before
    Path(v2.directory, "memory.current").unlink()
    with scope.own() as own:
        assert own is None


def test_running_out_of_descriptors_is_an_error_and_no_missing_file(
    v1: MemoryCgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = Container("worker-1", "worker", v1)
    scope = Scope("service", "worker", [inner], v1)
    monkeypatch.setattr(os, "open", failing(errno.EMFILE))
    with pytest.raises(OSError, match="Too many open files"), scope.own():
        pass
    with pytest.raises(OSError, match="Too many open files"):
        Scope("service", "worker", [inner], v1)
    with pytest.raises(OSError, match="Too many open files"):
        CgroupReader(v1)


def test_a_reader_closes_all_it_has_opened(v2: MemoryCgroup) -> None:
    make(Path(v2.directory), {"memory.stat": "anon 1\n", "memory.swap.current": "9\n"})
    make(Path(v2.directory), {"memory.events": "oom_kill 2\n", "memory.pressure": ""})
    before = open_files()
    reader = CgroupReader(v2)
    stat = reader.stat()
    assert stat is not None
    assert (stat.anon_bytes, stat.swap_bytes, reader.oom_kill()) == (1, 9, 2)
    assert reader.source == "v2"
    assert open_files() == before + 5
    reader.close()
    assert open_files() == before
    assert reader.usage() is None
    mark = HighWaterMark(v2)
    mark.close()
    assert open_files() == before


@pytest.mark.parametrize(("containers", "parents", "needed"), [(0, 0, 30), (100, 3, 633)])
def test_descriptors_that_a_sampler_needs(containers: int, parents: int, needed: int) -> None:
    assert descriptors_needed(containers, parents) == needed
