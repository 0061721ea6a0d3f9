"""Directories as other people's programs, editors and clocks leave them: what is right for each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.figures import session_figures
from harness.analysis.listing import entries
from harness.analysis.quality import write_quality
from harness.analysis.readers import read_session
from harness.analysis.session import Session
from harness.core.errors import HarnessError
from harness.results.directory import RunDirectory
from harness.results.rows import ResultRow, columns
from harness.results.schema import HostRow
from tests.rundirs import write_run_directory

START_S = 1_700_000_000.0
RUN_S = 5.0
BASELINE, PEAK, TOTAL = 5_000_000_000, 1_600_000_000, 32_000_000_000


def result(start_s: float, mode: str = "default-proxy", end_s: float | None = None) -> str:
    end_s = start_s + RUN_S if end_s is None else end_s
    return (
        f"DaskExecutor,RedisConnector,{mode},4-1,1000-1000-1000,1,1.0,{start_s},{end_s},"
        f"{end_s - start_s}\n"
    )


STARTS = tuple(START_S + 1.005 + 6 * number for number in range(3))
RESULTS = ",".join(columns(ResultRow)) + "\n" + "".join(map(result, STARTS))
MEMORY_HEADER = ",".join(columns(HostRow)) + "\n"


def memory(shift_s: float = 0.0, seconds: float = 20.0) -> str:
    """Return samples of a host: in each run, its use goes up to the peak and falls again."""
    rows = []
    for tick in range(round(seconds * 10)):
        t_s = START_S + tick / 10
        within = [(t_s - start) / RUN_S for start in STARTS if start <= t_s <= start + RUN_S]
        used = BASELINE + (round(PEAK * (1 - abs(2 * within[0] - 1))) if within else 0)
        free = TOTAL - used
        rows.append(f"{t_s + shift_s:.1f},{TOTAL},{free},{used},{free}\n")
    return MEMORY_HEADER + "".join(rows)


def write(path: Path, results: str | bytes, samples: str | bytes) -> Path:
    path.mkdir()
    for name, text in (("results.csv", results), ("results-memory.csv", samples)):
        (path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def net_peaks(session: Session) -> list[int | None]:
    """Return each run's net peak in whole 100 MB."""
    return [
        round(f.topology.net_peak_bytes / 1e8) if f.topology else None
        for f in session_figures(session)
    ]


WAYS: dict[str, Callable[[str], str | bytes]] = {
    "as written": str,
    "byte order mark": lambda text: "\ufeff" + text,
    "line ends of another system": lambda text: text.replace("\n", "\r\n"),
    "no final line end": lambda text: text.rstrip("\n"),
    "spaces after commas": lambda text: text.replace(",", ", "),
    "everything in quotes": lambda text: "".join(
        ",".join(f'"{cell}"' for cell in line.split(",")) + "\n" for line in text.splitlines()
    ),
    "empty lines": lambda text: text.replace("\n", "\n\n"),
    "a column more": lambda text: text.replace("\n", ",x\n"),
    "a comma more": lambda text: text.replace("\n", ",\n").replace(",\n", "\n", 1),
    "whole numbers with a fraction": lambda text: "".join(
        line if number == 0 else line.replace(f",{TOTAL},", f",{TOTAL}.0,")
        for number, line in enumerate(text.splitlines(keepends=True))
    ),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_how_a_file_is_written_changes_nothing(
    tmp_path: Path, way: Callable[[str], str | bytes]
) -> None:
    path = write(tmp_path / "run", way(RESULTS), way(memory()))
    session = read_session(path)
    assert session.problems == ()
    assert [run.makespan_s for run in session.runs] == [RUN_S] * 3
    assert net_peaks(session) == [16, 16, 16]
    (entry,) = entries(tmp_path)
    assert (entry.executor, entry.runs, entry.outcome) == ("dask", 3, "3 ok")


def test_other_columns_in_another_order_are_read(tmp_path: Path) -> None:
    def turned(text: str) -> str:
        return "".join(
            ",".join(["x", *reversed(line.split(","))]) + "\n" for line in text.splitlines()
        )

    session = read_session(write(tmp_path / "run", turned(RESULTS), turned(memory())))
    assert session.problems == ()
    assert net_peaks(session) == [16, 16, 16]


def test_two_sessions_in_one_file_are_two_sessions(tmp_path: Path) -> None:
    """The second was run later, on a fuller host, by a version with a column less."""
    header = ",".join(name for name in columns(ResultRow) if name != "stage_repeat") + "\n"
    rows = "".join(result(start + 1000) for start in STARTS).replace(",1,1.0,", ",1.0,")
    more = (
        memory(1000.0).replace("27000000000", "26000000000").replace("5000000000,", "6000000000,")
    )
    path = write(tmp_path / "run", RESULTS + header + rows, memory() + more)
    session = read_session(path)
    assert session.problems == ()
    assert len(session.runs) == 6
    last_of_first = session_figures(session)[2]
    assert last_of_first.topology is not None
    # Not what the other session's first run begins with.
    assert last_of_first.topology.leftover_bytes == 0
    assert entries(tmp_path)[0].runs == 6


def test_files_of_another_name_are_found_by_their_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "run", RESULTS, memory())
    (path / "results.csv").rename(path / "my.csv")
    (path / "results-memory.csv").rename(path / "my-memory.csv")
    (path / "notes.csv").write_text("a,b\n1,2\n")
    assert net_peaks(read_session(path)) == [16, 16, 16]
    assert entries(tmp_path)[0].runs == 3
    (path / "other.csv").write_text(RESULTS)
    (line,) = read_session(path).problems
    assert "results of several sessions (my.csv, other.csv); my.csv is read" in line


