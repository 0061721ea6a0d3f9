"""The gallery as a reader sees it: in a real browser, opened from disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.browser import Page, browser
from tests.rundirs import MANIFEST, write_run_directory

MB = 1_000_000


def test_filters_sorting_and_curves(tmp_path: Path) -> None:
    for name, connector, peak in (
        ("one", "redis", 9),
        ("two", "file", 100),
        ("three", "redis", 20),
    ):
        directory = write_run_directory(tmp_path / "runs" / name, {"none": [peak * MB] * 3})
        plan: dict[str, Any] = {"executor_name": "dask", "connector_name": connector}
        directory.manifest.write_text(json.dumps(MANIFEST | {"plan": plan}))
    command = [sys.executable, "-m", "harness", "site", str(tmp_path / "runs")]
    subprocess.run([*command, "-o", str(tmp_path / "site")], check=True, timeout=120)
    with browser(tmp_path / "profile") as driver:
        page = Page(driver, tmp_path / "site" / "index.html")
        page.screen(1280, 900, dark=False)
        page.until("document.querySelector('#curve .xy') !== null")

        def names() -> list[str]:
            found: list[str] = page.run(
                "return [...document.querySelectorAll('#table-results tbody tr:not([hidden]) a')]"
                ".map((a) => a.textContent)"
            )
            return found

        def points() -> int:
            found: int = page.run("return document.getElementById('curve').data[0].x.length")
            return found

        assert len(names()) == points() == 3
        # By number: as text, 100 comes before 20 and 9.
        head = "[...document.querySelectorAll('th button')].find((b) => b.textContent === 'none')"
        page.run(f"{head}.click()")
        assert names() == ["one", "three", "two"]
        page.run(f"{head}.click()")
        assert names() == ["two", "three", "one"]
        page.run(
            "const one = document.querySelector('[data-filter=connector]');"
            "one.value = 'redis'; one.dispatchEvent(new Event('input'))"
        )
        assert names() == ["three", "one"]
        assert points() == 2
        assert page.run("return document.getElementById('count').textContent") == "2 of 3"
        page.run(
            "const one = document.getElementById('search');"
            "one.value = 'thr'; one.dispatchEvent(new Event('input'))"
        )
        assert names() == ["three"]
        assert page.complaints() == []
        # Of the browser's own first page something may still be on its way.
        assert [a for a in page.requests() if a.startswith(("http", "ws"))] == []
        driver.find_element("link text", "three").click()
        page.until("location.pathname.endsWith('three.html')")
        page.until("document.querySelector('[data-chart=makespans]') !== null")
        assert page.complaints() == []
