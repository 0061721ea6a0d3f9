"""Every page in both browsers: nobody is shut out, the console is silent, nothing is fetched."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver

from tests.integration.browser import Page, Shown, browser
from tests.integration.firefox import Firefox, FirefoxPage, firefox
from tests.many_runs import write_sweep, write_versions
from tests.rundirs import MANIFEST, write_run_directory

MB = 1_000_000
PAGES = ("report", "comparison", "gallery", "history", "sweep")
TAB, ENTER = "\ue004", "\ue007"


def _harness(*words: object) -> None:
    command = [sys.executable, "-m", "harness", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write one page of each kind."""
    root = tmp_path_factory.mktemp("pages")
    runs = {}
    for name, peak in (("before", 30), ("after", 20)):
        peaks = {"none": [peak * MB] * 5, "owned-proxy": [10 * MB] * 5}
        runs[name] = write_run_directory(root / "runs" / name, peaks, interleaved=True)
        plan: dict[str, Any] = {"executor_name": "dask", "connector_name": "redis"}
        runs[name].manifest.write_text(json.dumps(MANIFEST | {"plan": plan}))
    # One has a warning.
    verdicts = {"timed out": 1, "settled": 9}
    late: dict[str, Any] = {"verdicts": verdicts, "timed_out": ["0001-none-1"]}
    quality = {"baseline": late | {"bound_bytes": MB, "window_ns": 10**8}}
    (runs["before"].path / "quality.json").write_text(json.dumps(quality))
    _harness("report", runs["before"].path)
    _harness("report", runs["before"].path, runs["after"].path, "-o", root / "comparison")
    _harness("site", root / "runs", "-o", root / "site")
    write_versions(root / "history", {"2025.2.0": 600, "2025.4.0": 450}, ("none",))
    (root / "history" / "history.json").write_text(
        json.dumps({"package": "dask", "plan": {}, "with": [], "skipped": {}})
    )
    _harness("history", "--page-only", root / "history")
    _harness("sweep", "--page-only", write_sweep(root / "sweep"))
    return {
        "report": runs["before"].path / "report.html",
        "comparison": root / "comparison" / "report.html",
        "gallery": root / "site" / "index.html",
        "history": root / "history" / "history.html",
        "sweep": root / "sweep" / "sweep.html",
    }


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with browser(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture(scope="module", params=[False, True], ids=["light", "dark"])
def fox(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Firefox]:
    with firefox(tmp_path_factory.mktemp("firefox") / "profile", dark=request.param) as started:
        yield started


def _drawn(page: Shown) -> None:
    page.until("typeof Plotly !== 'undefined'")
    count = page.draw_all()
    curves = page.run("return document.querySelectorAll('.curve .xy').length")
    assert count + curves > 0


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_chromium_shows_it_to_everybody(
    chromium: WebDriver, pages: dict[str, Path], name: str, dark: bool, width: int
) -> None:
    page = Page(chromium, pages[name])
    page.screen(width, 900, dark=dark)
    _drawn(page)
    assert page.violations() == []
    assert page.run("return document.documentElement.scrollWidth") <= width
    assert page.complaints() == []
    assert [a for a in page.requests() if a.startswith(("http", "ws"))] == []


@pytest.mark.parametrize("name", PAGES)
def test_firefox_shows_it_to_everybody(fox: Firefox, pages: dict[str, Path], name: str) -> None:
    page = FirefoxPage(fox, pages[name])
    for width in (1280, 400):
        page.screen(width, 900)
        _drawn(page)
        assert page.violations() == []
        assert page.run("return document.documentElement.scrollWidth") <= width
    assert page.complaints() == []
    assert [a for a in page.requests() if a.startswith(("http", "ws"))] == []


@pytest.mark.parametrize("name", PAGES)
def test_what_is_printed_is_whole(chromium: WebDriver, pages: dict[str, Path], name: str) -> None:
    page = Page(chromium, pages[name])
    # A sheet of A4 at 96 points an inch.
    page.screen(794, 1123, dark=False)
    page.media("print")
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    page.until(
        "[...document.querySelectorAll('.chart')].every((one) => one.dataset.ready !== undefined)"
    )
    assert page.run("return document.documentElement.scrollWidth") <= 794
    assert page.violations() == []
    page.media("")
    assert page.pdf().startswith(b"%PDF-")


def test_firefox_draws_points_and_zooms_as_chromium_does(
    fox: Firefox, pages: dict[str, Path]
) -> None:
    page = FirefoxPage(fox, pages["report"])
    page.screen(1280, 900)
    page.draw('[data-chart="memory"]')
    area = page.run(
        "const area = document.querySelector('[data-chart=memory] .nsewdrag')"
        ".getBoundingClientRect(); return [area.x, area.y, area.width, area.height]"
    )
    layer, said = "[data-chart=memory] .hoverlayer", ""
    x, y = area[0] + area[2] * 0.45, area[1] + area[3] / 2
    for step in range(50):
        page.point(x + step % 3, y)
        said = page.run(f"return document.querySelector({layer!r}).textContent")
        if said:
            break
    assert "MB" in said
    assert page.pdf().startswith(b"%PDF-")
    assert page.complaints() == []


def _reached(page: Page | FirefoxPage) -> Iterator[str]:
    """Press the tabulator key again and again, and yield what it comes to."""
    page.run("scrollTo(0, 0); document.activeElement.blur()")
    for _ in range(150):
        page.keys(TAB)
        here: str = page.run(
            "const one = document.activeElement;"
            "return one === document.body ? '' : one.className || one.name || one.tagName"
        )
        yield here


ALL = {"A", "copy", "memory-switch", "scroll", "SELECT", "SUMMARY"}


def test_firefox_needs_no_mouse(fox: Firefox, pages: dict[str, Path]) -> None:
    page = FirefoxPage(fox, pages["report"])
    page.screen(1280, 900)
    _drawn(page)
    assert set(_reached(page)) >= ALL
    # Its window is never in front here: what the enter key does is asked of Chromium.
    page.run("document.querySelector('#memory button.copy').click()")
    page.until("document.querySelector('#memory button.copy').textContent === 'Copied'")


def test_chromium_shows_where_the_keyboard_is(chromium: WebDriver, pages: dict[str, Path]) -> None:
    page = Page(chromium, pages["report"])
    page.screen(1280, 900, dark=False)
    _drawn(page)
    reached: set[str] = set()
    for here in _reached(page):
        if here in ALL - reached:
            outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", here
        if here == "copy" and "copy" not in reached:
            page.keys(ENTER)
            page.until("document.activeElement.textContent === 'Copied'")
        reached.add(here)
    assert reached >= ALL


def test_a_caption_is_copied_from_disk(chromium: WebDriver, pages: dict[str, Path]) -> None:
    page = Page(chromium, pages["report"])
    page.screen(1280, 900, dark=False)
    _drawn(page)
    said = page.run(
        "const button = document.querySelector('#memory button.copy');"
        "const area = document.createElement('textarea'); area.id = 'pasted';"
        "document.body.append(area); button.scrollIntoView({block: 'center'});"
        "return button.parentElement.querySelector('span').textContent"
    )
    chromium.find_element("css selector", "#memory button.copy").click()
    page.until("document.querySelector('#memory button.copy').textContent === 'Copied'")
    chromium.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]})
    page.run("document.getElementById('pasted').focus()")
    page.paste()
    assert page.run("return document.getElementById('pasted').value") == said
