"""Firefox, which opens one file and tells what it sees.

It speaks WebDriver BiDi by itself. What Selenium needs beside it, geckodriver, is in no Debian.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import websocket

from tests.integration.browser import PATIENCE_S, Shown

_LISTENS = re.compile(r"WebDriver BiDi listening on (ws://\S+)")
# Neither a first page nor anything else asks the network, and pages may be told to be dark.
_PREFERENCES = {
    "app.update.disabledForTesting": True,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "toolkit.telemetry.enabled": False,
}


class Firefox:
    """A connection to a Firefox that runs, and what it has said."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(
            f"{address}/session", suppress_origin=True, timeout=PATIENCE_S
        )
        self._number = 0
        self.said: list[dict[str, Any]] = []
        self.call("session.new", capabilities={})
        self.call("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
        (tab, *_) = self.call("browsingContext.getTree")["contexts"]
        self.tab = tab["context"]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of WebDriver BiDi and return its result; events meanwhile are kept."""
        self._number += 1
        request = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(request))
        while True:
            answer: dict[str, Any] = json.loads(self._socket.recv())
            if answer.get("type") == "event":
                self.said.append(answer)
            elif answer.get("id") == self._number:
                assert answer["type"] == "success", f"{method}: {answer.get('message')}"
                result: dict[str, Any] = answer["result"]
                return result

    def close(self) -> None:
        """Let it go."""
        with suppress(OSError, websocket.WebSocketException):
            self._socket.close()


@contextmanager
def firefox(profile: Path, *, dark: bool) -> Iterator[Firefox]:
    """Start Firefox with a fresh profile; without one the test fails, in one line."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        pytest.fail("neither firefox-esr nor firefox is on PATH: run scripts/browser")
    profile.mkdir(parents=True)
    preferences = _PREFERENCES | {"ui.systemUsesDarkTheme": int(dark)}
    lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in preferences.items()]
    (profile / "user.js").write_text("\n".join(lines))
    process = subprocess.Popen(
        [
            *(program, "--headless", "--no-remote", "--profile", str(profile)),
            *("--remote-debugging-port", "0", "about:blank"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        browser = Firefox(_address(process))
        try:
            yield browser
        finally:
            browser.close()
    finally:
        process.terminate()
        try:
            process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[str]) -> str:
    """Wait until Firefox says where it listens."""
    assert process.stderr is not None
    stderr, found = process.stderr, threading.Event()
    lines: list[str] = []

    def read() -> None:
        for line in stderr:
            lines.append(line)
            if _LISTENS.search(line):
                found.set()
        found.set()

    # It goes on reading: a full pipe would stop the browser.
    threading.Thread(target=read, daemon=True).start()
    found.wait(PATIENCE_S)
    listening = [match[1] for match in map(_LISTENS.search, lines) if match]
    if not listening:
        pytest.fail(f"Firefox does not start: {' '.join(lines[-3:]).strip()}")
    return listening[0]


class FirefoxPage(Shown):
    """One file, open in Firefox."""

    def __init__(self, browser: Firefox, path: Path) -> None:
        self.browser = browser
        browser.said.clear()
        self._tab("browsingContext.navigate", url=path.as_uri(), wait="complete")

    def _tab(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.call(method, context=self.browser.tab, **parameters)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return its value."""
        # As text, values need no spelling of their own.
        found = self.browser.call(
            "script.callFunction",
            functionDeclaration="async (given) => JSON.stringify(await (async function() {"
            + script
            + "}).apply(null, JSON.parse(given)) ?? null)",
            arguments=[{"type": "string", "value": json.dumps(arguments)}],
            awaitPromise=True,
            target={"context": self.browser.tab},
        )
        assert found["type"] == "success", found.get("exceptionDetails", {}).get("text")
        return json.loads(found["result"]["value"])

    def screen(self, width: int, height: int) -> None:
        """Give the page a screen."""
        self._tab("browsingContext.setViewport", viewport={"width": width, "height": height})
        self.until(f"innerWidth === {width}")

    def keys(self, *keys: str) -> None:
        """Press keys, one after the other."""
        presses = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        keyboard = {"type": "key", "id": "keyboard", "actions": presses}
        self._tab("input.performActions", actions=[keyboard])

    def point(self, x: float, y: float) -> None:
        """Move the mouse to a point of the window."""
        move = {"type": "pointerMove", "x": round(x), "y": round(y), "duration": 50}
        mouse = {"type": "pointer", "id": "mouse", "actions": [move]}
        self._tab("input.performActions", actions=[mouse])

    def pdf(self) -> bytes:
        """Print the page."""
        return base64.b64decode(self._tab("browsingContext.print", background=True)["data"])

    def screenshot(self, path: Path) -> None:
        """Write what is on the screen as PNG."""
        path.write_bytes(base64.b64decode(self._tab("browsingContext.captureScreenshot")["data"]))

    def complaints(self) -> list[str]:
        """Return what the console said since the page was opened."""
        self._settle()
        said = [e["params"] for e in self.browser.said if e["method"] == "log.entryAdded"]
        return [f"{entry['level']}: {entry['text']}" for entry in said]

    def requests(self) -> list[str]:
        """Return all addresses the page asked for, but data that is in it."""
        self._settle()
        sent = [
            event["params"]["request"]["url"]
            for event in self.browser.said
            if event["method"] == "network.beforeRequestSent"
        ]
        return [address for address in sent if not address.startswith(("data:", "blob:"))]

    def _settle(self) -> None:
        """Read what was said up to now: events come before the answer to a later call."""
        time.sleep(0.2)
        self.run("return 1")
