from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.analysis.tracing_cost import Cost, copies_changed, costs, notable
from harness.analysis.why import LEFT, OWN_PEAK, TOPOLOGY_PEAK, read_why
from harness.analysis.why_difference import differences
from harness.cli import why as command
from harness.core.errors import UsageError
from harness.report.icicle import icicle, shortened
from harness.report.why import difference_sentences, sentences
from harness.report.why_cost import changed_sentences, cost_sentences
from harness.report.why_page import why_parts
from harness.results.directory import RunDirectory
from harness.results.rows import RowWriter
from harness.results.schema import ServerRow
from tests.rundirs import MS, START_NS, UNIX_OFFSET_NS, write_run_directory
from tests.traces import PEAK_NS, document, write_traced

MB = 1_000_000
RUN = "0001-owned-proxy-1"


def traced(
    path: Path, size: int = 100 * MB, mode: str = "owned-proxy", kernel: int = 200 * MB
) -> Path:
    """Write a bench's directory with traced runs: two inputs in the runner at its peak."""
    write_run_directory(path, {mode: [200 * MB, 200 * MB]}, sizes=(size, 500_000, 100_000))
    within = write_traced(path, mode, size, kernel)
    run = f"0001-{mode}-1"
    with RowWriter(within.server, ServerRow) as servers:
        for at, used in ((-1, 1 * MB), (1, 40 * MB), (2, 300 * MB), (3, 10 * MB)):
            parts = (used, used, 100 * MB, 0, 150 * MB, 50 * MB, 5, 2, 0)
            servers.write(ServerRow(run, START_NS + at * MS, 0, *parts))
    return path


def test_a_container_at_its_own_peak_has_the_kernels_figure(tmp_path: Path) -> None:
    why = read_why(traced(tmp_path / "x"))
    (own,) = (a for a in why.accounts if a.moment == OWN_PEAK)

    assert (own.container, own.service, own.kernel_bytes) == ("runner-1", "runner", 200 * MB)
    assert own.traced_bytes == own.named_bytes == 200 * MB
    assert own.attributed == 1.0
    assert own.holders[0].copies == {100 * MB: 2}
    assert why.problems == ()


def test_the_topologys_peak_is_aligned_by_the_clock(tmp_path: Path) -> None:
    why = read_why(traced(tmp_path / "x"))
    at = {a.moment: a.traced_bytes for a in why.accounts}

    # Of the three readings the second is at that time, and the last is all that came after.
    assert at[TOPOLOGY_PEAK] == 200 * MB
    assert at[LEFT] == 100 * MB


def test_copies_are_counted_over_time(tmp_path: Path) -> None:
    why = read_why(traced(tmp_path / "x"))
    (copies,) = why.copies[RUN]

    assert copies.service == "runner"
    assert copies.counts == (1, 2, 1)
    assert copies.size_bytes == (100 * MB, 200 * MB, 100 * MB)
    assert copies.times_s == pytest.approx((0.99, 1.0, 1.01))


def test_a_server_is_told_at_its_fullest(tmp_path: Path) -> None:
    (server,) = read_why(traced(tmp_path / "x")).servers

    assert (server.at_peak.used_bytes, server.baseline_bytes, server.samples) == (
        300 * MB,
        1 * MB,
        3,
    )


def test_one_sentence_for_each_service(tmp_path: Path) -> None:
    runner, redis = sorted(sentences(read_why(traced(tmp_path / "x"))), reverse=True)

    assert runner == (
        "owned-proxy: the runner holds two inputs of 100 MB because proxies keep their targets"
        " (`populate_target`): 200 MB at its peak."
    )
    assert redis == (
        "owned-proxy: Redis holds 100 MB of objects and 150 MB in output buffers because 2 clients"
        " read at once, by the fullest of 3 answers."
    )


