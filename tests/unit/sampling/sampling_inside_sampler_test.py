"""The inside view's rows, on processes and a cgroup that are told."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.core import clock
from harness.results.rows import columns
from harness.results.schema import InsideRow
from harness.sampling.cgroup.paths import MemoryCgroup, Unreachable, cgroup_at
from harness.sampling.grid import Tick
from harness.sampling.inside import sampler
from harness.sampling.inside.sampler import InsideSampler, sample_until
from harness.sampling.process_memory import FullSum, ProcessSums, RssSum
from tests.fake_engine import FakeClock
from tests.unit.sampling.cgroup_dirs import v2

MS = 1_000_000


class Processes:
    """Two processes; how often new ones were looked for is counted."""

    def __init__(self) -> None:
        self.refreshed = 0

    def refresh(self) -> None:
        self.refreshed += 1

    def rss(self) -> RssSum:
        return RssSum(2, 500)

    def full(self) -> FullSum | None:
        return FullSum(300, 400)

    def own_rss(self) -> int:
        return 77


class Inside:
    """A sampler each 100 ms, in a run directory of its own."""

    def __init__(self, place: Path) -> None:
        self.run = place / "run"
        self.run.mkdir()
        self.processes = Processes()
        self.sampler = InsideSampler(
            self.run, "worker-1", 100 * MS, cast("ProcessSums", self.processes)
        )
        self.ticks = 0

    def mark(self, run_id: str, mark: str) -> None:
        with (self.run / "marks.csv").open("a") as file:
            file.write(f"{run_id},{mark},1,1\n")

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.sampler.tick(Tick(self.ticks, 5))
            self.ticks += 1

    def rows(self) -> list[dict[str, str]]:
        return read(self.run)


def read(run: Path) -> list[dict[str, str]]:
    with (run / "memory-inside.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == columns(InsideRow)
    return rows


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inside:
    found = cgroup_at(str(v2(tmp_path / "cgroup", 900)))
    monkeypatch.setattr(sampler, "own_cgroup", lambda: found)
    host = SimpleNamespace(read=lambda: SimpleNamespace(total=8000, available=6000))
    monkeypatch.setattr(sampler, "HostMemoryReader", lambda: host)
    monkeypatch.setattr(clock, "time", FakeClock())
    return Inside(tmp_path)


def test_a_row_on_every_tick_and_what_is_slow_once_a_second(inside: Inside) -> None:
    inside.tick(11)
    inside.sampler.close()
    rows = inside.rows()
    assert len(rows) == 11
    first = rows[0]
    assert (first["container"], first["late_ns"], first["run_id"]) == ("worker-1", "5", "")
    sizes = [first[name] for name in ("n_procs", "rss_sum_bytes", "sampler_rss_bytes")]
    assert sizes == ["2", "500", "77"]
    assert first["t_mono_ns"] == first["t_unix_ns"] == str(1000 * 1000 * MS)
    assert {row["cg_usage_bytes"] for row in rows} == {"900"}
    slow = [bool(row["host_total_bytes"]) for row in rows]
    assert slow == [True, *[False] * 9, True]
    assert (first["host_total_bytes"], first["host_available_bytes"]) == ("8000", "6000")
    assert inside.processes.refreshed == 2
    assert {row["uss_sum_bytes"] for row in rows} == {""}


@pytest.mark.parametrize(
    ("mark", "sizes"),
    [
        ("baseline_start", True),
        ("baseline_end", False),
        ("run_start", False),
        ("run_end", True),
        ("after_start", False),
    ],
)
def test_set_sizes_come_at_marks_outside_of_what_is_measured(
    inside: Inside, mark: str, sizes: bool
) -> None:
    inside.tick()
    inside.mark("r1", mark)
    inside.tick()
    inside.sampler.close()
    row = inside.rows()[-1]
    assert (row["uss_sum_bytes"], row["pss_sum_bytes"]) == (("300", "400") if sizes else ("", ""))
    assert row["host_total_bytes"] == ("8000" if sizes else "")
    assert inside.processes.refreshed == 1 + sizes


def test_the_row_at_the_end_of_a_run_is_still_the_runs(inside: Inside) -> None:
    inside.tick()
    inside.mark("r1", "run_start")
    inside.tick(2)
    inside.mark("r1", "run_end")
    inside.tick(2)
    inside.mark("r2", "run_start")
    inside.mark("r2", "run_end")
    inside.mark("r3", "run_start")
    inside.tick()
    inside.sampler.close()
    assert [row["run_id"] for row in inside.rows()] == ["", "r1", "r1", "r1", "", "r3"]


def test_rows_are_on_disk_at_marks_and_at_the_stop(inside: Inside) -> None:
    inside.tick(3)
    assert inside.rows() == []
    inside.mark("r1", "run_end")
    inside.tick()
    assert len(inside.rows()) == 4
    inside.tick()
    assert len(inside.rows()) == 4
    assert not inside.sampler.stopped
    inside.mark("", "stop")
    inside.tick()
    assert len(inside.rows()) == 6
    assert inside.sampler.stopped
    inside.tick()
    assert inside.sampler.stopped


def test_rows_are_on_disk_after_a_second_at_the_latest(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside.sampler._writer, "_flushed_ns", 0)
    inside.tick()
    assert len(inside.rows()) == 1


@pytest.mark.parametrize("reason", ["unreachable", "unreadable"])
def test_without_a_cgroup_its_cell_is_empty_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    found: Any = Unreachable("hidden")
    if reason == "unreadable":
        there = cgroup_at(str(v2(tmp_path / "cgroup", 900)))
        assert isinstance(there, MemoryCgroup)
        (tmp_path / "cgroup" / "memory.current").unlink()
        found = there
    monkeypatch.setattr(sampler, "own_cgroup", lambda: found)
    inside = Inside(tmp_path)
    inside.tick()
    inside.sampler.close()
    assert inside.rows()[0]["cg_usage_bytes"] == ""
    told = inside.sampler.absent["cg_usage_bytes"]
    missing = f"{tmp_path}/cgroup: No such file or directory"
    assert told == ("hidden" if reason == "unreachable" else missing)


def test_it_samples_until_it_is_told_and_then_reports(tmp_path: Path) -> None:
    processes = cast("ProcessSums", Processes())
    left = [None] * 7

    def ended() -> bool:
        return not left

    def sample(run: Path) -> int:
        sample_until(
            ended,
            sleep=lambda _: left.pop() if left else None,
            run_dir=str(run),
            container="worker-1",
            interval_s=0.001,
            processes=processes,
        )
        report = json.loads((run / ".sampling" / "inside-worker-1.json").read_text())
        assert report["grid"]["interval_ns"] == MS
        assert report["grid"]["ticks"] == len(read(run))
        assert report["cpu_ns"] <= report["elapsed_ns"] * 64
        assert report["rss_max_bytes"] > 0
        return len(read(run))

    assert sample(tmp_path) >= 1
    # The stop mark ends it as well.
    left.append(None)
    other = tmp_path / "other"
    other.mkdir()
    (other / "marks.csv").write_text(",stop,1,1\n")
    monotonic = sample(other)
    assert monotonic == 1
    with pytest.raises(ValueError, match="must be positive"):
        sample_until(
            ended, sleep=lambda _: None, run_dir=str(tmp_path), container="x", interval_s=0.0
        )
