"""What containers wrote, taken in: rows of the bench, and nothing else whatever lies there."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import socket
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.results.directory import RunDirectory
from harness.results.documents import clean
from harness.results.intake import Intake, Known, accept
from harness.results.repair import finished_runs, take_if_left
from harness.results.rows import (
    ObjectsRow,
    OutcomeRow,
    ResultRow,
    RowWriter,
    columns,
    csv_line,
    read_rows,
)
from harness.results.schema import CompletionRow, InsideRow, MarkRow, TaskRow
from harness.results.shared import NotPlainError, SharedFolder, open_plain

KNOWN = Known(frozenset({"0001-none-1", "0002-none-2"}), {"none"}, {"worker-1"})
SAMPLE = InsideRow("0001-none-1", "worker-1", 10, 20, 0, 2, 100, None, None, 5, 120, None, None)


def result(start_s: float) -> ResultRow:
    return ResultRow("DaskExecutor", "None", "none", "1", "1-1", 1, 0.1, start_s, start_s + 1, 1.0)


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    (tmp_path / "run").mkdir()
    return RunDirectory(tmp_path / "run")


def intake_of(directory: RunDirectory, name: str = "topology-1") -> Intake:
    shared = SharedFolder(directory.shared / name)
    shared.create()
    (directory.replies / name).mkdir(parents=True)
    found = Intake(shared, directory, KNOWN)
    found.keep_known()
    return found


def write_run(folder: Path, run_id: str, start_s: float, outcome: str | None = "ok") -> None:
    """Write a run's rows as the runner does."""
    inside = RunDirectory(folder)
    with RowWriter(inside.marks, MarkRow) as marks, RowWriter(inside.results, ResultRow) as results:
        start_ns = round(start_s * 1e9)
        marks.write(MarkRow(run_id, "run_start", start_ns, start_ns))
        marks.write(MarkRow(run_id, "run_end", start_ns + 10**9, start_ns + 10**9))
        if outcome:
            results.write(result(start_s))
    with RowWriter(inside.objects, ObjectsRow) as objects:
        objects.write(ObjectsRow(run_id, "none", 0, 0, 0, 0, 0, 0))
    with RowWriter(inside.outcomes, OutcomeRow) as outcomes:
        if outcome:
            outcomes.write(OutcomeRow(run_id, "none", 1, outcome, ""))


def test_what_the_storage_held_at_completions_is_taken_in(directory: RunDirectory) -> None:
    intake = intake_of(directory)
    row = CompletionRow("0001-none-1", 0, 1, 2, 5, 3, 300, 2, 200, 4, 400)
    with RowWriter(RunDirectory(intake.shared.path).completions, CompletionRow) as rows:
        rows.write(row)
        rows.write(dataclasses.replace(row, run_id="somebody-elses"))
    intake.take()
    assert read_rows(directory.completions, CompletionRow) == [row]


def test_rows_are_taken_in_as_they_come_and_once(directory: RunDirectory) -> None:
    intake = intake_of(directory)
    write_run(intake.shared.path, "0001-none-1", 100.0)
    intake.take()
    intake.take()
    assert [row.run_id for row in read_rows(directory.outcomes, OutcomeRow)] == ["0001-none-1"]
    write_run(intake.shared.path, "0002-none-2", 200.0)
    intake.end_of_runs()
    intake.end("1")
    assert [r.workflow_start_timestamp for r in read_rows(directory.results, ResultRow)] == [
        100,
        200,
    ]
    assert len(read_rows(directory.marks, MarkRow)) == 4
    assert intake.warnings() == []


def test_after_the_end_of_the_runs_only_the_host_says_how_they_ended(
    directory: RunDirectory,
) -> None:
    intake = intake_of(directory)
    write_run(intake.shared.path, "0001-none-1", 100.0)
    intake.end_of_runs()
    write_run(intake.shared.path, "0002-none-2", 200.0)
    intake.end("1")
    assert [row.run_id for row in read_rows(directory.outcomes, OutcomeRow)] == ["0001-none-1"]


