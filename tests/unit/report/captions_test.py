"""Captions name what is drawn, how many runs it is of, what bands are, and the machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.analysis.figures import group_runs
from harness.analysis.readers import read_session
from harness.cli import plot
from harness.report import captions
from harness.report.page import write_page
from harness.report.palette import mode_looks
from tests.rundirs import MANIFEST, write_run_directory

MB = 1_000_000
PAPER = Path(__file__).parents[2] / "data" / "paper"
MACHINE = {"cpu_model": "A CPU", "cpus": 4, "memory_bytes": 16_000_000_000, "kernel": "6.1"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = write_run_directory(
        tmp_path / "run", {"none": [30 * MB] * 3, "owned-proxy": [10 * MB] * 5}
    )
    made.manifest.write_text(json.dumps(MANIFEST | {"machine": MACHINE}))
    return made.path


def test_it_has_runs_interval_and_machine(directory: Path) -> None:
    groups = group_runs([read_session(directory)])
    said = captions.of_memory(groups)
    assert said.startswith("Memory of all services together over time, above the baseline")
    assert "band: from the lowest to the highest run." in said
    assert "n = 3 to 5 runs of none and owned-proxy." in said
    assert "on A CPU, 4 CPUs, 16.0 GB of memory, Linux 6.1." in said
    assert said.endswith("workflow-memory-harness 0.1.0.")
    assert "\n" not in said
    assert "with the baseline" in captions.of_memory(groups, net=False)
    assert captions.of_memory(groups, service="redis").startswith("Memory of redis over time")
    assert "n = 3 runs of none." in captions.of_peaks(groups[:1])
    assert "dotted line: the sleep of the tasks alone" in captions.of_makespans(groups)
    one = captions.of_services(groups[0], groups[0].runs[0])
    assert one.startswith("Memory by service over time. Run 0001-none-1, one of 3 of none;")


def test_data_without_a_machine_claims_none() -> None:
    session = read_session(PAPER / "polaris-default-proxy")
    said = captions.of_memory(group_runs([session]))
    assert said.startswith("Memory of the whole host over time")
    assert "28.2 GB a run. Measured 2024-" in said
    assert " on " not in said.partition("Measured")[2]


def test_a_curve_counts_the_runs_of_all_its_points(directory: Path) -> None:
    said = captions.of_points("net peak", "bytes", [read_session(directory)] * 2)
    assert said.startswith("Net peak over bytes; point: median of the runs;")
    assert "n = 3 to 5 runs of none and owned-proxy." in said


def test_the_page_has_one_below_each_figure(directory: Path, tmp_path: Path) -> None:
    session = read_session(directory)
    groups = group_runs([session])
    page = tmp_path / "page.html"
    write_page(page, [session], groups, None, mode_looks([(g.label, g.mode) for g in groups]))
    text = page.read_text()
    figures = len(re.findall(r'<div class="chart', text))
    # The first two stand beside each other, and share one.
    assert figures - 1 == text.count('<button type="button" class="copy">') == 5
    # Of another run the caption is another.
    charts = json.loads(re.findall(r'id="charts">(.*?)</script>', text)[0])
    runs = [chart["caption"] for key, chart in charts.items() if key.startswith("run-")]
    assert len(set(runs)) == len(runs) == 8


def test_plot_prints_it_below_the_file(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.svg"
    assert plot.main([str(directory), "--figure", "peaks", "-o", str(path)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == str(path)
    groups = group_runs([read_session(directory)])
    assert second == f"Caption: {captions.of_peaks(groups)}"
    assert captions.of_peaks(groups)[:40] in path.read_text()
