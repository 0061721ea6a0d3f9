"""Lines of a remote sampler become lines of the run directory."""

from __future__ import annotations

from harness.results.memory import MarkRow
from harness.sampling.clocks import Offset
from harness.sampling.spool import Runs, adopt_rows

HEADER = b"run_id,container,t_mono_ns,t_unix_ns,late_ns,n_procs,rss_sum_bytes\n"


def runs() -> Runs:
    found = Runs()
    found.add([MarkRow("a", "run_start", 100, 0), MarkRow("a", "run_end", 200, 0)])
    found.add([MarkRow("b", "run_start", 300, 0), MarkRow("", "stop", 350, 0)])
    return found


def test_a_moment_belongs_to_the_run_that_was_in_progress() -> None:
    moments = (0, 99, 100, 199, 200, 299, 300, 10**9)
    assert [runs().at(t) for t in moments] == ["", "", "a", "a", "", "", "b", "b"]
    assert Runs().at(5) == ""


def test_on_our_clock_only_names_are_filled_in() -> None:
    lines = adopt_rows(HEADER + b",host-7-x,150,9000,3,1,\n", "worker-1", runs(), None, 77)
    assert lines == ["a,worker-1,150,9000,3,1,\n"]


def test_another_clock_is_moved_to_ours_with_its_drift() -> None:
    clocks = (Offset(1_000, -900, 5), Offset(2_000, -1_700, 5))
    lines = adopt_rows(b",h,1000,1,3,1,5\n,h,2000,1,3,1,5\n", "worker-2", runs(), clocks, 10**6)
    assert lines == ["a,worker-2,100,1000100,3,1,5\n", "b,worker-2,300,1000300,3,1,5\n"]


def test_what_is_no_row_is_dropped() -> None:
    assert adopt_rows(b"\n,,,\nx,y,z,1,2\n", "worker-1", runs(), None, 0) == []
