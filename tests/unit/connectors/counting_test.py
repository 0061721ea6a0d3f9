"""What connectors hold is asked of the storage, in this process and in others."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import pytest
from proxystore.connectors.file import FileConnector, FileKey
from proxystore.store.base import Store

from harness.connectors import ConnectorConfig, Held
from harness.connectors._journal import Journalled
from harness.connectors._zmq_connector import ZeroMQConnector
from harness.connectors.file import FileConfig
from harness.connectors.local import LocalConfig
from harness.connectors.multi import MultiConfig
from harness.connectors.zmq import ZeroMQConfig
from harness.core.errors import InfrastructureError


@pytest.fixture
def port() -> int:
    with socket.socket() as unused:
        unused.bind(("", 0))
        return int(unused.getsockname()[1])


def servers() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "_zmq_server" in " ".join(p.cmdline())]


@pytest.fixture(params=["local", "file", "zmq", "multi"])
def config(request: pytest.FixtureRequest, port: int, tmp_path: Path) -> ConnectorConfig:
    file = FileConfig(directory=str(tmp_path))
    return {
        "local": LocalConfig(),
        "file": file,
        "zmq": ZeroMQConfig(port=port),
        "multi": MultiConfig(
            small_name="zmq",
            large_name="file",
            small=ZeroMQConfig(port=port),
            large=file,
            threshold=1000,
        ),
    }[request.param]


def test_held_follows_put_and_evict(config: ConnectorConfig) -> None:
    with config.open() as connector:
        assert config.held(connector) == Held(0, 0)
        small, large = connector.put(b"x" * 10), connector.put(b"y" * 5000)
        assert config.held(connector) == Held(2, 5010)
        assert bytes(connector.get(large) or b"") == b"y" * 5000
        connector.evict(large)
        assert config.held(connector) == Held(1, 10)
        connector.evict(small)
        assert config.held(connector) == Held(0, 0)
    assert servers() == []


def test_multi_puts_by_size(tmp_path: Path) -> None:
    file = FileConfig(directory=str(tmp_path))
    config = MultiConfig(
        small_name="local", large_name="file", small=LocalConfig(), large=file, threshold=100
    )
    with config.open() as connector:
        names = [connector.put(bytes(size)).connector_name for size in (1, 99, 100, 5000)]
    assert names == ["small", "small", "large", "large"]


def put_in_another_process(config: Any, results: Any) -> None:
    with Store.from_config(config) as store:
        results.put(store.put(b"z" * 100))
        results.get()  # a connector that ends takes its server along


def test_zmq_serves_threads_and_forked_and_fresh_processes(port: int) -> None:
    config = ZeroMQConfig(port=port)
    with config.open() as connector:
        store: Store[Any] = Store("counting", connector, cache_size=0)
        with ThreadPoolExecutor(8) as pool:
            keys = list(pool.map(store.put, [bytes(100_000)] * 64))
            assert {len(data or b"") for data in pool.map(store.get, keys)} == {100_000}
        assert config.held(connector).objects == 64
        for context in (get_context("fork"), get_context("spawn")):
            results = context.SimpleQueue()
            process = context.Process(target=put_in_another_process, args=(store.config(), results))
            process.start()
            assert store.get(results.get()) == b"z" * 100
            results.put(None)
            process.join(30)
            assert process.exitcode == 0
        assert config.held(connector).objects == 66
        assert len(servers()) == 1
    assert servers() == []


def test_zmq_counts_all_hosts_servers(port: int) -> None:
    with ZeroMQConfig(port=port).open() as home:
        assert isinstance(home, ZeroMQConnector)
        # Another address is another host's, as far as ZeroMQ is concerned.
        there = home.config() | {"address": "127.0.0.77"}
        other = ZeroMQConnector(**there)
        try:
            key = other.put(b"there")
            assert home.get(key) == b"there"
            home.put(b"here")
            assert home.held().objects == 2
            assert len(servers()) == 2
        finally:
            other.close()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("harness.connectors._zmq_connector._ANSWER_TIMEOUT_S", 0.2)
            with pytest.raises(InfrastructureError, match=r"127.0.0.77:\d+ does not answer"):
                home.held()
    assert servers() == []


def test_zmq_does_not_wait_for_ever_for_a_server_that_is_gone(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.connectors._zmq_connector._ANSWER_TIMEOUT_S", 0.2)
    with ZeroMQConfig(port=port).open() as connector:
        key = connector.put(b"data")
        (server,) = servers()
        server.kill()
        for _ in range(2):  # a socket that waits for an answer could send nothing else
            with pytest.raises(TimeoutError, match=str(port)):
                connector.get(key)


def test_a_zmq_port_that_is_taken_is_said_in_one_line(port: int) -> None:
    config = ZeroMQConfig(port=port)
    with config.open():
        with pytest.raises(InfrastructureError, match=f"--ps-port {port}: .* choose another"):
            config.open().__enter__()
        assert len(servers()) == 1
    with socket.socket() as taken:
        taken.bind((socket.gethostbyname(socket.gethostname()), port))
        taken.listen()
        with pytest.raises(InfrastructureError, match=r"did not start: Address already in use"):
            config.open().__enter__()
    assert servers() == []


def test_a_zmq_interface_that_is_not_there_is_said_in_one_line(port: int) -> None:
    with pytest.raises(InfrastructureError, match="--ps-interface nosuch0: this host has no"):
        ZeroMQConfig(port=port, interface="nosuch0").open().__enter__()


def test_a_zmq_server_ends_with_a_client_that_is_killed(port: int) -> None:
    program = (
        "import time; from harness.connectors.zmq import ZeroMQConfig\n"
        f"with ZeroMQConfig(port={port}).open(): print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"open\n"
        (server,) = psutil.Process(client.pid).children()
        os.kill(client.pid, signal.SIGKILL)
    server.wait(timeout=5)


class JournalledFileConnector(Journalled, FileConnector):
    key_type = FileKey


@pytest.fixture
def journalled(tmp_path: Path) -> Iterator[JournalledFileConnector]:
    journal = tmp_path / "journal"
    journal.mkdir()
    with JournalledFileConnector(str(tmp_path / "objects"), journal=str(journal)) as connector:
        yield connector


def test_a_journal_counts_what_every_process_has_put(journalled: JournalledFileConnector) -> None:
    keys = [*journalled.put_batch([b"1", b"22"]), journalled.put(b"333")]
    store: Store[Any] = Store("journalled", journalled, cache_size=0)
    found = []

    def elsewhere() -> None:
        again = JournalledFileConnector(**store.config().connector.options)
        found.append(again.put(b"4444"))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert journalled.held() == Held(4, 10)
    for key in [keys[0], *found]:
        journalled.evict(key)
    assert journalled.held() == Held(2, 5)
    assert journalled.held() == Held(2, 5)