def test_what_no_line_explains_is_said(tmp_path: Path) -> None:
    said = sentences(read_why(traced(tmp_path / "x", kernel=300 * MB)))

    assert any("and 100 MB that no trace saw: 300 MB at its peak." in text for text in said)


def test_two_traces_differ_where_more_is_held(tmp_path: Path) -> None:
    a, b = read_why(traced(tmp_path / "a")), read_why(traced(tmp_path / "b", 150 * MB))
    (change,) = differences(a, b)

    assert [(c.place, c.change_bytes) for c in change.changes] == [
        ("payload (harness/workflow/tasks.py)", 100 * MB)
    ]
    assert difference_sentences(a, a) == []
    (said,) = difference_sentences(a, read_why(traced(tmp_path / "c", 150 * MB, kernel=300 * MB)))
    assert said == (
        "owned-proxy: the runner needs 100 MB more at its peak: 100 MB more in `payload`, called"
        " from `_run_stages`."
    )


def test_what_moved_to_another_line_is_named_on_both_sides(tmp_path: Path) -> None:
    a = read_why(traced(tmp_path / "a"))
    b = read_why(traced(tmp_path / "b", 150 * MB, kernel=300 * MB))
    elsewhere = tuple(
        replace(each, holders=tuple(replace(h, place="copy (x.py)") for h in each.holders))
        for each in b.accounts
    )
    (said,) = difference_sentences(a, replace(b, accounts=elsewhere))
    assert said == (
        "owned-proxy: the runner needs 100 MB more at its peak: 300 MB more in `copy`, called"
        " from `_run_stages`; 200 MB less in `payload`, called from `_run_stages`."
    )


def test_a_directory_without_traces_is_refused(tmp_path: Path) -> None:
    write_run_directory(tmp_path / "x", {"none": [1 * MB]})

    with pytest.raises(UsageError, match="has no traces: make some with 'harness bench --why"):
        read_why(tmp_path / "x")


def test_a_broken_trace_is_one_line_and_the_others_are_told(tmp_path: Path) -> None:
    path = traced(tmp_path / "x")
    (RunDirectory(path / "why").traces / f"{RUN}.worker-1.9.json").write_text("{")

    why = read_why(path)

    (problem,) = why.problems
    assert problem.startswith(f"traces/{RUN}.worker-1.9.json: is no trace of a process")
    assert len(sentences(why)) == 2


def test_what_tracing_changed_is_told_beside_the_untraced_runs(tmp_path: Path) -> None:
    path = traced(tmp_path / "x")
    plan = json.loads((path / "manifest.json").read_text())
    plan["plan"]["general"]["traced"] = True
    (path / "why" / "manifest.json").write_text(json.dumps(plan))

    found = {cost.what: cost for cost in costs(read_why(path).session)}

    assert (found["makespan"].untraced, found["makespan"].traced) == (2.0, 2.0)
    assert found["topology"].change == 0
    assert found["topology"].runs == 2


def test_a_net_peak_that_changed_is_named() -> None:
    changed = Cost("none", "runner", "bytes", 100 * MB, 106 * MB, 3, 99 * MB, 100 * MB)
    scatters = Cost("none", "worker", "bytes", 100 * MB, 140 * MB, 3, 90 * MB, 140 * MB)
    small = Cost("none", "scheduler", "bytes", 1 * MB, 2 * MB, 3, 1 * MB, 1 * MB)
    slower = Cost("none", "makespan", "s", 1.0, 2.0, 3, 1.0, 1.0)

    assert notable([changed, scatters, small, slower]) == [changed]


