from __future__ import annotations

import csv
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.results.conversation import MarkWriter
from harness.results.memory import DockerRow
from harness.results.rows import columns
from harness.sampling.docker_stats import DockerView, parse, parse_time

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((RECORDED / name).read_text())
    return loaded


def parsed(message: dict[str, Any]) -> DockerRow | None:
    return parse(message, run_id="r1", container="worker-1", t_mono_recv_ns=5)


def test_v1_message() -> None:
    assert parsed(recorded("v1/stats.json")) == DockerRow(
        run_id="r1",
        container="worker-1",
        t_mono_recv_ns=5,
        t_read_unix_ns=1795348311417734278,
        usage_bytes=114585600,
        inactive_file_bytes=30007296,
        mem_usage_cli_bytes=114585600 - 30007296,
        max_usage_bytes=114704384,
        limit_bytes=268435456,
        cpu_total_ns=201284868,
    )


def test_v2_message_has_no_high_water_mark() -> None:
    row = parsed(recorded("v2/stats.json"))
    assert row is not None
    assert row.mem_usage_cli_bytes == 37302272 - 3002368
    assert row.max_usage_bytes is None
    assert row.inactive_file_bytes == 3002368


def test_inactive_file_is_taken_off_only_if_smaller() -> None:
    message = {"memory_stats": {"usage": 10, "stats": {"inactive_file": 10}}}
    row = parsed(message)
    assert row is not None
    assert (row.mem_usage_cli_bytes, row.inactive_file_bytes) == (10, 10)
    row = parsed({"memory_stats": {"usage": 10}})
    assert row is not None
    assert (row.mem_usage_cli_bytes, row.inactive_file_bytes) == (10, None)


@pytest.mark.parametrize("message", [{}, {"memory_stats": {}}, {"memory_stats": None}])
def test_a_container_that_has_ended_gives_no_row(message: dict[str, Any]) -> None:
    assert parsed(message) is None


@pytest.mark.parametrize(
    ("text", "unix_ns"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T00:00:01.000000007Z", 1_000_000_007),
        ("1970-01-01T01:00:01.25+01:00", 1_250_000_000),
        ("0001-01-01T00:00:00Z", None),
        ("", None),
        ("soon", None),
        ("1970-01-01T00:00:01", None),
    ],
)
def test_times(text: str, unix_ns: int | None) -> None:
    assert parse_time(text) == unix_ns


def read(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "memory-docker.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == columns(DockerRow)
    return rows


def report(run_dir: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((run_dir / ".sampling" / "docker-engine.json").read_text())
    return loaded


def test_streams_become_rows_with_their_run(tmp_path: Path) -> None:
    message = recorded("v1/stats.json")
    taken = threading.Semaphore(0)
    go_on = threading.Semaphore(0)

    def stream() -> Iterator[dict[str, Any]]:
        for _ in range(3):
            go_on.acquire()
            yield message
            taken.release()

    with MarkWriter(tmp_path / "marks.csv") as marks, DockerView(tmp_path) as view:
        view.follow("worker-1", stream())
        go_on.release()
        taken.acquire(timeout=10)
        marks.write("r1", "run_start")
        go_on.release()
        taken.acquire(timeout=10)
        marks.write("r1", "run_end")
        go_on.release()
        taken.acquire(timeout=10)
    assert [row["run_id"] for row in read(tmp_path)] == ["", "r1", ""]
    assert report(tmp_path)["details"]["rows"] == {"worker-1": 3}
    assert report(tmp_path)["absent"] == {}


def test_a_stream_that_breaks_off_ends_only_itself(tmp_path: Path) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield recorded("v1/stats.json")
        raise ConnectionResetError("reset")

    with DockerView(tmp_path) as view:
        view.follow("worker-1", broken())
        view.follow("worker-2", iter([recorded("v2/stats.json")] * 2))
        view.follow("worker-3", iter([{}]))
        for thread in view._threads:
            thread.join(10)
    assert sorted(row["container"] for row in read(tmp_path)) == [
        "worker-1",
        "worker-2",
        "worker-2",
    ]
    assert report(tmp_path)["absent"] == {
        "worker-1": "the stats stream broke off: reset",
        "worker-3": "the engine sent no memory figures",
    }


def test_a_silent_stream_does_not_hold_up_the_end(tmp_path: Path) -> None:
    silence = threading.Event()

    def silent() -> Iterator[dict[str, Any]]:
        silence.wait(60)
        yield recorded("v1/stats.json")

    view = DockerView(tmp_path, timeout_s=0.05)
    view.follow("worker-1", silent())
    started = time.monotonic()
    view.stop()
    view.stop()
    assert time.monotonic() - started < 30
    # What comes after the end is dropped, and the file is closed.
    silence.set()
    view._threads[0].join(10)
    assert read(tmp_path) == []


def test_a_stream_that_is_about_to_end_is_waited_for(tmp_path: Path) -> None:
    silence = threading.Event()

    def ending() -> Iterator[dict[str, Any]]:
        silence.wait(60)
        yield recorded("v1/stats.json")

    view = DockerView(tmp_path, timeout_s=30)
    view.follow("worker-1", ending())
    threading.Timer(0.05, silence.set).start()
    view.stop()
    assert not view._threads[0].is_alive()