@pytest.mark.parametrize("shift_h", [7, -5, 5.5, -13, 12.75])
def test_samples_of_another_timezone_are_shifted_to_the_runs(
    tmp_path: Path, shift_h: float
) -> None:
    session = read_session(write(tmp_path / "run", RESULTS, memory(shift_h * 3600)))
    assert net_peaks(session) == [16, 16, 16]
    (line,) = session.problems
    way = "ahead of" if shift_h > 0 else "behind"
    assert f"its clock is {abs(shift_h):g} h {way} that of the runs" in line


@pytest.mark.parametrize("shift_s", [1800 + 100, 40 * 3600, 3 * 3600 + 17])
def test_samples_of_another_time_are_not_shifted(tmp_path: Path, shift_s: float) -> None:
    session = read_session(write(tmp_path / "run", RESULTS, memory(shift_s)))
    assert net_peaks(session) == [None, None, None]
    assert all("no memory figures" in line for line in session.problems)


def test_a_shift_is_not_guessed_where_several_would_do(tmp_path: Path) -> None:
    rows = [f"{START_S + 18_000 + n},{TOTAL},{TOTAL - 7},7,7\n" for n in range(3 * 3600)]
    session = read_session(write(tmp_path / "run", RESULTS, MEMORY_HEADER + "".join(rows)))
    assert net_peaks(session) == [None, None, None]


def test_runs_that_samples_do_not_cover_have_no_figures_and_a_line_each(tmp_path: Path) -> None:
    session = read_session(write(tmp_path / "run", RESULTS, memory(seconds=8.0)))
    assert net_peaks(session) == [16, None, None]
    assert [line.split(": ")[1] for line in session.problems] == [
        "0002-default-proxy-2",
        "0003-default-proxy-3",
    ]


@pytest.mark.parametrize(
    "bad", ["nan", "inf", "-inf", "-1.0", "1e400", "1e12", "garbage", "", "0x5"]
)
def test_a_makespan_that_is_none_costs_its_own_row(tmp_path: Path, bad: str) -> None:
    lines = RESULTS.splitlines()
    lines[2] = lines[2].rpartition(",")[0] + f",{bad}"
    session = read_session(write(tmp_path / "run", "\n".join(lines) + "\n", memory()))
    assert [round((run.start_ns or 0) / 1e9 - START_S) for run in session.runs] == [1, 13]
    (line,) = session.problems
    assert "results.csv: row 3: " in line


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("bad", ["nan", "inf", "-5", "1e30", "x"])
def test_a_sample_that_is_none_costs_its_own_row(tmp_path: Path, place: int, bad: str) -> None:
    lines = memory().splitlines()
    cells = lines[31].split(",")
    cells[place] = bad
    lines[31] = ",".join(cells)
    session = read_session(write(tmp_path / "run", RESULTS, "\n".join(lines) + "\n"))
    assert net_peaks(session) == [16, 16, 16]
    (line,) = session.problems
    assert "results-memory.csv: row 32: " in line


def test_more_available_than_there_is_is_no_sample(tmp_path: Path) -> None:
    samples = memory().replace(f",{TOTAL},{TOTAL - BASELINE},", f",{TOTAL},{TOTAL + 1},", 1)
    session = read_session(write(tmp_path / "run", RESULTS, samples))
    assert net_peaks(session) == [16, 16, 16]
    (line,) = session.problems
    assert "more memory available than there is" in line