def test_another_number_of_copies_is_named_also_where_it_is_less_than_5_percent() -> None:
    sizes = (100 * MB, 10 * MB, 1000)

    def cost(traced: int, low: int, high: int, what: str = "runner") -> Cost:
        return Cost("none", what, "bytes", high, traced, 3, low, high)

    more = cost(1011 * MB, 990 * MB, 1000 * MB)
    fewer = cost(300 * MB, 499 * MB, 500 * MB)
    same = cost(1004 * MB, 990 * MB, 1000 * MB)
    other = cost(1060 * MB, 900 * MB, 905 * MB, "scheduler")
    seconds = Cost("none", "CPU", "s", 1.0, 200.0 * MB, 3, 1.0, 1.0)

    assert copies_changed(more, sizes) == (10 * MB, 1)
    assert copies_changed(fewer, sizes) == (100 * MB, -2)
    assert copies_changed(same, sizes) is None
    assert copies_changed(seconds, sizes) is None
    assert changed_sentences([more, fewer, same, seconds], sizes) == [
        "In none the traced run had one copy of 10.0 MB more at the peak of the runner than any"
        " untraced one.",
        "In none the traced run had two copies of 100 MB less at the peak of the runner than any"
        " untraced one.",
    ]
    workers = cost(500 * MB, 300 * MB, 400 * MB, "worker")
    assert changed_sentences([workers], sizes)[1:] == [
        "Peaks of several containers together depend on how their tasks overlap."
    ]
    assert changed_sentences([other], (100 * MB,)) == [
        "In none the net peak of the scheduler is more than 5 % beyond all untraced ones."
    ]


def test_what_tracing_cost_is_said_with_every_trace(tmp_path: Path) -> None:
    path = traced(tmp_path / "x")
    shutil.copytree(path / "why", tmp_path / "alone" / "why")
    assert cost_sentences(read_why(tmp_path / "alone").session) == [
        "What tracing cost is not known: no untraced runs of the same plan are beside it."
    ]
    plan = json.loads((path / "manifest.json").read_text())
    plan["plan"]["general"] |= {"traced": True, "native": True}
    (path / "why" / "manifest.json").write_text(json.dumps(plan))

    said = cost_sentences(read_why(path).session)

    assert said == ["Tracing cost, beside the untraced runs: owned-proxy +0.0 % makespan."]


def test_the_command_tells_one_and_compares_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = traced(tmp_path / "a"), traced(tmp_path / "b", 150 * MB, kernel=300 * MB)

    assert command.main([str(a)]) == 0
    told = capsys.readouterr().out
    assert "owned-proxy: runner-1 at its own peak" in told
    assert "2 x 100 MB" in told
    assert (a / "why" / "why.csv").read_text().count("\n") == 4
    assert command.main([str(a), str(b)]) == 0
    assert "What changed at the services' own peaks: a -> b" in capsys.readouterr().out
    with pytest.raises(UsageError, match="one run directory is told, or two are compared"):
        command.main([str(a), str(b), str(a)])


def test_the_page_draws_without_a_script_and_escapes(tmp_path: Path) -> None:
    path = traced(tmp_path / "x")
    evil = document((PEAK_NS + UNIX_OFFSET_NS) // MS - 10)
    evil["frames"][0][0] = "<script>alert(1)</script>"
    (RunDirectory(path / "why").traces / f"{RUN}.runner-1.7.json").write_text(json.dumps(evil))

    (part,), charts = why_parts([read_why(path).session])

    assert "&lt;script&gt;" in "".join(part.modes[0].sentences)
    assert "<script" not in "".join(part.modes[0].sentences)
    drawing = part.modes[0].figures[0].drawing
    assert drawing.startswith("<svg")
    assert "<script" not in drawing
    assert "&lt;script&gt;" in drawing
    assert list(charts) == [f"copies-1-{RUN}"]


def test_calls_within_a_library_are_drawn_once() -> None:
    site = "/v/lib/python3.13/site-packages/"
    stack = [(name, f"{site}{lib}/x.py", 1) for name, lib in (("e", "b"), ("d", "b"), ("c", "b"))]
    stack += [("b", f"{site}a/x.py", 1), ("a", f"{site}a/x.py", 1)]

    assert [function for function, _, _ in shortened(stack)] == ["a", "c", "d", "e"]
    assert icicle([], "nothing") == ""