def test_a_line_that_is_not_whole_waits_for_its_end(directory: RunDirectory) -> None:
    intake = intake_of(directory)
    line = csv_line(list(astuple(MarkRow("0001-none-1", "run_start", 1, 2)))).strip()
    path = intake.shared.path / "marks.csv"
    path.write_text("run_id,mark,t_mono_ns,t_unix_ns\n" + line[:9])
    intake.take()
    assert not directory.marks.exists()
    with path.open("a") as file:
        file.write(line[9:] + "\n")
    intake.take()
    assert read_rows(directory.marks, MarkRow) == [MarkRow("0001-none-1", "run_start", 1, 2)]


@pytest.mark.parametrize(
    "cells",
    [
        {"run_id": "9999-none-1"},
        {"run_id": "../../etc/x"},
        {"container": "worker-2"},
        {"container": "worker-1\x1b[31m"},
        {"rss_sum_bytes": "nan"},
        {"rss_sum_bytes": "1e3"},
        {"rss_sum_bytes": "9" * 30},
        {"rss_sum_bytes": ""},
        {"t_mono_ns": "1_000"},
        {"t_mono_ns": " 1"},
        {"host_total_bytes": "x"},
    ],
)
def test_a_row_that_is_not_of_this_bench_is_refused(cells: dict[str, str]) -> None:
    values = {n: "" if v is None else str(v) for n, v in vars_of(SAMPLE).items()}
    assert accept(",".join(values.values()), InsideRow, KNOWN) is not None
    assert accept(",".join((values | cells).values()), InsideRow, KNOWN) is None


def vars_of(row: InsideRow) -> dict[str, object]:
    return dict(zip(columns(InsideRow), astuple(row), strict=True))


def test_rows_of_every_type_pass_as_they_are_written() -> None:
    task = TaskRow("0001-none-1", 0, 0, 0, 'host:"1"', 1, None, 2, 3, 4, None, 5, "worker-1")
    for row in (
        task,
        result(1.5e9 + 0.123456),
        OutcomeRow("0001-none-1", "none", 1, "failed", 'it said "a, b"', "worker-1"),
        MarkRow("warm-up-1-of-0001-none-1", "run_start", 1, 2),
    ):
        line = csv_line(list(astuple(row)))
        assert accept(line.rstrip("\r\n"), type(row), KNOWN) is not None


def test_text_is_made_safe_on_its_way_in() -> None:
    line = '0001-none-1,none,1,failed,"\x1b[31mred\u202e",'
    assert accept(line, OutcomeRow, KNOWN) == "0001-none-1,none,1,failed, [31mred ,\r\n"


@given(st.text())
def test_any_line_is_a_row_or_refused(line: str) -> None:
    for row_type in (InsideRow, OutcomeRow, ResultRow, MarkRow, TaskRow):
        found = accept(line, row_type, KNOWN)
        assert found is None or found.count("\n") == 1


