from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from harness.results.directory import RunDirectory
from harness.results.repair import cut_partial_line, finished_runs, keep_runs
from harness.results.rows import ResultRow, columns

OUTCOMES = "run_id,data_management,repetition,outcome,reason,service\r\n"


RESULTS = ",".join(columns(ResultRow)) + "\r\n"
MARKS = "run_id,mark,t_mono_ns,t_unix_ns\n"


def directory_with(tmp_path: Path, **files: str) -> RunDirectory:
    for name, text in files.items():
        (tmp_path / f"{name}.csv").write_bytes(text.encode())
    return RunDirectory(tmp_path)


def result(start_s: float, mode: str = "a") -> str:
    return f"DaskExecutor,None,{mode},1,1-1,1,0.1,{start_s},{start_s + 1},1.0\r\n"


def marks(run_id: str, start_s: int) -> str:
    ns = start_s * 10**9
    return f"{run_id},run_start,{ns},{ns}\n{run_id},run_end,{ns + 10**9},{ns + 10**9}\n"


def test_rows_of_runs_that_are_done_again_go_and_others_stay(tmp_path: Path) -> None:
    directory = directory_with(
        tmp_path,
        outcomes=OUTCOMES
        + "0001-a-1,a,1,ok,,\r\n0002-a-2,a,2,timeout,late,runner\r\n"
        + "0003-a-3,a,3,interrupted,SIGINT,\r\n",
        results=RESULTS + result(100.001) + result(300.001) + "Da",
        marks=MARKS + marks("0001-a-1", 100) + marks("0003-a-3", 300) + ",stop,1,1\n0003-a-3,run_e",
        peaks="run_id,peak\nwarm-up-1-of-0001-a-1,5\nwarm-up-1-of-0003-a-3,6\n0002-a-2,7\n",
    )
    assert finished_runs(directory) == {"0001-a-1", "0002-a-2"}
    assert directory.results.read_bytes().decode() == RESULTS + result(100.001)
    assert directory.marks.read_text() == MARKS + marks("0001-a-1", 100) + ",stop,1,1\n"
    assert directory.peaks.read_text().splitlines()[1:] == [
        "warm-up-1-of-0001-a-1,5",
        "0002-a-2,7",
    ]
    assert "interrupted" not in directory.outcomes.read_text()
    assert not list(tmp_path.glob("*-new"))
    assert finished_runs(directory) == {"0001-a-1", "0002-a-2"}


def test_a_row_of_results_stays_with_the_run_that_began_then(tmp_path: Path) -> None:
    """The row of a run that is done again comes first, and one is of no run at all."""
    directory = directory_with(
        tmp_path,
        outcomes=OUTCOMES + "0001-a-1,a,1,infrastructure,engine,\r\n0002-a-2,a,2,ok,,\r\n",
        results=RESULTS + result(100.001) + result(50.0) + result(200.001),
        marks=MARKS + marks("0001-a-1", 100) + marks("0002-a-2", 200),
    )
    assert finished_runs(directory) == {"0002-a-2"}
    assert directory.results.read_bytes().decode() == RESULTS + result(200.001)


def test_a_run_whose_row_is_torn_is_done_again(tmp_path: Path) -> None:
    directory = directory_with(
        tmp_path,
        outcomes=OUTCOMES + "0001-a-1,a,1,ok,,\r\n0002-a-2,a,2,ok,,\r\n",
        results=RESULTS + result(100.001).replace("1.0\r", "garbage\r") + result(200.001),
        marks=MARKS + marks("0001-a-1", 100) + marks("0002-a-2", 200),
    )
    said: list[str] = []
    assert finished_runs(directory, said.append) == {"0002-a-2"}
    (line,) = said
    assert "results.csv: row 2: " in line
    assert line.endswith("; the run is done again")
    assert "0001-a-1" not in directory.outcomes.read_text()
    assert directory.results.read_bytes().decode() == RESULTS + result(200.001)


def test_a_torn_row_of_outcomes_costs_its_own_run_only(tmp_path: Path) -> None:
    directory = directory_with(
        tmp_path,
        outcomes=OUTCOMES + "0001-a-1,a,1,timeout,,\r\n0002-a-2,a\r\n0003-a-3,a,3,failed,,\r\n",
    )
    assert finished_runs(directory) == {"0001-a-1", "0003-a-3"}


def test_a_row_without_an_outcome_is_of_a_run_that_is_not_finished(tmp_path: Path) -> None:
    directory = directory_with(
        tmp_path,
        outcomes=OUTCOMES + "0001-a-1,a,1,o",
        results=RESULTS + result(100.001),
        marks=MARKS + marks("0001-a-1", 100),
    )
    assert finished_runs(directory) == frozenset()
    assert directory.results.read_bytes().decode() == RESULTS


def test_a_bench_that_ended_before_its_first_outcome(tmp_path: Path) -> None:
    directory = directory_with(tmp_path, marks="run_id,mark\n0001-a-1,run_start\n")
    assert finished_runs(directory) == frozenset()
    assert directory.marks.read_text() == "run_id,mark\n"


@given(st.binary(max_size=200))
def test_a_file_ends_with_its_last_whole_line(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "a.csv"
        path.write_bytes(data)
        cut_partial_line(path)
        assert path.read_bytes() == data[: data.rfind(b"\n") + 1]


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "", "warm-up-1-of-a"]), st.integers())))
def test_only_rows_of_other_runs_are_removed(rows: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "a.csv"
        path.write_text("run_id,n\n" + "".join(f"{run},{n}\n" for run, n in rows))
        keep_runs(path, {b"a"})
        kept = [line.split(",") for line in path.read_text().splitlines()[1:]]
        assert kept == [[run, str(n)] for run, n in rows if run != "b"]
