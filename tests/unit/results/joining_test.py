from __future__ import annotations

from harness.results.joining import Window, join, mode_of, windows
from harness.results.rows import ResultRow
from harness.results.schema import MarkRow


def result(start_s: float, mode: str = "a") -> ResultRow:
    return ResultRow("E", "None", mode, "1", "1-1", 1, 0.0, start_s, start_s + 1, 1.0)


def mark(run_id: str, name: str, t_s: float) -> MarkRow:
    return MarkRow(run_id, name, 0, round(t_s * 1e9))


RUNS = {"0001-a-1": Window(100, 101), "0002-a-2": Window(102, 103), "0003-b-1": Window(104, 105)}


def test_a_row_is_of_the_run_within_whose_marks_it_began() -> None:
    rows = [result(104.002, "b"), result(102.002), result(100.002)]
    assert join(rows, RUNS) == {0: "0003-b-1", 1: "0002-a-2", 2: "0001-a-1"}


def test_rows_of_no_run_or_another_mode_are_left_out() -> None:
    assert join([result(50.0), result(101.5), result(100.0, "b"), result(200.0)], RUNS) == {}


def test_of_two_rows_of_one_run_the_nearer_one_counts() -> None:
    assert join([result(100.5), result(100.001), result(100.3)], RUNS) == {1: "0001-a-1"}


def test_a_run_without_an_end_holds_as_long_as_its_mark_may_wait() -> None:
    runs = {"0001-a-1": Window(100.0)}
    assert join([result(109.0)], runs) == {0: "0001-a-1"}
    assert join([result(120.0)], runs) == {}


def test_of_a_run_that_was_begun_twice_the_last_time_counts() -> None:
    marks = [
        mark("0001-a-1", "run_start", 10),
        mark("0001-a-1", "run_end", 11),
        mark("0001-a-1", "run_start", 20),
        mark("", "stop", 30),
    ]
    assert windows(marks) == {"0001-a-1": Window(20)}


def test_the_mode_is_in_the_id_of_a_run() -> None:
    assert mode_of("0002-owned-proxy-1") == "owned-proxy"
    assert mode_of("warm-up-1-of-0002-owned-proxy-1") == "owned-proxy"
    assert mode_of("x") == ""
