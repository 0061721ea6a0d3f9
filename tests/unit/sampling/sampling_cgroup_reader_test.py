"""Readers on plain files; what plain files cannot do, the system calls are made to say."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.sampling.cgroup_files import V1, V2, Pressure
from harness.sampling.cgroup_paths import MemoryCgroup
from harness.sampling.cgroup_reader import CgroupReader, HighWaterMark
from harness.sampling.cgroup_scopes import Container, Scope


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
