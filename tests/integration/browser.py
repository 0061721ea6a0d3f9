"""A real browser that opens one file and tells what it sees."""

from __future__ import annotations

import base64
import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
_PATIENCE_S = 60


@contextmanager
def browser(profile: Path) -> Iterator[WebDriver]:
    """Start Chromium with a fresh profile; without one the test fails, in one line."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.fail("chromium or chromedriver is not on PATH: run scripts/browser")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    try:
        started = webdriver.Chrome(options=options, service=Service(driver))
    except WebDriverException as error:
        pytest.fail(f"Chromium does not start: {str(error.msg).splitlines()[0]}")
    started.set_page_load_timeout(_PATIENCE_S)
    started.set_script_timeout(_PATIENCE_S)
    try:
        yield started
    finally:
        started.quit()


class Page:
    """One file, open in the browser."""

    def __init__(self, driver: WebDriver, path: Path) -> None:
        self.driver = driver
        driver.get_log("browser")
        driver.get_log("performance")
        driver.get(path.as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return its value."""
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str, *arguments: Any) -> Any:
        """Wait until an expression is true, and return it."""
        return wait(lambda: self.run(f"return {script}", *arguments), script)

    def draw(self, selector: str) -> None:
        """Bring a chart on the screen, and wait until it is drawn."""
        self.run(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        self.until(f"document.querySelector({selector!r}).dataset.ready !== undefined")

    def screen(self, width: int, height: int, *, dark: bool) -> None:
        """Give the browser a screen and the reader's preference of colours."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._devtools("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._devtools("Emulation.setEmulatedMedia", {"features": [scheme]})

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse at one point of the window, and let go at another."""
        self._mouse("mouseMoved", *start, 0)
        self._mouse("mousePressed", *start, 1)
        for step in range(1, 6):
            part = step / 5
            x = start[0] + (end[0] - start[0]) * part
            self._mouse("mouseMoved", x, start[1] + (end[1] - start[1]) * part, 1)
        self._mouse("mouseReleased", *end, 0)

    def hover_until(self, x: float, y: float, script: str, *arguments: Any) -> None:
        """Move the mouse about a point of the window until an expression is true."""
        moves = itertools.cycle((0, 1, 2))

        def moved() -> Any:
            self._mouse("mouseMoved", x + next(moves), y, 0)
            return self.run(f"return {script}", *arguments)

        wait(moved, script)

    def double_click(self, x: float, y: float) -> None:
        """Click twice at a point of the window."""
        self._mouse("mouseMoved", x, y, 0)
        for count in (1, 2):
            self._mouse("mousePressed", x, y, 1, count)
            self._mouse("mouseReleased", x, y, 0, count)

    def _mouse(self, kind: str, x: float, y: float, buttons: int, count: int = 1) -> None:
        event = {"type": kind, "x": x, "y": y, "buttons": buttons, "clickCount": count}
        if kind != "mouseMoved" or buttons:
            event["button"] = "left"
        self._devtools("Input.dispatchMouseEvent", event)

    def _devtools(self, command: str, arguments: dict[str, Any]) -> Any:
        return self.driver.execute_cdp_cmd(command, arguments)

    def complaints(self) -> list[str]:
        """Return what the console said since the page was opened."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return all addresses the page asked for, but data that is in it."""
        found = []
        for entry in self.driver.get_log("performance"):
            if '"Network.requestWillBeSent"' in entry["message"]:
                address = entry["message"].partition('"url":"')[2].partition('"')[0]
                if not address.startswith(("data:", "blob:")):
                    found.append(address)
        return found

    def screenshot(self, path: Path) -> None:
        """Write what is on the screen as PNG."""
        shot = self._devtools("Page.captureScreenshot", {"format": "png"})
        path.write_bytes(base64.b64decode(shot["data"]))


def wait(ready: Callable[[], Any], what: str) -> Any:
    """Wait until something is true, and return it; however busy the machine is."""
    deadline = time.monotonic() + _PATIENCE_S
    while not (found := ready()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {_PATIENCE_S} s: {what}")
        time.sleep(0.05)
    return found
