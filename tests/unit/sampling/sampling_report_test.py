"""What samplers say of themselves: one document from all, however many topologies."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from harness.results.directory import RunDirectory
from harness.sampling.grid import Grid
from harness.sampling.report import (
    FRAGMENTS,
    Stopwatch,
    ViewReport,
    collect_reports,
    merge_reports,
    own_rss_max_bytes,
    write_report,
)


def test_reports_become_one_document_and_their_fragments_go(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    write_report(tmp_path, ViewReport("inside", "worker-1", absent={"cg": "hidden"}))
    write_report(tmp_path, ViewReport("cgroup", "host", grid=Grid(5).report(), cpu_ns=7))
    collect_reports(directory)
    found = json.loads(directory.sampling.read_text())
    assert found["inside"]["worker-1"]["absent"] == {"cg": "hidden"}
    assert found["inside"]["worker-1"]["priority"] == "normal"
    assert found["cgroup"]["host"]["grid"]["interval_ns"] == 5
    assert found["cgroup"]["host"]["cpu_ns"] == 7
    assert not (tmp_path / FRAGMENTS).exists()


def test_a_later_topology_adds_its_samplers_and_hides_none(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    for suffix in ("", "@2", ""):
        write_report(tmp_path, ViewReport("cgroup", "host", details={"of": suffix}))
        collect_reports(directory, suffix)
    found = json.loads(directory.sampling.read_text())["cgroup"]
    assert {name: each["details"]["of"] for name, each in found.items()} == {
        "host": "",
        "host@2": "@2",
    }


def test_without_samplers_the_document_is_empty(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    collect_reports(directory)
    assert json.loads(directory.sampling.read_text()) == {}


def test_a_report_is_replaced_whole(tmp_path: Path) -> None:
    for ended in (["a"], ["b"]):
        write_report(tmp_path, ViewReport("docker", "engine", ended=ended))
    assert [path.name for path in (tmp_path / FRAGMENTS).iterdir()] == ["docker-engine.json"]
    assert merge_reports(tmp_path)["docker"]["engine"]["ended"] == ["b"]


def test_a_stopwatch_tells_the_time_since_it_was_made() -> None:
    before, cpu_before = time.monotonic_ns(), time.process_time_ns()
    watch = Stopwatch()
    while time.process_time_ns() - cpu_before < 2_000_000:
        pass
    elapsed, cpu = watch.elapsed_ns(), watch.cpu_ns()
    assert 1_000_000 < elapsed <= time.monotonic_ns() - before
    assert 1_000_000 < cpu <= time.process_time_ns() - cpu_before


def test_the_samplers_own_high_water_mark() -> None:
    held = bytearray(b"x") * (64 * 2**20)
    found = own_rss_max_bytes()
    assert found is not None
    assert len(held) < found < 2**40


def test_without_procfs_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_bytes(_: object) -> bytes:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert own_rss_max_bytes() is None
