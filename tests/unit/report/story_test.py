"""The first sentence of a report."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from harness.analysis.figures import Group, RunFigures, ScopeFigures, group_runs
from harness.analysis.readers import read_session
from harness.analysis.series import TOPOLOGY
from harness.analysis.session import Run, Session
from harness.report import captions
from harness.report.evidence import command
from harness.report.story import circumstances, plan_in_words, story
from harness.report.tables import summary
from tests.rundirs import write_run_directory

MB = 1_000_000
PAPER = Path(__file__).parents[2] / "data" / "paper"


def groups(place: Path, peaks: dict[str, list[int]]) -> list[Group]:
    directory = write_run_directory(place, peaks, events=False)
    return group_runs([read_session(directory.path)])


def around(mb: int, runs: int = 5) -> list[int]:
    return [mb * MB + step * MB // 10 for step in range(runs)]


def test_who_needs_how_much_more_where_and_how_sure(tmp_path: Path) -> None:
    found = groups(
        tmp_path / "run",
        {
            "none": around(300),
            "default-proxy": around(124),
            "manual-proxy": around(100),
            "owned-proxy": around(101),
        },
    )
    assert story(found) == (
        "At its peak manual-proxy and owned-proxy need 100 to 101 MB above the baseline,"
        " default-proxy 124 MB (+24 %), none 300 MB (3.0 times as much). In none, the redis holds"
        " 300 MB of it. Five runs of each: more than chance explains."
    )


def test_what_is_not_decided_says_what_it_would_take(tmp_path: Path) -> None:
    found = groups(tmp_path / "run", {"none": around(200, 2), "owned-proxy": around(100, 2)})
    assert story(found) == (
        "At its peak none needs 200 MB and owned-proxy 100 MB above the baseline: too few runs to"
        " tell the modes apart. The redis holds 100 to 200 MB of it. Two runs of each: to be sure"
        " it would take 2 more runs of each."
    )


def test_noise_ranks_no_mode(tmp_path: Path) -> None:
    noise = {
        "none": [109 * MB, 92 * MB, 101 * MB, 117 * MB, 88 * MB],
        "default-proxy": [95 * MB, 120 * MB, 86 * MB, 103 * MB, 112 * MB],
        "owned-proxy": [97 * MB, 84 * MB, 105 * MB, 115 * MB, 93 * MB],
    }
    said = story(groups(tmp_path / "run", noise))
    assert said.startswith(
        "The modes do not differ by more than chance: at its peak none, default-proxy and"
        " owned-proxy need 97.0 to 103 MB above the baseline."
    )
    assert "%)" not in said
    assert "Five runs of each: to be sure it would take" in said


def test_chance_names_a_difference_in_at_most_5_of_100_benches() -> None:
    chance = random.Random(1)
    named = 0
    modes = ("none", "default-proxy", "manual-proxy", "owned-proxy")
    for _ in range(200):
        peaks = {mode: [chance.gauss(100, 15) * MB for _ in range(5)] for mode in modes}
        said = story(in_memory(peaks))
        assert said.startswith(("At its peak ", "The modes do not differ"))
        named += "The modes do not differ" not in said
    assert named / 200 <= 0.05


def in_memory(peaks: dict[str, list[float]]) -> list[Group]:
    """Return groups of runs that were never written."""
    runs = [
        (Run(f"{place:04d}-{mode}-{n}", mode, n, makespan_s=1.0), peak)
        for mode, each in peaks.items()
        for place, (n, peak) in enumerate(enumerate(each, 1))
    ]
    session = Session(Path("run"), "harness", None, tuple(run for run, _ in runs), None)
    figures = [
        RunFigures(
            run,
            None,
            {
                TOPOLOGY: ScopeFigures(
                    TOPOLOGY, "cgroup", 1.0, 2, 0.0, peak, "max_usage", 0, 0.0, None, None, {}
                )
            },
        )
        for run, peak in runs
    ]
    return [Group(m, session, m, tuple(f for f in figures if f.run.mode == m)) for m in peaks]


def test_what_the_runs_do_not_say_of_one_mode_is_not_said_of_the_others(tmp_path: Path) -> None:
    found = groups(
        tmp_path / "run",
        {
            "none": around(300),
            "default-proxy": [95 * MB, 120 * MB, 100 * MB, 103 * MB, 130 * MB],
            "owned-proxy": around(100),
        },
    )
    assert story(found).startswith(
        "At its peak owned-proxy needs 100 MB above the baseline, none 300 MB (3.0 times as much);"
        " of default-proxy (103 MB) the runs do not say. In none, the redis holds 300 MB of it."
    )


def test_differences_below_the_resolution_are_none(tmp_path: Path) -> None:
    found = groups(tmp_path / "run", {"none": [50_000] * 5, "owned-proxy": [90_000] * 5})
    assert story(found) == (
        "No mode needs more than 1.57 MB above its baseline: that is less than can be told apart"
        " here."
    )


def test_one_mode_of_the_host_alone() -> None:
    found = group_runs([read_session(PAPER / "polaris-default-proxy")])
    assert story(found) == (
        "At its peak default-proxy needs 37.6 GB above the baseline. Three runs."
    )


def test_the_plan_in_words(tmp_path: Path) -> None:
    found = groups(tmp_path / "run", {"none": around(100), "owned-proxy": around(100, 3)})
    assert plan_in_words(found[0].session) == (
        "Two modes, three to five runs of each. A run is a workflow of two stages of 2 and 1 tasks,"
        " which sleep 0.5 s. Start data and each result have 100 KB to 1.00 MB, 3.10 MB in all."
    )


def of_a_graph(session: Session, levels: tuple[int, ...], totals: tuple[int, ...]) -> Session:
    assert session.workload is not None
    facts = replace(
        session.workload, task_counts=levels, bytes_sizes=(), total_bytes=totals, repeat=1
    )
    return replace(session, workload=facts)


def test_a_graph_in_words(tmp_path: Path) -> None:
    (group,) = groups(tmp_path / "run", {"none": around(100)})
    graph = of_a_graph(group.session, (4, 300, 1), (MB, 2 * MB, 3 * MB, 4 * MB))
    assert plan_in_words(graph) == (
        "One mode, five runs. A run is a graph of 305 tasks in three levels, which take 1.5 s at"
        " least on any number of workers. Start data and results have 10.0 MB in all."
    )
    # No flags say it: there is no command to show where none was recorded.
    assert not command(replace(graph, documents={}))
    said = captions.of_memory([replace(group, session=graph)])
    assert "a graph with levels of 4, 300 and 1 tasks, 10.0 MB a run." in said
    own = of_a_graph(group.session, (0,), (0, 0))
    assert plan_in_words(own) == "One mode, five runs. A run calls a function of its user's."


def test_where_and_when_it_was_run(tmp_path: Path) -> None:
    (group,) = groups(tmp_path / "run", {"none": around(100)})
    (line,) = circumstances([group.session])
    assert line == "2023-11-14, 18 s, Linux 6.1, Docker 28.0, run"


def test_peaks_over_several_nodes_are_said_to_be_lower_bounds() -> None:
    found = in_memory({"none": [100 * MB] * 5})
    for figures in found[0].runs:
        scope = figures.scopes[TOPOLOGY]
        spread = replace(scope, peak_kind="sampled", peak_interval_ns=20_000_000, nodes=2)
        spread = replace(spread, peak_most_bytes=112 * MB)
        figures.scopes[TOPOLOGY] = spread  # type: ignore[index]
    assert (
        "These are the highest sums of samples over several nodes: the true peaks are at most"
        " 12 % higher."
    ) in story(found)
    rows = {row[0]: row for row in summary(found).rows}
    assert str(rows["none"][3]).startswith("100 MB to 112 MB")
    assert rows["none"][-1] == "sampled at 20 ms, on 2 nodes"
