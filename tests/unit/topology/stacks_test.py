"""Asking every process of a fake topology what it was doing."""

from __future__ import annotations

from pathlib import Path

import pytest
from docker.errors import APIError

from harness.topology import stacks
from harness.topology.compose import ComposeProject
from tests.fake_engine import PROJECT, FakeEngine

PROJECT_OF_NONE = ComposeProject(PROJECT, [], {})


def collected(engine: FakeEngine, place: Path) -> dict[str, bytes]:
    directory = place / "stacks" / "0001-none-1"
    stacks.collect(PROJECT_OF_NONE, engine.up, directory)
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize(
    ("log", "found"),
    [
        (b"of before\nFatal Python error: Aborted\n\nCurrent thread 0x1", b"Fatal Python error"),
        (b"of before\nCurrent thread 0x1\nFatal Python error: x", b"Current thread 0x1"),
        (b"1:M\n=== REDIS BUG REPORT START\nx", b"REDIS BUG REPORT START"),
        (b"no stack\nat all", b"no stack\nat all"),
        (b"", b""),
    ],
)
def test_a_log_counts_from_where_its_stacks_begin(log: bytes, found: bytes) -> None:
    assert stacks.stacks_in(log).startswith(found)
    assert log.endswith(stacks.stacks_in(log))


def test_every_container_has_a_file_with_its_processes_and_stacks(tmp_path: Path) -> None:
    engine = FakeEngine()
    worker = engine.add("worker-1", processes=[["7", "Sl", "futex_wait", "python -m x"]])
    worker.said = b"noise\nFatal Python error: Aborted\n  File x\n"
    engine.add("redis-1").error = APIError("not\n running")
    found = collected(engine, tmp_path)
    assert set(found) == {"worker-1.txt", "redis-1.txt"}
    head, _, rest = found["worker-1.txt"].partition(b"\n\n")
    assert head == b"PID STAT WCHAN ARGS\n7 Sl futex_wait python -m x"
    assert rest == b"Fatal Python error: Aborted\n  File x\n"
    assert found["redis-1.txt"] == b"not there: not running\n"


def test_workers_are_asked_before_whom_they_would_end_with(tmp_path: Path) -> None:
    engine = FakeEngine()
    asked: list[str] = []
    for name in ("scheduler-1", "runner-1", "worker-1", "worker-2", "redis-1"):
        engine.add(
            name,
            processes=[["1", "S", "-", name]],
            on_exec=lambda command, name=name: asked.append(name),
        )
    assert len(collected(engine, tmp_path)) == 5
    assert set(asked[:2]) == {"worker-1", "worker-2"}
    assert asked[2] == "runner-1"
    assert set(asked[3:]) == {"scheduler-1", "redis-1"}


def test_processes_end_with_their_stacks_and_are_waited_for_a_moment(tmp_path: Path) -> None:
    engine = FakeEngine()
    worker = engine.add("worker-1", processes=[["1", "S", "-", "x"]], said=b"line\n" * 3000)
    found = collected(engine, tmp_path)["worker-1.txt"]
    calls = dict(worker.calls)
    assert "SIGABRT" in calls["exec"][-1]
    assert calls["wait"]["timeout"] == 3
    assert [name for name, _ in worker.calls] == ["top", "exec", "wait", "logs"]
    assert found.count(b"line") == 2000


def test_no_container_is_no_file(tmp_path: Path) -> None:
    assert collected(FakeEngine(), tmp_path) == {}