def test_runs_that_overlap_have_no_figures_of_memory(tmp_path: Path) -> None:
    header = ",".join(columns(ResultRow)) + "\n"
    results = header + result(STARTS[0]) + result(STARTS[0] + 2, "owned-proxy") + result(STARTS[2])
    session = read_session(write(tmp_path / "run", results, memory()))
    assert net_peaks(session) == [None, None, 16]
    assert [run.makespan_s for run in session.runs] == [RUN_S] * 3
    (line,) = session.problems
    assert "0001-default-proxy-1, 0002-owned-proxy-1 overlap in time" in line


def test_runs_that_end_before_they_start_or_are_there_twice_are_left_out(tmp_path: Path) -> None:
    header = ",".join(columns(ResultRow)) + "\n"
    backwards = result(STARTS[1], end_s=STARTS[1] - 1).replace(",-1.0\n", ",5.0\n")
    results = header + result(STARTS[0]) + backwards + result(STARTS[0]) + result(STARTS[2])
    session = read_session(write(tmp_path / "run", results, memory()))
    assert [run.run_id for run in session.runs] == ["0001-default-proxy-1", "0002-default-proxy-2"]
    assert [line.partition("results.csv: ")[2] for line in session.problems] == [
        "row 3: it ends before it starts; left out",
        "row 4: the same run again; left out",
    ]


def test_text_of_others_moves_no_cursor(tmp_path: Path) -> None:
    hostile = "\x1b[31mred\u202e\x07"
    path = write(tmp_path / f"run{hostile}", RESULTS.replace("default-proxy", hostile), memory())
    session = read_session(path)
    assert session.modes == ["[31mred"]
    (path / "manifest.json").write_text(json.dumps({"plan": {"executor_name": hostile}}))
    (entry,) = entries(tmp_path)
    told = (session.name, entry.name, entry.executor, entry.headline, *session.problems)
    assert not any(sign in text for text in told for sign in "\x1b\u202e\x07")


@pytest.mark.parametrize(
    "document",
    [
        "[]",
        "null",
        "3",
        '"x"',
        "{",
        '{"plan": "x"}',
        '{"plan": {"general": []}}',
        "\ud800"[:0] + "{]",
    ],
)
@pytest.mark.parametrize("name", ["manifest", "sampling", "quality", "calibration", "plan"])
def test_json_that_is_not_ours_is_ignored(tmp_path: Path, name: str, document: str) -> None:
    path = write(tmp_path / "run", RESULTS, memory())
    (path / f"{name}.json").write_text(document)
    session = read_session(path)
    assert net_peaks(session) == [16, 16, 16]
    assert all(f"{name}.json" in line for line in session.problems)
    assert len(session.problems) <= 1
    assert entries(tmp_path)[0].runs == 3


def test_a_results_file_named_by_a_stranger_stays_in_the_directory(tmp_path: Path) -> None:
    write(tmp_path / "secret", RESULTS, memory())
    path = write(tmp_path / "run", RESULTS, memory())
    for name in ("../secret/results.csv", str(tmp_path / "secret" / "results.csv"), "..", ""):
        (path / "manifest.json").write_text(json.dumps({"plan": {"general": {"csv_file": name}}}))
        assert read_session(path).runs[0].run_id == "0001-default-proxy-1"


def test_a_directory_that_is_none_does_not_stop_the_list(tmp_path: Path) -> None:
    write(tmp_path / "good", RESULTS, memory())
    for number, name in enumerate(("results.csv", "marks.csv", "manifest.json")):
        (tmp_path / f"odd-{number}").mkdir()
        os.mkfifo(tmp_path / f"odd-{number}" / name)
    (tmp_path / "odd-9").mkdir()
    (tmp_path / "odd-9" / "results.csv").mkdir()
    assert [entry.name for entry in entries(tmp_path)] == ["good"]


def test_rows_of_a_bench_are_joined_by_when_runs_began(tmp_path: Path) -> None:
    makespans = {"none": [1.0, 2.0, 3.0]}
    directory = write_run_directory(tmp_path / "run", {"none": [1, 1, 1]}, makespans=makespans)
    header, first, second, third = directory.results.read_text().splitlines()
    cut = second.rpartition(",")[0] + ",garbage"
    directory.results.write_text("\n".join([header, third, cut, first, ""]))
    session = read_session(directory.path)
    assert [run.makespan_s for run in session.runs] == [1.0, None, 3.0]
    (line,) = session.problems
    assert "results.csv: row 3: " in line
    directory.results.write_text("\n".join([header, first, second, second, third, ""]))
    assert [run.makespan_s for run in read_session(directory.path).runs] == [1.0, 2.0, 3.0]