def lay(kind: str, path: Path, elsewhere: Path) -> None:
    """Put something in a file's place."""
    if kind == "link":
        path.symlink_to(elsewhere)
    elif kind == "dangling link":
        path.symlink_to(elsewhere.parent / "none")
    elif kind == "hard link":
        path.hardlink_to(elsewhere)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        place = os.open(path.parent, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{place}/{path.name}")
        os.close(place)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


KINDS = ["link", "dangling link", "hard link", "fifo", "socket", "device", "directory"]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_a_plain_file_is_opened(kind: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("secret\n")
    lay(kind, tmp_path / "marks.csv", elsewhere)
    with pytest.raises(NotPlainError):
        open_plain(tmp_path / "marks.csv")
    shared = SharedFolder(tmp_path)
    assert shared.read("marks.csv", 100) is None
    assert shared.read_end("marks.csv", 100) == b""
    assert shared.size("marks.csv") == 0
    with pytest.raises(NotPlainError):
        shared.append("marks.csv", b"x\n")
    assert elsewhere.read_text() == "secret\n"


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_lies_in_place_of_every_file_nothing_of_it_is_taken_in(
    kind: str, directory: RunDirectory, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("a,b\nsecret,1\n")
    intake = intake_of(directory)
    names = [path.name for path in intake.targets()]
    names += ["log.txt", "manifest.json", "memory-inside.csv", "results-memory.csv", ".ending"]
    for name in names:
        lay(kind, intake.shared.path / name, elsewhere)
    (intake.shared.path / ".sampling").symlink_to(tmp_path)
    intake.take()
    intake.end_of_runs()
    intake.end("1")
    intake.remove()
    assert elsewhere.read_text() == "a,b\nsecret,1\n"
    assert not directory.shared.exists()
    assert "secret" not in "".join(p.read_text() for p in directory.path.iterdir() if p.is_file())


def test_a_file_without_lines_is_not_read_to_its_end(directory: RunDirectory) -> None:
    intake = intake_of(directory)
    with (intake.shared.path / "memory-inside.csv").open("wb") as file:
        file.truncate(1 << 40)
    with (intake.shared.path / "marks.csv").open("wb") as file:
        file.truncate(1 << 30)
    intake.end_of_runs()
    intake.end("1")
    assert set(intake.refused) == {"memory-inside.csv", "marks.csv"}
    assert not directory.marks.exists()


def test_a_file_that_is_replaced_is_not_read_from_the_middle(directory: RunDirectory) -> None:
    intake = intake_of(directory)
    write_run(intake.shared.path, "0001-none-1", 100.0)
    intake.take()
    (intake.shared.path / "outcomes.csv").write_text("x\n")
    intake.take()
    assert len(read_rows(directory.outcomes, OutcomeRow)) == 1
    assert "left out" in intake.warnings()[0]


def test_json_is_taken_in_clean(directory: RunDirectory) -> None:
    intake = intake_of(directory)
    deep: object = "x"
    for _ in range(100):
        deep = [deep]
    said = {"notes": ["\x1b[31m", float("nan")], "runner": {"deep": deep, "n": 10**30}, "plan": {}}
    (intake.shared.path / "manifest.json").write_text(json.dumps(said))
    intake.end("1")
    found = json.loads(directory.manifest.read_text())
    assert found["notes"] == [" [31m", None]
    assert found["runner"]["n"] is None
    assert "plan" not in found
    assert clean(deep, 3) == [[[None]]]


def test_rows_that_a_killed_bench_left_are_taken_in_when_it_goes_on(
    directory: RunDirectory,
) -> None:
    intake = intake_of(directory)
    write_run(intake.shared.path, "0001-none-1", 100.0)
    intake.take()  # and then the host was killed; its runner went on
    write_run(intake.shared.path, "0002-none-2", 200.0)
    with (intake.shared.path / "memory-inside.csv").open("w") as file:
        file.write(",".join(columns(InsideRow)) + "\n" + csv_line(list(astuple(SAMPLE))))
    assert finished_runs(directory) == {"0001-none-1", "0002-none-2"}
    assert finished_runs(directory) == {"0001-none-1", "0002-none-2"}
    assert [r.workflow_start_timestamp for r in read_rows(directory.results, ResultRow)] == [
        100,
        200,
    ]
    assert [r.run_id for r in read_rows(directory.objects, ObjectsRow)] == [
        "0001-none-1",
        "0002-none-2",
    ]
    assert read_rows(directory.memory("inside"), InsideRow) == [SAMPLE]
    assert not directory.shared.exists()
    assert not directory.replies.exists()


def test_a_run_that_was_taken_in_by_half_is_taken_in_whole(directory: RunDirectory) -> None:
    intake = intake_of(directory)
    write_run(intake.shared.path, "0001-none-1", 100.0, outcome=None)
    intake.take()  # killed here, with marks and objects of a run that has no outcome yet
    with RowWriter(intake.shared.path / "results.csv", ResultRow) as results:
        results.write(result(100.0))
    with RowWriter(intake.shared.path / "outcomes.csv", OutcomeRow) as outcomes:
        outcomes.write(OutcomeRow("0001-none-1", "none", 1, "ok", ""))
    assert finished_runs(directory) == {"0001-none-1"}
    assert len(read_rows(directory.marks, MarkRow)) == 2
    assert len(read_rows(directory.results, ResultRow)) == 1


def test_a_huge_file_of_outcomes_is_not_read_whole_when_a_bench_goes_on(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = intake_of(directory)
    write_run(intake.shared.path, "0001-none-1", 100.0)
    intake.take()
    with (intake.shared.path / "outcomes.csv").open("ab") as file:
        file.truncate(8 << 30)
    read: list[int] = []
    whole = SharedFolder.read

    def counted(shared: SharedFolder, name: str, most_bytes: int) -> bytes | None:
        read.append(most_bytes)
        return whole(shared, name, min(most_bytes, 1 << 20))

    monkeypatch.setattr(SharedFolder, "read", counted)
    assert finished_runs(directory) == {"0001-none-1"}
    assert max(read, default=0) <= 64 << 20
    assert len(read_rows(directory.results, ResultRow)) == 1


def test_an_outcome_that_comes_while_other_files_are_read_waits_for_its_rows(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = intake_of(directory)
    write_run(intake.shared.path, "0001-none-1", 100.0)
    take = intake._take

    def runner_goes_on(source: Any) -> None:
        take(source)
        if source.name == "objects.csv" and not directory.outcomes.exists():
            write_run(intake.shared.path, "0002-none-2", 200.0)

    monkeypatch.setattr(intake, "_take", runner_goes_on)
    intake.take()
    assert [row.run_id for row in read_rows(directory.outcomes, OutcomeRow)] == ["0001-none-1"]
    intake.take()
    assert len(read_rows(directory.outcomes, OutcomeRow)) == 2
    assert len(read_rows(directory.objects, ObjectsRow)) == 2


def left_by_a_killed_bench(directory: RunDirectory) -> RunDirectory:
    inside = dataclasses.replace(directory, csv_name="mine.csv", log_name="mine.log")
    intake = intake_of(inside)
    write_run(intake.shared.path, "0001-none-1", 100.0)
    (intake.shared.path / "results.csv").rename(intake.shared.path / "mine.csv")
    return inside


def test_a_reader_finds_what_a_killed_bench_left(directory: RunDirectory) -> None:
    inside = left_by_a_killed_bench(directory)
    assert take_if_left(directory.path) == []
    assert [row.run_id for row in read_rows(inside.outcomes, OutcomeRow)] == ["0001-none-1"]
    assert len(read_rows(inside.results, ResultRow)) == 1
    assert not directory.shared.exists()


def test_a_reader_leaves_the_rows_of_a_bench_that_runs(directory: RunDirectory) -> None:
    inside = left_by_a_killed_bench(directory)
    descriptor = os.open(directory.path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    (line,) = take_if_left(directory.path)
    os.close(descriptor)
    assert "a bench writes there" in line
    assert not inside.outcomes.exists()
    assert directory.shared.exists()


def test_names_that_lead_out_of_the_directory_are_not_written_to(
    directory: RunDirectory, tmp_path: Path
) -> None:
    intake = intake_of(directory)
    write_run(intake.shared.path, "0001-none-1", 100.0)
    known = directory.replies / "topology-1" / "known.json"
    known.write_text(json.dumps(json.loads(known.read_text()) | {"csv_name": "../x.csv"}))
    take_if_left(directory.path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
