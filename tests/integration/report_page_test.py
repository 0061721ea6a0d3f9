"""A report's page as a reader sees it: in a real browser, opened from disk."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver

from tests.integration.browser import Page, browser, wait
from tests.rundirs import write_run_directory

MB = 1_000_000
PEAKS = {
    "none": [30 * MB, 31 * MB, 29 * MB, 30 * MB, 32 * MB],
    "owned-proxy": [10 * MB, 11 * MB, 10 * MB, 12 * MB, 11 * MB],
}
PAPER = Path(__file__).parents[1] / "data" / "paper"
CHARTS = ("ranked", "memory", "run-1", "run-2", "peaks", "makespans")


def selector(chart: str) -> str:
    return f"#{chart}" if chart.startswith("run-") else f'[data-chart="{chart}"]'


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("page") / "workflow-memory-of-a-test"
    write_run_directory(directory, PEAKS, interleaved=True)
    done = subprocess.run(
        [sys.executable, "-m", "harness", "report", str(directory)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return directory / "report.html"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def page(driver: WebDriver, report: Path) -> Page:
    opened = Page(driver, report)
    opened.screen(1280, 900, dark=False)
    return opened


def box(page: Page, chart: str) -> dict[str, float]:
    """Return where the chart's area of data is in the window."""
    found: dict[str, float] = page.run(
        "const area = document.querySelector(arguments[0] + ' .xy .plot, ' + arguments[0]"
        " + ' .nsewdrag').getBoundingClientRect();"
        "return {x: area.x, y: area.y, width: area.width, height: area.height}",
        selector(chart),
    )
    return found


def x_range(page: Page, chart: str) -> list[float]:
    found: list[float] = page.run(
        "return document.querySelector(arguments[0])._fullLayout.xaxis.range", selector(chart)
    )
    return found


def test_all_figures_are_there_and_the_console_is_silent(page: Page) -> None:
    for chart in CHARTS:
        page.draw(selector(chart))
        marks = page.run(
            "return document.querySelectorAll(arguments[0] + ' .trace').length", selector(chart)
        )
        assert marks >= 1, chart
    titles = page.run("return [...document.querySelectorAll('h2')].map((h) => h.textContent)")
    assert titles == [
        "What each mode needs at its peak",
        "Memory over time",
        "Memory by service, and tasks",
        "Peaks by service",
        "Summary",
        "Comparisons with none",
        "Runs and outcomes",
        "In the connector",
        "Ledger",
        "How it was measured: workflow-memory-of-a-test",
    ]
    said = page.run("return document.getElementById('story').textContent")
    assert said.startswith("At its peak ")
    assert page.complaints() == []


def test_the_page_needs_nothing_but_itself(page: Page, report: Path) -> None:
    for chart in CHARTS:
        page.draw(selector(chart))
    assert page.requests() == [report.as_uri()]
    buttons = page.run(
        "return [...document.querySelectorAll('.modebar-btn')].map((b) => b.dataset.title)"
    )
    assert buttons
    assert not [title for title in buttons if "loud" in title]


def test_dragging_zooms_and_a_double_click_shows_all(page: Page) -> None:
    page.draw(selector("memory"))
    before = x_range(page, "memory")
    area = box(page, "memory")
    middle = area["y"] + area["height"] / 2
    page.drag((area["x"] + area["width"] * 0.3, middle), (area["x"] + area["width"] * 0.6, middle))
    page.until(
        "Math.abs(document.querySelector(arguments[0])._fullLayout.xaxis.range[0] - arguments[1])"
        " > 0.1",
        selector("memory"),
        before[0],
    )
    zoomed = x_range(page, "memory")
    share = (zoomed[1] - zoomed[0]) / (before[1] - before[0])
    assert 0.25 < share < 0.35

    def shows_all() -> bool:
        # On a busy machine two clicks may be too far apart to be a double one.
        page.double_click(area["x"] + area["width"] / 2, middle)
        return abs(x_range(page, "memory")[0] - before[0]) < 0.01

    wait(shows_all, "a double click shows all")
    assert x_range(page, "memory") == pytest.approx(before, abs=0.01)


def test_pointing_at_a_chart_tells_the_values(page: Page) -> None:
    page.draw(selector("memory"))
    area = box(page, "memory")
    page.hover_until(
        area["x"] + area["width"] * 0.45,
        area["y"] + area["height"] * 0.5,
        "document.querySelector(arguments[0] + ' .hoverlayer text') !== null",
        selector("memory"),
    )
    said = page.run(
        "return document.querySelector(arguments[0] + ' .hoverlayer').textContent",
        selector("memory"),
    )
    assert "MB" in said
    assert " to " in said, "the spread over the runs is told too"
    assert "none" in said
    assert "owned-proxy" in said


