"""A real browser that opens one file and tells what it sees."""

from __future__ import annotations

import base64
import itertools
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.action_chains import ActionChains

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
PATIENCE_S = 60
"""How long anything may take, on a machine that has other work."""
_AXE = Path(__file__).parent / "vendor" / "axe.min.js"


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
    started.set_page_load_timeout(PATIENCE_S)
    started.set_script_timeout(PATIENCE_S)
    try:
        yield started
    finally:
        started.quit()


class Shown(ABC):
    """One file, open in a browser."""

    @abstractmethod
    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return its value, which may be promised."""

    @abstractmethod
    def complaints(self) -> list[str]:
        """Return what the console said since the page was opened."""

    def until(self, script: str, *arguments: Any) -> Any:
        """Wait until an expression is true, and return it."""
        return wait(lambda: self.run(f"return {script}", *arguments), script)

    def draw(self, selector: str) -> None:
        """Bring a chart on the screen, and wait until it is drawn."""
        self.run(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        self.until(f"document.querySelector({selector!r}).dataset.ready !== undefined")

    def draw_all(self) -> int:
        """Bring every chart on the screen, and return how many there are."""
        count: int = self.run("return document.querySelectorAll('.chart').length")
        for n in range(count):
            chart = f"document.querySelectorAll('.chart')[{n}]"
            self.run(f"{chart}.scrollIntoView({{block: 'center'}})")
            self.until(f"{chart}.dataset.ready !== undefined")
        return count

    def violations(self) -> list[str]:
        """Return what axe-core finds wrong, by rule and place, in all that is shown."""
        # The page itself is not changed by it.
        if not self.run("return typeof axe !== 'undefined'"):
            self.run("(0, eval)(arguments[0])", _AXE.read_text(encoding="utf-8"))
        found: list[str] = self.run(
            "document.querySelectorAll('details').forEach((each) => (each.open = true));"
            "return axe.run(document, {resultTypes: ['violations']}).then((found) =>"
            " found.violations.flatMap((rule) => rule.nodes.map((node) =>"
            " `${rule.id}: ${node.target.join(' ')}: ${node.failureSummary}`)))"
        )
        return found


class Page(Shown):
    """One file, open in Chromium."""

    def __init__(self, driver: WebDriver, path: Path) -> None:
        self.driver = driver
        driver.get_log("browser")
        driver.get_log("performance")
        driver.get(path.as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return its value."""
        return self.driver.execute_script(script, *arguments)

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

    def media(self, kind: str) -> None:
        """Show the page as on a medium, such as ``print``; empty: as on the screen."""
        self._devtools("Emulation.setEmulatedMedia", {"media": kind})

    def pdf(self) -> bytes:
        """Print the page."""
        printed = self._devtools("Page.printToPDF", {"printBackground": True})
        return base64.b64decode(printed["data"])

    def keys(self, *keys: str) -> None:
        """Press keys, one after the other."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def paste(self) -> None:
        """Put what was copied where the keyboard is."""
        key = {"type": "rawKeyDown", "commands": ["paste"], "key": "v", "modifiers": 2}
        self._devtools("Input.dispatchKeyEvent", key)

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
    deadline = time.monotonic() + PATIENCE_S
    while not (found := ready()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {PATIENCE_S} s: {what}")
        time.sleep(0.05)
    return found
