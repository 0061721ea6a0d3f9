from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from harness.results.directory import RunDirectory
from harness.results.repair import cut_partial_line, finished_runs, keep_runs

OUTCOMES = "run_id,data_management,repetition,outcome,reason,service\r\n"


def directory_with(tmp_path: Path, **files: str) -> RunDirectory:
    for name, text in files.items():
        (tmp_path / f"{name}.csv").write_bytes(text.encode())
    return RunDirectory(tmp_path)


def test_rows_of_runs_that_are_done_again_go_and_others_stay(tmp_path: Path) -> None:
    directory = directory_with(
        tmp_path,
        outcomes=OUTCOMES
        + "0001-a-1,a,1,ok,,\r\n0002-a-2,a,2,timeout,late,runner\r\n"
        + "0003-a-3,a,3,interrupted,SIGINT,\r\n",
        results="executor,x\r\nDask,1\r\nDask,2\r\nDa",
        marks="run_id,mark\n0001-a-1,run_start\n0003-a-3,run_start\n,stop\n0003-a-3,run_e",
        peaks="run_id,peak\nwarm-up-1-of-0001-a-1,5\nwarm-up-1-of-0003-a-3,6\n0002-a-2,7\n",
    )
    assert finished_runs(directory) == {"0001-a-1", "0002-a-2"}
    assert directory.results.read_text() == "executor,x\nDask,1\n"
    assert directory.marks.read_text() == "run_id,mark\n0001-a-1,run_start\n,stop\n"
    assert directory.peaks.read_text().splitlines()[1:] == [
        "warm-up-1-of-0001-a-1,5",
        "0002-a-2,7",
    ]
    assert "interrupted" not in directory.outcomes.read_text()
    assert not list(tmp_path.glob("*-new"))
    assert finished_runs(directory) == {"0001-a-1", "0002-a-2"}


def test_a_row_without_an_outcome_is_of_a_run_that_is_not_finished(tmp_path: Path) -> None:
    directory = directory_with(
        tmp_path, outcomes=OUTCOMES + "0001-a-1,a,1,o", results="executor,x\r\nDask,1\r\n"
    )
    assert finished_runs(directory) == frozenset()
    assert directory.results.read_text() == "executor,x\n"


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
