"""The host sampler, an agent's and in this process, on directories that look like cgroups."""

from __future__ import annotations

import dataclasses
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core import clock as clock_module
from harness.core.errors import InfrastructureError
from harness.results.conversation import HostsVerdict, MarkWriter, Settled
from harness.results.directory import RunDirectory
from harness.results.rows import optional_column
from harness.results.schema import CgroupRow, LedgerRow, PeakRow
from harness.sampling.agent.relay import child_agent
from harness.sampling.cgroup import sampler as sampler_module
from harness.sampling.cgroup.config import MS, ContainerConfig
from harness.sampling.cgroup.reader import descriptors_needed
from harness.sampling.marks import MarksTail
from harness.sampling.report import merge_reports
from tests.fake_engine import FakeClock
from tests.unit.sampling import cgroup_dirs
from tests.unit.sampling.cgroup_dirs import (
    TIMEOUT_S,
    V1_STAT,
    config,
    container,
    host_sampler,
    read,
    sampling,
    v1,
    v2,
    wait_until,
)


@pytest.fixture
def marks(tmp_path: Path) -> Iterator[MarkWriter]:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    with MarkWriter(run_dir / "marks.csv", run_dir / ".marks-ack", TIMEOUT_S) as writer:
        yield writer


def test_v1_rows_peaks_and_report(tmp_path: Path, marks: MarkWriter) -> None:
    run = tmp_path / "run"
    top = v1(tmp_path / "top", 700)
    service = v1(top / "worker", 600)
    one = v1(service / "c1", 100)
    two = v1(service / "c2", 200)
    configuration = config(
        run,
        container(one, "worker-1"),
        container(two, "worker-2"),
        service_parents={"worker": str(service)},
        topology_parent=str(top),
    )
    with sampling(configuration) as watch:
        assert watch.answer.names == ["worker-1", "worker-2"]
        assert watch.answer.absent == {}
        marks.write("r1", "run_start")
        # Acknowledged means reset: the test now plays the kernel, which raises the marks again.
        for path in (top, service, one, two):
            assert (path / "memory.max_usage_in_bytes").read_text() == "0\n"
        (top / "memory.max_usage_in_bytes").write_text("990\n")
        (service / "memory.max_usage_in_bytes").write_text("880\n")
        (one / "memory.max_usage_in_bytes").write_text("170\n")
        (two / "memory.max_usage_in_bytes").write_text("270\n")
        (one / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
        (one / "memory.stat").write_text("cache 0\n" + V1_STAT.format(anon=90))
        time.sleep(0.3)
        (one / "memory.stat").write_text("cache 0\n" + V1_STAT.format(anon=60))
        marks.write("r1", "run_end")
        peaks = read(run / "peaks.csv", PeakRow)
        with MarkWriter(run / "marks.csv") as plain:
            plain.write("", "stop")
        wait_until("report", (run / ".sampling" / "cgroup-host.json").exists)
    assert [(p["scope"], p["name"], p["peak_bytes"], p["baseline_bytes"]) for p in peaks] == [
        ("container", "worker-1", "170", "100"),
        ("container", "worker-2", "270", "200"),
        ("service", "worker", "880", "600"),
        ("topology", "topology", "990", "700"),
    ]
    assert {(p["run_id"], p["peak_kind"], p["interval_ns"]) for p in peaks} == {
        ("r1", "max_usage", "0")
    }
    assert [p["sampled_anon_peak_bytes"] for p in peaks] == ["90", "50", "140", "140"]
    # v1 counts each cgroup's own kills, so the scopes add up their containers'.
    assert [p["oom_events"] for p in peaks] == ["2", "0", "2", "2"]
    rows = read(run / "memory-cgroup.csv", CgroupRow)
    of_run = [row for row in rows if row["run_id"] == "r1" and row["container"] == "worker-1"]
    assert {row["usage_bytes"] for row in of_run} == {"100"}
    assert {row["source"] for row in rows} == {"v1"}
    # The first and the last row of a run are complete and not on the grid.
    for row in (of_run[0], of_run[-1]):
        assert row["late_ns"] == ""
        assert (row["file_bytes"], row["shmem_bytes"], row["kernel_bytes"]) == ("20", "10", "7")
        assert (row["inactive_file_bytes"], row["psi_some_us"]) == ("5", "")
    assert of_run[-1]["oom_kill"] == "3"
    # Slower readings leave their cells empty in between.
    on_grid = [row for row in rows if row["late_ns"] != ""]
    assert 0 < len([row for row in on_grid if row["anon_bytes"]]) < len(on_grid)
    assert (
        0
        < len([row for row in on_grid if row["oom_kill"]])
        < len([row for row in on_grid if row["anon_bytes"]])
    )
    times = [int(row["t_mono_ns"]) for row in rows]
    assert times == sorted(times)
    report = merge_reports(run)["cgroup"]["host"]
    assert report["grid"]["ticks"] * 2 == len(on_grid)
    assert report["grid"]["interval_ns"] == 10 * MS
    assert report["priority"] in {"SCHED_FIFO 1", "normal"} or report["priority"].startswith("nice")


def test_v2_columns_and_a_reset_peak(tmp_path: Path, marks: MarkWriter) -> None:
    run = tmp_path / "run"
    one = v2(tmp_path / "c1", 100, peak=8)
    with sampling(config(run, container(one, "redis-1", "redis"))):
        marks.write("r1", "run_start")
        (one / "memory.peak").write_text("130\n")
        (one / "memory.events").write_text("low 0\noom 2\noom_kill 2\n")
        marks.write("r1", "run_end")
    peaks = read(run / "peaks.csv", PeakRow)
    assert peaks[0] == {
        "run_id": "r1",
        "scope": "container",
        "name": "redis-1",
        "peak_bytes": "130",
        "peak_kind": "memory.peak-fd",
        "baseline_bytes": "100",
        "sampled_anon_peak_bytes": "50",
        "interval_ns": "0",
        "oom_events": "1",
        "label": "kernel",
    }
    full = next(r for r in read(run / "memory-cgroup.csv", CgroupRow) if r["run_id"] == "r1")
    assert full["source"] == "v2"
    assert (full["anon_bytes"], full["file_bytes"], full["kernel_bytes"]) == ("50", "20", "7")
    assert (full["psi_some_us"], full["psi_full_us"]) == ("11", "12")


def test_the_ledger_of_every_scope_at_every_mark(tmp_path: Path, marks: MarkWriter) -> None:
    run = tmp_path / "run"
    top = v1(tmp_path / "top", 700)
    service = v1(top / "worker", 600)
    one = v1(service / "c1", 100)
    two = v1(service / "c2", 200)
    redis = v1(top / "redis", 90)
    # This process is in the first container, nobody in the second.
    (one / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (two / "cgroup.procs").write_text("")
    configuration = config(
        run,
        container(one, "worker-1"),
        container(two, "worker-2"),
        container(redis, "redis-1", "redis"),
        service_parents={"worker": str(service)},
        topology_parent=str(top),
    )
    with sampling(configuration):
        for mark in ("baseline_end", "run_end"):
            marks.write("r1", mark)
    rows = read(run / "ledger.csv", LedgerRow)
    assert [(row["mark"], row["scope"], row["name"], row["usage_bytes"]) for row in rows] == [
        (mark, *scope)
        for mark in ("baseline_end", "run_end")
        for scope in (
            ("container", "worker-1", "100"),
            ("container", "worker-2", "200"),
            ("container", "redis-1", "90"),
            ("service", "worker", "600"),
            ("service", "redis", "90"),
            ("topology", "topology", "700"),
        )
    ]
    for row in rows:
        parts = [row[f"{part}_bytes"] for part in ("anon", "shmem", "file", "kernel")]
        assert parts == ["50", "10", "20", "7"]
        assert (row["inactive_file_bytes"], row["active_file_bytes"]) == ("5", "15")
        assert row["swap_bytes"] == "3"
    of = {(row["mark"], row["name"]): row for row in rows}
    # What cannot be read everywhere is not summed up: redis-1 lists no processes.
    assert int(of["baseline_end", "worker"]["pss_bytes"]) > 5e6
    assert of["baseline_end", "worker"]["pss_bytes"] == of["baseline_end", "worker-1"]["pss_bytes"]
    assert of["baseline_end", "worker-2"]["pss_bytes"] == "0"
    assert of["baseline_end", "topology"]["pss_bytes"] == ""
    assert {row["uss_bytes"] for row in rows if row["mark"] == "run_end"} == {""}
    assert of["run_end", "worker"]["oom_kill"] == "2"


def test_the_baseline_is_judged_and_told(tmp_path: Path, marks: MarkWriter) -> None:
    run = tmp_path / "run"
    one = v1(tmp_path / "c1", 100)
    verdict = HostsVerdict(run / ".settled", TIMEOUT_S)
    patience = {"baseline_window_ns": 50 * MS, "baseline_timeout_ns": TIMEOUT_S * 1000 * MS}
    with sampling(config(run, container(one, "worker-1"), **patience)):
        marks.write("r1", "baseline_start")
        assert verdict("r1") == Settled("settled", 0)


class Baseline:
    """A sampler of two containers in this process, and its clock: a tick takes 20 ms."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = FakeClock()
        monkeypatch.setattr(sampler_module, "time", self.clock)
        monkeypatch.setattr(clock_module, "time", self.clock)
        self.run = place / "run"
        self.one, self.two = v1(place / "c1", 100), v1(place / "c2", 100)
        self.sampler = host_sampler(
            config(
                self.run,
                container(self.one, "worker-1"),
                container(self.two, "worker-2"),
                baseline_window_ns=100 * MS,
                baseline_bound_bytes=5,
                baseline_timeout_ns=1000 * MS,
            )
        )
        self.ticks = 0

    def starts(self, run_id: str) -> None:
        with (self.run / "marks.csv").open("a") as file:
            file.write(f"{run_id},baseline_start,1,1\n")
        self.sampler.handle_marks()

    def takes(self, *usages: int) -> str:
        """Let the first container use so much on each of the next ticks; return what is told."""
        for usage in usages:
            (self.one / "memory.usage_in_bytes").write_text(f"{usage}\n")
            self.sampler.tick(self.ticks, 0)
            self.ticks += 1
            self.clock.sleep(0.02)
        told = self.run / ".settled"
        return told.read_text() if told.exists() else ""


@pytest.fixture
def baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Baseline:
    return Baseline(tmp_path, monkeypatch)


def test_memory_that_is_flat_for_a_whole_window_has_settled(baseline: Baseline) -> None:
    baseline.starts("r1")
    assert baseline.takes(100, 103, 101, 105, 100) == ""
    assert baseline.takes(100) == "r1,settled,5\n"
    # It is told once, and nobody judges until the next baseline.
    assert baseline.takes(*[100] * 20) == "r1,settled,5\n"


def test_memory_that_grows_has_not_settled_when_the_time_is_up(baseline: Baseline) -> None:
    baseline.starts("r1")
    grown = [100 + 6 * tick for tick in range(51)]
    assert baseline.takes(*grown[:50]) == ""
    assert baseline.takes(grown[50]) == "r1,timed out,30\n"


def test_all_containers_together_must_be_flat(baseline: Baseline) -> None:
    baseline.starts("r1")
    for tick in range(50):
        # What one gives back the other takes.
        (baseline.two / "memory.usage_in_bytes").write_text(f"{900 - 10 * tick}\n")
        if baseline.takes(100 + 10 * tick):
            break
    assert baseline.takes() == "r1,settled,0\n"


def test_every_run_has_a_baseline_of_its_own(baseline: Baseline) -> None:
    baseline.starts("r1")
    baseline.takes(*[100] * 6)
    baseline.starts("r2")
    # The window begins anew: what was flat before the mark counts for nothing.
    assert baseline.takes(*[100] * 5) == "r1,settled,0\n"
    assert baseline.takes(100) == "r1,settled,0\nr2,settled,0\n"


def test_without_containers_no_baseline_is_watched(tmp_path: Path) -> None:
    run = tmp_path / "run"
    sampler = host_sampler(config(run, container(tmp_path / "none", "worker-1")))
    (run / "marks.csv").write_text("r1,baseline_start,1,1\n")
    sampler.handle_marks()
    assert (run / ".settled").read_text() == "r1,not watched,\n"


class Ticking:
    """A sampler in this process, on a fake clock: usage each 10 ms, parts 20, pressure 40."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
        self.clock = FakeClock()
        monkeypatch.setattr(sampler_module, "time", self.clock)
        monkeypatch.setattr(clock_module, "time", self.clock)
        self.run = place / "run"
        named = [container(path, f"worker-{n}") for n, path in enumerate(paths, 1)]
        self.sampler = host_sampler(config(self.run, *named))

    def mark(self, run_id: str, mark: str) -> None:
        with (self.run / "marks.csv").open("a") as file:
            file.write(f"{run_id},{mark},1,1\n")
        self.sampler.handle_marks()

    def tick(self, *indices: int) -> None:
        for index in indices:
            self.clock.sleep(0.01)
            self.sampler.tick(index, 100 + index)

    def rows(self) -> list[dict[str, str]]:
        self.sampler.close()
        return read(self.run / "memory-cgroup.csv", CgroupRow)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_every_tick_has_what_is_due_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    one = v1(tmp_path / "c", 100) if version == "v1" else v2(tmp_path / "c", 100)
    ticking = Ticking(tmp_path, monkeypatch, one)
    ticking.tick(0, 1, 2, 3, 4)
    rows = ticking.rows()
    assert [row["late_ns"] for row in rows] == ["100", "101", "102", "103", "104"]
    assert {row["usage_bytes"] for row in rows} == {"100"}
    assert {row["source"] for row in rows} == {version}
    assert {row["run_id"] for row in rows} == {""}
    for part in ("anon_bytes", "file_bytes", "shmem_bytes", "kernel_bytes", "inactive_file_bytes"):
        assert [bool(row[part]) for row in rows] == [True, False, True, False, True]
    for part in ("active_file_bytes", "swap_bytes"):  # of these two, v1's files tell here
        told = [version == "v1" and tick % 2 == 0 for tick in range(5)]
        assert [bool(row[part]) for row in rows] == told
    assert [row["oom_kill"] for row in rows] == ["1", "", "", "", "1"]
    some = "11" if version == "v2" else ""
    assert [row["psi_some_us"] for row in rows] == [some, "", "", "", some]
    assert rows[0]["psi_full_us"] == ("12" if version == "v2" else "")
    mono = [int(row["t_mono_ns"]) for row in rows]
    assert mono == [round((1000.01 + 0.01 * n) * 1e9) for n in range(5)]
    assert [int(row["t_unix_ns"]) for row in rows] == mono


def test_a_run_is_framed_by_whole_rows_that_are_on_no_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = v1(tmp_path / "c", 100)
    ticking = Ticking(tmp_path, monkeypatch, one)
    ticking.tick(0)
    ticking.mark("r1", "run_start")
    ticking.tick(1)
    (one / "memory.usage_in_bytes").write_text("250\n")
    ticking.mark("r1", "run_end")
    ticking.tick(2)
    rows = ticking.rows()
    assert [(row["run_id"], row["late_ns"], row["usage_bytes"]) for row in rows] == [
        ("", "100", "100"),
        ("r1", "", "100"),
        ("r1", "101", "100"),
        ("r1", "", "250"),
        ("", "102", "250"),
    ]
    assert [bool(row["anon_bytes"]) for row in rows] == [True, True, False, True, True]
    assert [bool(row["oom_kill"]) for row in rows] == [True, True, False, True, False]
    # Every mark is acknowledged once it has been dealt with.
    assert (ticking.run / ".marks-ack").read_bytes() == b".."


def test_a_start_ends_the_run_before_it_and_closing_ends_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticking = Ticking(tmp_path, monkeypatch, v1(tmp_path / "c", 100))
    ticking.mark("r1", "run_start")
    ticking.mark("r2", "run_start")
    ticking.tick(0)
    ticking.sampler.close()
    peaks = read(ticking.run / "peaks.csv", PeakRow)
    assert list(dict.fromkeys(row["run_id"] for row in peaks)) == ["r1", "r2"]
    assert not ticking.sampler.stopped


def test_a_stop_mark_ends_the_last_run_and_has_no_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticking = Ticking(tmp_path, monkeypatch, v1(tmp_path / "c", 100))
    ticking.mark("r1", "run_start")
    ticking.mark("", "stop")
    assert ticking.sampler.stopped
    assert {row["run_id"] for row in read(ticking.run / "peaks.csv", PeakRow)} == {"r1"}
    ledger = read(ticking.run / "ledger.csv", LedgerRow)
    assert list(dict.fromkeys(row["mark"] for row in ledger)) == ["run_start"]


def test_a_container_that_ended_before_a_run_has_no_part_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = v1(tmp_path / "c1", 100), v1(tmp_path / "c2", 200)
    ticking = Ticking(tmp_path, monkeypatch, one, two)
    real = os.pread

    def pread(fd: int, size: int, offset: int) -> bytes:
        if str(one) in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(19, "No such device")
        return real(fd, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    ticking.tick(0, 1)
    ticking.mark("r1", "run_start")
    ticking.mark("r1", "run_end")
    assert {row["container"] for row in ticking.rows()} == {"worker-2"}
    peaks = read(ticking.run / "peaks.csv", PeakRow)
    assert [(row["scope"], row["name"]) for row in peaks] == [
        ("container", "worker-2"),
        ("service", "worker"),
        ("topology", "topology"),
    ]
    # It is told once that it has ended, however often it is looked at.
    assert ticking.sampler.ended == ["worker-1"]


def test_marks_that_a_container_makes_up_are_no_rows(tmp_path: Path, marks: MarkWriter) -> None:
    run = tmp_path / "run"
    one = v1(tmp_path / "c1", 100)
    with sampling(config(run, container(one, "worker-1"))):
        with (run / "marks.csv").open("a") as file:
            file.write("../x,run_start,1,1\nr0 ssh-rsa AAAA,run_start,1,1\nr0,chosen,1,1\n")
        marks.write("r1", "run_start")
        marks.write("r1", "run_end")
    assert {row["run_id"] for row in read(run / "peaks.csv", PeakRow)} == {"r1"}


def test_more_marks_than_the_runs_can_make_end_the_sampling(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    one = v1(tmp_path / "c1", 100)
    directory = RunDirectory(run)
    with child_agent() as relay:
        with relay.watch(
            config(run, container(one, "worker-1"), marks_limit=10), directory
        ) as watch:
            assert watch.poll() is None
            (run / "marks.csv").write_text("r1,run_start,1,1\n" * 1000)
            wait_until("the end of the sampling", lambda: watch.poll() is not None)
            assert watch.poll() == f"{run}/marks.csv: has more marks than the runs can make"
            # None of those that are too many was confirmed.
            assert len((run / ".marks-ack").read_bytes()) <= 10
        # The agent goes on, for the next topology.
        assert relay.gone == ""
        (run / "marks.csv").write_text("")
        with relay.watch(config(run, container(one, "worker-1")), directory) as watch:
            assert (watch.answer.names, watch.poll()) == (["worker-1"], None)


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_what_lies_in_place_of_the_marks_is_not_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "marks.csv"
    if kind == "link":
        (tmp_path / "elsewhere").write_text("r1,run_start,1,1\n")
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(OSError, match="not a plain file"):
        MarksTail(str(path)).poll()


def test_without_a_high_water_mark_the_peak_is_sampled(tmp_path: Path, marks: MarkWriter) -> None:
    run = tmp_path / "run"
    one = v2(tmp_path / "c1", 100)
    two = v2(tmp_path / "c2", 10)
    configuration = config(run, container(one, "worker-1"), container(two, "worker-2"))
    with sampling(configuration) as watch:
        assert "container peak of worker-1" in watch.answer.absent
        marks.write("r1", "run_start")
        (one / "memory.current").write_text("900\n")
        time.sleep(0.2)
        (one / "memory.current").write_text("100\n")
        (two / "memory.current").write_text("300\n")
        time.sleep(0.2)
        marks.write("r1", "run_end")
    peaks = read(run / "peaks.csv", PeakRow)
    assert {(p["peak_kind"], p["interval_ns"]) for p in peaks} == {("sampled", str(10 * MS))}
    # The sum's peak is the simultaneous one, not the sum of the peaks.
    assert [p["peak_bytes"] for p in peaks] == ["900", "300", "910", "910"]
    assert [p["baseline_bytes"] for p in peaks] == ["100", "10", "110", "110"]


def test_what_cannot_be_reached_is_named_and_leaves_no_file(
    tmp_path: Path, marks: MarkWriter
) -> None:
    run = tmp_path / "run"
    configuration = config(
        run,
        ContainerConfig("worker-1", "worker", pid=2**22 + 1),
        ContainerConfig("worker-2", "worker", pid=os.getpid(), id="0" * 64),
        service_parents={"worker": str(tmp_path / "missing")},
    )
    with sampling(configuration) as watch:
        marks.write("r1", "run_start")
        marks.write("r1", "run_end")
        assert watch.answer.names == []
        absent = watch.answer.absent
        assert absent["worker-1"] == (
            f"no process {2**22 + 1} here, and no cgroup has the container's name"
        )
        assert absent["worker-2"] == (
            f"process {os.getpid()} here is not the container's, and no cgroup has its name"
        )
        assert "not a readable memory cgroup" in absent[str(tmp_path / "missing")]
    assert not (run / "memory-cgroup.csv").exists()
    assert not (run / "peaks.csv").exists()


def test_a_parent_that_does_not_hold_its_containers_is_not_used(
    tmp_path: Path, marks: MarkWriter
) -> None:
    run = tmp_path / "run"
    one = v1(tmp_path / "elsewhere", 100)
    parent = v1(tmp_path / "parent", 0)
    configuration = config(run, container(one, "worker-1"), service_parents={"worker": str(parent)})
    with sampling(configuration) as watch:
        assert watch.answer.absent[str(parent)] == f"worker-1 is in {one}"
        marks.write("r1", "run_start")
        marks.write("r1", "run_end")
    kinds = {p["scope"]: p["peak_kind"] for p in read(run / "peaks.csv", PeakRow)}
    assert kinds == {"container": "max_usage", "service": "sampled", "topology": "sampled"}


def test_a_run_cut_short_keeps_its_peaks(tmp_path: Path, marks: MarkWriter) -> None:
    run = tmp_path / "run"
    one = v1(tmp_path / "c1", 100)
    with sampling(config(run, container(one, "worker-1"))):
        marks.write("r1", "run_start")
        marks.write("r2", "run_start")  # the runner died in r1 and went on with r2
        # No end of r2 either: leaving ends the sampler.
    peaks = read(run / "peaks.csv", PeakRow)
    assert list(dict.fromkeys(p["run_id"] for p in peaks)) == ["r1", "r2"]


def test_marks_written_before_it_started_are_handled(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "marks.csv").write_text("run_id,mark,t_mono_ns,t_unix_ns\nr1,run_start,1,2\n")
    one = v1(tmp_path / "c1", 100)
    with sampling(config(run, container(one, "worker-1"))):
        ack = run / ".marks-ack"
        wait_until("acknowledgement", lambda: ack.exists() and ack.stat().st_size == 1)


def test_a_column_that_is_added_to_the_schema_loses_no_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = [(field.name, field.type, field) for field in dataclasses.fields(CgroupRow)]
    added = ("added_bytes", "int | None", optional_column("another figure"))
    wider = dataclasses.make_dataclass("CgroupRow", [*fields, added], frozen=True)
    for module in (sampler_module, cgroup_dirs):
        monkeypatch.setattr(module, "CgroupRow", wider)
    run = tmp_path / "run"
    sampler = host_sampler(config(run, container(v2(tmp_path / "c", usage=100), "worker-1")))
    for index in range(20):
        sampler.tick(index, 0)
    sampler.close()
    lines = (run / "memory-cgroup.csv").read_text().splitlines()
    assert len(lines) == 21
    assert {line.count(",") for line in lines} == {len(fields)}
    assert {row["usage_bytes"] for row in read(run / "memory-cgroup.csv", wider)} == {"100"}


def test_a_hundred_containers_fit_in_1024_descriptors(tmp_path: Path) -> None:
    names = [f"worker-{number}" for number in range(100)]
    # The most there can be: each is a service with a parent of its own.
    members, parents = [], {}
    for name in names:
        parents[name] = str(v2(tmp_path / "top" / name, usage=900, peak=9))
        inner = v2(tmp_path / "top" / name / "c", usage=500, peak=8)
        (inner / "memory.swap.current").write_text("0\n")
        members.append(container(inner, name, service=name))
    top = str(v2(tmp_path / "top", usage=90_000, peak=9))
    before = len(list(Path("/proc/self/fd").iterdir()))
    sampler = host_sampler(
        config(tmp_path / "run", *members, service_parents=parents, topology_parent=top)
    )
    used = len(list(Path("/proc/self/fd").iterdir())) - before
    assert (len(sampler.names), sampler.absent) == (100, {})
    assert used <= descriptors_needed(100, 101) <= 1024
    sampler.close()


def test_running_out_of_descriptors_is_one_line_and_no_sampler_that_reads_half(
    tmp_path: Path,
) -> None:
    members = [container(v2(tmp_path / str(n), usage=1), f"worker-{n}") for n in range(30)]
    run = tmp_path / "run"
    configuration = config(run, *members)
    with child_agent() as relay:
        resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (64, 64))
        with (
            pytest.raises(InfrastructureError, match=r"did not start: .*ulimit -Hn") as raised,
            relay.watch(configuration, RunDirectory(run)),
        ):
            pytest.fail("half of them are read")
        assert len(str(raised.value).splitlines()) == 1
        assert f"needs {descriptors_needed(30, 1)} descriptors" in str(raised.value)
        assert relay.gone == ""
    assert not (run / "memory-cgroup.csv").exists()
    assert merge_reports(run) == {}
