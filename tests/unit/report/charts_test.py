from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis.figures import Group, group_runs
from harness.analysis.readers import read_session
from harness.analysis.timeline import task_bars
from harness.report import charts
from harness.report.charts import run_chart
from harness.report.first_screen import makespan_chart
from harness.report.palette import Look, dark_colors, look, mode_looks
from tests.rundirs import write_run_directory

MB = 1_000_000
PAPER = Path(__file__).parents[2] / "data" / "paper"


def values(packed: dict[str, str]) -> Any:
    found = np.frombuffer(base64.b64decode(packed["bdata"]), "<f4")
    return (
        found.reshape([int(n) for n in packed["shape"].split(",")]) if "shape" in packed else found
    )


@pytest.fixture
def groups(tmp_path: Path) -> list[Group]:
    peaks = {"none": [30 * MB, 40 * MB], "owned-proxy": [10 * MB]}
    return group_runs([read_session(write_run_directory(tmp_path / "run", peaks).path)])


def looks_of(groups: list[Group]) -> dict[str, Look]:
    return mode_looks([(group.label, group.mode) for group in groups])


def test_the_memory_chart_has_the_median_run_and_the_others_net_and_absolute(
    groups: list[Group],
) -> None:
    chart = charts.memory_chart(groups, looks_of(groups))
    assert chart is not None
    net = [trace for trace in chart["data"] if trace["meta"] == "net"]
    absolute = [trace for trace in chart["data"] if trace["meta"] == "absolute"]
    # none has two runs and so a band, owned-proxy one.
    assert [trace["name"] for trace in net] == [
        "none, lowest",
        "none, highest",
        "none (2 runs)",
        "owned-proxy (1 run)",
    ]
    assert len(absolute) == len(net)
    assert values(net[1]["y"]).max() == 40 * MB
    assert values(net[2]["y"]).max() == 40 * MB
    assert values(net[2]["customdata"]).max(axis=0).tolist() == [30 * MB, 40 * MB]
    assert values(absolute[1]["y"]).max() == 150 * MB


def test_what_default_proxy_must_hold_is_a_line() -> None:
    found = group_runs([read_session(PAPER / "polaris-default-proxy")])
    chart = charts.memory_chart(found, looks_of(found))
    assert chart is not None
    assert chart["data"][-1]["y"] == [28_168_000_000] * 2


def test_a_runs_chart_stacks_services_and_shows_tasks(groups: list[Group]) -> None:
    chart = run_chart(groups[1], groups[1].figures[0], 2000, 100)
    assert chart is not None
    stacked = [trace for trace in chart["data"] if "stackgroup" in trace]
    assert [trace["name"] for trace in stacked] == ["worker x 2", "redis"]
    total = next(trace for trace in chart["data"] if trace["name"] == "all together")
    tops = sum(values(trace["y"]) for trace in stacked)
    assert tops == pytest.approx(values(total["y"]))
    bars = [trace for trace in chart["data"] if trace["type"] == "bar"]
    assert bars[1]["x"] == pytest.approx([0.55] * 3)
    assert [shape["x0"] for shape in chart["layout"]["shapes"]] == pytest.approx([0.1, 0.92, 1.8])


def test_pointing_at_a_task_tells_how_long_it_took(groups: list[Group]) -> None:
    chart = run_chart(groups[1], groups[1].figures[0], 2000, 100)
    assert chart is not None
    resolving, working = (trace for trace in chart["data"] if trace["type"] == "bar")
    # Of a bar that starts elsewhere than at 0, x would be its end.
    assert working["base"][0] == pytest.approx(0.25)
    assert "%{x" not in working["hovertemplate"]
    assert "%{customdata} s" in working["hovertemplate"]
    assert (resolving["customdata"], working["customdata"]) == (["0.100"] * 3, ["0.550"] * 3)


def test_of_many_tasks_the_first_are_shown_and_said(groups: list[Group]) -> None:
    chart = run_chart(groups[1], groups[1].figures[0], 2000, 2)
    assert chart is not None
    assert all(len(trace["x"]) == 2 for trace in chart["data"] if trace["type"] == "bar")
    assert "the first 2 of 3 tasks" in chart["layout"]["xaxis"]["title"]["text"]


def test_peaks_show_every_group(groups: list[Group]) -> None:
    peaks = charts.peaks_chart(groups, looks_of(groups))
    assert peaks is not None
    assert [trace["name"] for trace in peaks["data"]] == ["none", "owned-proxy"]
    assert peaks["data"][0]["y"] == [35 * MB, 0, 35 * MB]
    assert peaks["data"][0]["error_y"]["array"] == [5 * MB, 0, 5 * MB]


def test_workers_are_sorted_by_number_and_idle_ones_are_rows(groups: list[Group]) -> None:
    bars = task_bars(groups[0].session, groups[0].runs[0].run)
    assert charts._workers([bars[0]], {"worker": 12})[8:] == [f"worker-{n}" for n in range(9, 13)]
    assert charts._workers([], {}) == []


def test_without_memory_there_are_makespans_only(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [MB]})
    directory.memory("cgroup").unlink()
    found = group_runs([read_session(directory.path)])
    assert charts.memory_chart(found, looks_of(found)) is None
    assert charts.peaks_chart(found, looks_of(found)) is None
    assert run_chart(found[0], found[0].figures[0], 100, 100) is None
    makespans = makespan_chart(found, looks_of(found))
    assert makespans is not None
    assert makespans["data"][0]["x"] == [2.0]


def test_a_mode_looks_the_same_in_every_report_and_none_like_another() -> None:
    alone = mode_looks([("owned-proxy", "owned-proxy")])
    both = mode_looks([("none", "none"), ("owned-proxy", "owned-proxy")])
    assert alone["owned-proxy"] == both["owned-proxy"] != both["none"]
    twice = mode_looks([("none (a)", "none"), ("none (b)", "none"), ("x", "x")])
    assert len(set(twice.values())) == 3
    first_eight = [look(number) for number in range(8)]
    assert len({style.color for style in first_eight}) == 8
    assert len({(style.dash, style.symbol, style.hatch) for style in first_eight}) == 8
    assert {style.color for style in first_eight} <= set(dark_colors())
