"""A worker's sampler, its spool, and the files it becomes, in real processes of this host."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.core.clock import clock_id
from harness.results.conversation import MarkWriter
from harness.results.directory import RunDirectory
from harness.sampling import process_tree, spool
from harness.sampling.child import SamplerChild
from harness.sampling.clocks import Offset
from harness.sampling.spool import (
    LEASE,
    Piece,
    Sampled,
    open_spool,
    read_spool,
    remove_spool,
    spool_place,
)
from harness.sampling.workers._collector import Collector

TOKEN = "test"
ROW = ",x,{t},1,0,1,5000,,,9,,,\n"


@pytest.fixture(autouse=True)
def own_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """A process with 50 MB and a child."""
    code = (
        "import subprocess, sys, time\n"
        "data = bytearray(b'x' * 50_000_000)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as process:
        yield process
        if process.poll() is None:  # else a test has ended the whole group
            os.killpg(process.pid, signal.SIGKILL)


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start(process: subprocess.Popen[bytes]) -> tuple[SamplerChild, Path]:
    sampled = Sampled("host", process.pid, clock_id(), [("0", "tcp://w:1")])
    own = open_spool(TOKEN, "host-1", sampled)
    child = SamplerChild(
        "harness.sampling.process_tree", str(process.pid), str(own), "host-1", "0.02"
    )
    return child, own


def rows_of(piece: Piece) -> list[dict[str, str]]:
    return list(csv.DictReader(piece.rows.decode().splitlines()))


def test_a_sampler_sees_its_process_and_those_below(busy: subprocess.Popen[bytes]) -> None:
    child, _ = start(busy)
    time.sleep(1.5)
    assert child.stop(10) == 0
    piece = read_spool(TOKEN, {})["host-1"]
    assert piece.sampled.workers == [("0", "tcp://w:1")]
    last = rows_of(piece)[-1]
    assert int(last["n_procs"]) == 2
    assert 55e6 < int(last["rss_sum_bytes"]) < 120e6
    assert piece.report is not None
    assert piece.report["grid"]["ticks"] == len(rows_of(piece))
    remove_spool(TOKEN)
    assert list(spool.spool(TOKEN).parent.iterdir()) == []


def test_a_sampler_ends_with_its_process(busy: subprocess.Popen[bytes]) -> None:
    child, _ = start(busy)
    until(lambda: bool(read_spool(TOKEN, {})["host-1"].rows))
    os.killpg(busy.pid, signal.SIGKILL)
    busy.wait()
    until(lambda: child.poll() is not None)
    assert child.stop(1) == 0
    assert read_spool(TOKEN, {})["host-1"].report is not None


def test_a_sampler_that_nobody_asks_ends_and_removes_its_rows(
    busy: subprocess.Popen[bytes],
) -> None:
    own = open_spool(TOKEN, "host-1", Sampled("host", busy.pid, clock_id()))
    os.utime(own.parent / LEASE, (1, 1))
    child = SamplerChild(process_tree.__name__, str(busy.pid), str(own), "host-1", "0.02")
    until(lambda: child.poll() is not None)
    assert child.stop(1) == 0
    assert not own.exists()


def test_only_whole_lines_are_read_and_each_once(tmp_path: Path) -> None:
    own = open_spool(TOKEN, "p", Sampled("h", 1, "c"))
    file = own / "memory-inside.csv"
    file.write_bytes(b"one\ntwo\nthr")
    first = read_spool(TOKEN, {})["p"].rows
    assert first == b"one\ntwo\n"
    file.write_bytes(b"one\ntwo\nthree\n")
    assert read_spool(TOKEN, {"p": len(first)})["p"].rows == b"three\n"
    open_spool("another", "p", Sampled("h", 1, "c"))
    assert spool_place(TOKEN) == spool_place(TOKEN) != spool_place("another")


def piece(process: int, rows: str, clock: str, report: bool = False) -> Piece:
    grid = {
        "interval_ns": 1,
        "ticks": 1,
        "missed": 0,
        "kept": 1.0,
        "late_median_ns": 0,
        "late_p95_ns": 0,
        "late_p99_ns": 0,
        "late_max_ns": 0,
    }
    said = {"view": "inside", "name": "p", "grid": grid} if report else None
    workers = [(str(process), f"tcp://w:{process}")]
    return Piece(Sampled("h", process, clock, workers), rows.encode(), said)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_pieces_become_rows_workers_and_reports(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    collector = Collector(directory, "ours")
    with MarkWriter(directory.marks) as marks:
        marks.write("0001-none-1", "run_start")
        now = time.monotonic_ns()
        collector.measured("tcp://w:10", Offset(5, now, 3))
        more = collector.take(
            {"b": piece(10, ROW.format(t=7), "theirs"), "a": piece(9, ROW.format(t=now), "ours")}
        )
        assert more
        assert collector.seen("tcp://w:10")
        marks.write("0001-none-1", "run_end")
        collector.measured("tcp://w:10", Offset(1000, now + 500, 2))
    assert not collector.take({"a": piece(9, "", "ours", report=True)})
    assert collector.lost() == ["worker-2"]
    collector.close()
    rows = read(directory.memory("inside"))
    assert [(r["run_id"], r["container"], int(r["t_mono_ns"])) for r in rows] == [
        ("0001-none-1", "worker-1", now),
        ("0001-none-1", "worker-2", now + 7),
    ]
    assert abs(int(rows[1]["t_unix_ns"]) - time.time_ns()) < 60e9
    same, other = read(directory.workers)
    assert (same["worker"], same["clock"], same["clock_offset_ns"]) == ("9", "same", "0")
    assert (other["address"], other["clock"], other["offset_error_ns"]) == (
        *("tcp://w:10", "measured", "3"),
    )
    assert int(other["clock_offset_end_ns"]) == now + 500
    fragments = directory.path / ".sampling"
    assert json.loads((fragments / "inside-worker-1.json").read_text())["grid"]["ticks"] == 1
    assert json.loads((fragments / "inside-worker-2.json").read_text())["ended"] == ["worker-2"]


def test_rows_of_another_clock_wait_until_it_is_measured(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    collector = Collector(directory, "ours")
    now = time.monotonic_ns()
    joined_late = {"b": piece(10, ROW.format(t=7), "theirs")}
    assert not collector.take(joined_late)
    assert collector.offsets == {}
    collector.measured("tcp://w:10", Offset(5, now, 3))
    assert collector.take(joined_late)
    collector.close()
    (row,) = read(directory.memory("inside"))
    assert int(row["t_mono_ns"]) == now + 7
