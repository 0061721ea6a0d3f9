"""Asking a connector's server how its memory is made up, over and over, while a run goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from proxystore.connectors.protocols import Connector

from harness.connectors import ConnectorConfig
from harness.results.directory import RunDirectory
from harness.results.rows import RowWriter
from harness.results.schema import ServerRow

INTERVAL_S = 0.05


@contextmanager
def watched_server(
    config: ConnectorConfig, connector: Connector[Any], directory: RunDirectory, run_id: str
) -> Iterator[None]:
    """Write a row each 50 ms of what is done here; nothing where no server can be asked."""
    ended = threading.Event()

    def watch() -> None:
        # A server that answers no more is the run's outcome, not ours.
        with suppress(Exception), ExitStack() as stack:
            parts = stack.enter_context(config.server_parts(connector))
            if parts is None:
                return
            rows = stack.enter_context(RowWriter(directory.server, ServerRow))
            due = time.monotonic()
            while not ended.wait(max(0.0, due - time.monotonic())):
                due = max(due + INTERVAL_S, time.monotonic())
                found = parts()
                now = time.monotonic_ns(), time.time_ns()
                rows.write(ServerRow(run_id, *now, **vars(found)))

    thread = threading.Thread(target=watch, name="server watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5.0)