def test_an_outcome_that_nobody_knows_costs_its_own_run(tmp_path: Path) -> None:
    makespans = {"none": [1.0, 2.0]}
    directory = write_run_directory(tmp_path / "run", {"none": [1, 1]}, makespans=makespans)
    directory.outcomes.write_text(directory.outcomes.read_text().replace(",ok,", ",weird,", 1))
    session = read_session(directory.path)
    assert [(run.outcome, run.makespan_s) for run in session.runs] == [("weird", None), ("ok", 2.0)]
    (line,) = session.problems
    assert "outcomes.csv: row 2: 'weird' is no outcome" in line


def test_rows_of_a_run_that_is_not_there_are_left_out(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [1]})
    with directory.objects.open("a") as file:
        file.write("0099-none-9,none,5,5,5,5,5,5\n")
    session = read_session(directory.path)
    assert [row["run_id"] for row in session.tables["objects"]] == ["0001-none-1"]
    (line,) = session.problems
    assert line.endswith("objects.csv: row 3: there is no run 0099-none-9; left out")


TORN = {
    "memory-cgroup.csv": "0001-none-1,worker-1,120001-none-1,worker-2,1,1\n0001-none-1,a,1,1,abc\n",
    "memory-inside.csv": "0001-none-1,worker-1,12\n",
    "phases.csv": "0001-none-1,settled\n",
    "storage.csv": "0001-none-1,stage,77,3,1,1,1,,\n",
    "outcomes.csv": "0099-none-9,none,9,ok,,\n0001-none\n",
    "sampling.json": "x",
    "peaks.csv": "0001-none-1,topology\n",
}


@pytest.mark.parametrize("name", TORN)
def test_an_odd_row_does_not_end_a_bench(tmp_path: Path, name: str) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [5_000_000]})
    with (directory.path / name).open("a") as file:
        file.write(TORN[name])
    assert write_quality(directory)["schema_version"] == 1
    session = read_session(directory.path)
    (figures,) = [f for f in session_figures(session) if f.run.run_id == "0001-none-1"]
    assert figures.topology is not None
    assert figures.topology.net_peak_bytes == 5_000_000


FILES = [
    "results.csv",
    "results-memory.csv",
    "marks.csv",
    "outcomes.csv",
    "peaks.csv",
    "ledger.csv",
    "tasks.csv",
    "objects.csv",
    "storage.csv",
    "predictions.csv",
    "phases.csv",
    "memory-cgroup.csv",
    "memory-inside.csv",
    "manifest.json",
    "sampling.json",
    "quality.json",
    "summary.json",
]
CELLS = st.sampled_from(
    [
        "",
        "0001-none-1",
        "none",
        "ok",
        "1",
        "-1",
        "1.0",
        "nan",
        "9" * 25,
        '"',
        "run_start",
        "\x00",
        "é",
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(FILES),
    data=st.binary(max_size=60) | st.lists(CELLS, max_size=14).map(lambda c: ",".join(c).encode()),
    keep=st.integers(0, 400),
)
def test_any_bytes_anywhere_are_a_report_or_one_line(name: str, data: bytes, keep: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        directory = write_run_directory(Path(place) / "run", {"none": [5_000_000]})
        path = directory.path / name
        there = path.read_bytes() if path.exists() else b""
        path.write_bytes(there[:keep] + data + there[keep:])
        message = ""
        try:
            session = read_session(directory.path)
            session_figures(session)
            assert all("\n" not in line for line in session.problems)
        except HarnessError as error:
            message = str(error)
        assert "\n" not in message
        write_quality(directory)
        entries(Path(place))


def test_a_report_is_the_same_whatever_the_locale(tmp_path: Path) -> None:
    pages = []
    for locale in ("C", "C.UTF-8"):
        (tmp_path / locale).mkdir()
        path = write(tmp_path / locale / "run", RESULTS.replace("default-proxy", "modé"), memory())
        env = {
            **os.environ,
            "LC_ALL": locale,
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
            "PYTHONIOENCODING": "",
        }
        done = subprocess.run(
            [sys.executable, "-m", "harness", "report", str(path)],
            capture_output=True,
            env=env,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        pages.append(RunDirectory(path).page.read_text(encoding="utf-8"))
        assert sorted(each.name for each in path.iterdir()) == [
            "figures",
            "report.html",
            "results-memory.csv",
            "results.csv",
            "summary.json",
            "tables",
        ]
    assert "modé" in pages[0] or "mod\\u00e9" in pages[0]
    assert pages[0] == pages[1]
