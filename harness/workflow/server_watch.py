"""Asking servers and stores what their memory is, over and over, while a run goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from proxystore.connectors.protocols import Connector

from harness.connectors import ConnectorConfig
from harness.executors import ExecutorConfig
from harness.results.directory import RunDirectory
from harness.results.rows import RowWriter
from harness.results.schema import ObjectStoreRow, ServerRow
from harness.workflow.tasks import ContainerName

INTERVAL_S = 0.05
STORE_INTERVAL_S = 0.1


@contextmanager
def watched_server(
    config: ConnectorConfig, connector: Connector[Any], directory: RunDirectory, run_id: str
) -> Iterator[None]:
    """Write a row each 50 ms of what is done here; nothing where no server can be asked."""

    def watch(ticks: Iterator[None]) -> None:
        with ExitStack() as stack:
            parts = stack.enter_context(config.server_parts(connector))
            if parts is None:
                return
            rows = stack.enter_context(RowWriter(directory.server, ServerRow))
            for _ in ticks:
                found = parts()
                now = time.monotonic_ns(), time.time_ns()
                rows.write(ServerRow(run_id, *now, **vars(found)))

    with _beside("server watch", watch, INTERVAL_S):
        yield


@contextmanager
def watched_stores(
    config: ExecutorConfig,
    executor: Executor,
    directory: RunDirectory,
    run_id: str,
    container: ContainerName,
) -> Iterator[None]:
    """Write rows each 100 ms of what is done here; nothing where an executor has no stores.

    The first and the last are of before and after it, however short it is.
    """
    stores = config.object_stores(executor)
    if stores is None:
        yield
        return
    asked = stores

    with RowWriter(directory.object_stores, ObjectStoreRow) as rows:

        def note() -> None:
            for each in asked():
                now = time.monotonic_ns(), time.time_ns()
                sizes = each.used_bytes, each.size_bytes
                rows.write(ObjectStoreRow(run_id, *now, container(each.host), each.host, *sizes))

        def watch(ticks: Iterator[None]) -> None:
            for _ in ticks:
                note()

        with suppress(Exception):
            note()
        with _beside("store watch", watch, STORE_INTERVAL_S):
            yield
        with suppress(Exception):
            note()


@contextmanager
def _beside(
    name: str, watch: Callable[[Iterator[None]], object], interval_s: float
) -> Iterator[None]:
    """Call ``watch`` on a thread with ticks that end when this context does."""
    ended = threading.Event()

    def ticks() -> Iterator[None]:
        due = time.monotonic()
        while not ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + interval_s, time.monotonic())
            yield

    def work() -> None:
        # What answers no more is the run's outcome, not ours.
        with suppress(Exception):
            watch(ticks())

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5.0)
