"""Executors' own object stores, asked while a run goes on."""

from __future__ import annotations

import time
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.executors import ObjectStore, executors
from harness.results.directory import RunDirectory
from harness.results.rows import read_rows
from harness.results.schema import ObjectStoreRow
from harness.workflow.server_watch import STORE_INTERVAL_S, watched_stores


def thread_config() -> Any:
    return executors.get("thread")()


def watched(config: Any, directory: RunDirectory) -> Any:
    executor: Executor = ThreadPoolExecutor()
    return watched_stores(config, executor, directory, "0001-none-1", {"here": "worker-1"}.get)


def test_stores_are_read_before_during_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = 0

    def stores(_config: Any, _executor: Executor) -> Any:
        return lambda: (ObjectStore("here", used, 1000), ObjectStore("elsewhere", 1, 1000))

    config = thread_config()
    monkeypatch.setattr(type(config), "object_stores", stores)
    directory = RunDirectory(tmp_path)
    with watched(config, directory):
        used = 300
        time.sleep(3 * STORE_INTERVAL_S)
        used = 200
    rows = read_rows(directory.object_stores, ObjectStoreRow)
    assert {(row.host, row.container) for row in rows} == {
        ("here", "worker-1"),
        ("elsewhere", None),
    }
    here = [row.used_bytes for row in rows if row.host == "here"]
    assert (here[0], max(here), here[-1]) == (0, 300, 200)
    assert {row.size_bytes for row in rows} == {1000}
    assert rows[0].t_mono_ns <= rows[-1].t_mono_ns <= time.monotonic_ns()


def test_an_executor_without_stores_leaves_no_file(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with watched(thread_config(), directory):
        pass
    assert not directory.object_stores.exists()


def test_stores_that_cannot_be_asked_end_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> Any:
        raise ConnectionError

    config = thread_config()
    monkeypatch.setattr(type(config), "object_stores", lambda _config, _executor: gone)
    directory = RunDirectory(tmp_path)
    done = False
    with watched(config, directory):
        done = True
    assert done
    assert read_rows(directory.object_stores, ObjectStoreRow) == []