def test_net_and_absolute_are_one_click_apart(page: Page) -> None:
    page.draw(selector("memory"))
    assert _shown_range(page)[1] < 60 * MB
    page.run("document.querySelector('input[value=absolute]').click()")
    page.until(
        "document.querySelector(arguments[0])._fullLayout.yaxis.title.text === 'memory in use'",
        selector("memory"),
    )
    assert _shown_range(page)[1] > 110 * MB


def _shown_range(page: Page) -> list[float]:
    found: list[float] = page.run(
        "return document.querySelector(arguments[0])._fullLayout.yaxis.range", selector("memory")
    )
    return found


def test_another_run_can_be_chosen(page: Page) -> None:
    page.draw(selector("run-1"))
    options = page.run(
        "return [...document.querySelectorAll('[data-chooses=run-1] option')].map((o) => o.value)"
    )
    assert len(options) == 5
    page.run(
        "const list = document.querySelector('[data-chooses=run-1]');"
        "list.value = arguments[0]; list.dispatchEvent(new Event('change'))",
        options[-1],
    )
    page.until("document.getElementById('run-1').dataset.ready === arguments[0]", options[-1])


def test_a_runs_tasks_stages_and_predictions_share_its_time_axis(page: Page) -> None:
    page.draw(selector("run-2"))
    found: dict[str, Any] = page.run(
        """
        const chart = document.getElementById("run-2");
        return {
          names: chart.data.map((trace) => trace.name),
          axes: [...new Set(chart.data.map((trace) => trace.xaxis ?? "x"))],
          workers: chart._fullLayout.yaxis2._categories,
          edges: chart.layout.shapes.length,
        };
        """
    )
    assert {"redis", "worker x 2", "all together", "resolving inputs", "working"} <= set(
        found["names"]
    )
    assert {"baseline + predicted", "baseline + ideal"} <= set(found["names"])
    assert found["axes"] == ["x"]
    assert found["workers"] == ["worker-1", "worker-2"]
    assert found["edges"] == 3


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_text_and_lines_stand_out_on_every_screen(page: Page, width: int, dark: bool) -> None:
    page.screen(width, 900, dark=dark)
    for chart in CHARTS:
        page.draw(selector(chart))
    page.until("document.documentElement.scrollWidth <= window.innerWidth")
    paper = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (_luminance(paper) < 0.1) is dark
    for element, least in (
        ("body", 7),
        (".note", 4.5),
        ("th", 4.5),
        ("a", 4.5),
        ("td.worse, td.better", 4.5),
    ):
        color = page.run(
            "const found = document.querySelector(arguments[0]);"
            "return found ? getComputedStyle(found).color : null",
            element,
        )
        assert color is not None, element
        assert _contrast(color, paper) >= least, element
    lines = page.run(
        "return [...document.querySelectorAll('[data-chart=memory] .js-line')]"
        ".map((line) => getComputedStyle(line).stroke).filter((c) => c.startsWith('rgb('))"
    )
    assert lines
    for color in lines:
        assert _contrast(color, paper) >= 3, color
    assert page.complaints() == []


def _luminance(color: str) -> float:
    """Return the relative luminance of ``rgb(r, g, b)`` (WCAG 2.2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours (WCAG 2.2)."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_modes_differ_without_colour(page: Page) -> None:
    page.draw(selector("memory"))
    dashes = page.run(
        "return document.querySelector(arguments[0]).data"
        ".filter((t) => t.meta === 'net' && t.line.width === 2).map((t) => t.line.dash)",
        selector("memory"),
    )
    assert len(set(dashes)) == len(dashes) == 2
    verdicts = page.run(
        "return [...document.querySelectorAll('#table-comparisons td:last-child')]"
        ".map((cell) => getComputedStyle(cell, '::before').content)"
    )
    assert "none" not in verdicts


def test_the_papers_data_is_drawn(driver: WebDriver, tmp_path: Path) -> None:
    directories = [str(path) for path in sorted(PAPER.iterdir()) if path.is_dir()]
    done = subprocess.run(
        [sys.executable, "-m", "harness", "report", *directories, "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    page = Page(driver, tmp_path / "report.html")
    page.draw(selector("memory"))
    names = page.run(
        "return document.querySelector(arguments[0]).data.map((t) => t.name)", selector("memory")
    )
    assert "default-proxy (3 runs)" in names
    assert "all payload, 28.2 GB" in names
    assert page.complaints() == []
