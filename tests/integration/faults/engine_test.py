"""An engine that is restarted, frozen, full, or out of subnets: one of the tests' own."""

from __future__ import annotations

import io
import os
import signal
import socket
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from docker.models.networks import Network

from harness.images import ensure
from tests.integration.faults.engine import OwnEngine, images_for
from tests.integration.faults.injection import (
    BOUND_S,
    Cell,
    Table,
    harness,
    inject,
    left_in,
    left_of,
    resume,
    start,
)

# Several faults each, on a machine that may do much else.
# Each has an engine of its own.
pytestmark = [pytest.mark.timeout(900), pytest.mark.root]

POOL = [
    *("--executor", "thread", "--thread-pool-max-workers", "2", "--ps-connector", "file"),
    *("--data-management", "owned-proxy", "--stage-task-counts", "1", "2", "1"),
    *("--stage-bytes-sizes", "1MB", "4MB", "4MB", "1000", "--task-sleep", "0.6"),
]


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with tempfile.TemporaryDirectory(prefix="wmh-", dir="/tmp") as place:
        own = OwnEngine(Path(place) / "e")
        try:
            own.prepare()
            own.start()
            own.load(images_for("pool"))
            yield own
        finally:
            own.remove()


@pytest.fixture(autouse=True)
def _use_it(engine: OwnEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_in_the_middle_of_a_run(
    number: signal.Signals, engine: OwnEngine, tmp_path: Path, table: Table
) -> None:
    bench = start(tmp_path, *POOL, "--repeat", "3")

    def restart() -> None:
        engine.stop(number)
        engine.start()

    row = inject(table, bench, f"killed: the engine, {number.name}, restarted", 2, restart)
    assert (row.outcome, row.service) == ("infrastructure", "engine"), row
    code, _, err = bench.end()
    assert code == 3, err
    assert "Traceback" not in err
    if left_of(engine.client(), bench):  # it was not back in time
        assert "harness clean" in err
        assert harness("clean").returncode == 0
    assert left_of(engine.client(), bench) == []
    bench = resume(bench)
    code, _, err = bench.end()
    assert code == 0, err
    assert [r.outcome for r in bench.outcomes()] == ["ok"] * 3


def test_a_frozen_engine(engine: OwnEngine, tmp_path: Path, table: Table) -> None:
    with FreezableSocket(engine.place / "docker.sock", engine.place / "f.sock") as frozen:
        env = {"DOCKER_HOST": f"unix://{engine.place}/f.sock"}
        # A run needs no engine: one that is shorter than it takes to notice just goes on.
        bench = start(tmp_path, *POOL, "--repeat", "1", "--task-sleep", "8", env=env)
        row = inject(table, bench, "slow: a frozen engine socket", 1, frozen.freeze)
        assert (row.outcome, row.service) == ("infrastructure", "engine"), row
        assert (table.cells[-1].detected_s or 0) < BOUND_S
        code, _, err = bench.end()
        assert code == 3
        assert "harness clean" in err
    cleaned = harness("clean")
    assert cleaned.returncode == 0, cleaned.stderr
    assert left_of(engine.client(), bench) == []


def test_the_connectors_volume_is_full(engine: OwnEngine, tmp_path: Path, table: Table) -> None:
    bench = start(
        tmp_path, *POOL, "--repeat", "3", "--stage-bytes-sizes", "1MB", "40MB", "40MB", "1"
    )
    filler = engine.data / "filler"

    def fill() -> None:
        """Leave less than a payload needs."""
        stat = os.statvfs(engine.data)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, stat.f_bavail * stat.f_frsize - 8 * 2**20)

    row = inject(table, bench, "full: the connector's volume", 2, fill)
    filler.unlink()
    assert row.outcome in ("failed", "infrastructure"), row
    assert "No space left" in row.reason
    code, _, err = bench.end()
    assert code == 1, err
    assert [r.outcome for r in bench.outcomes()] == ["ok", "failed", "ok"]
    assert left_of(engine.client(), bench) == []


def test_a_corrupt_image(engine: OwnEngine, tmp_path: Path, table: Table) -> None:
    (image,) = ensure(["pool"], print).values()
    client = engine.client()
    good = client.images.get(image.id)
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    name, _, tag = image.reference.partition(":")
    client.images.remove(image.reference)
    client.api.import_image_from_data(empty.getvalue(), repository=name, tag=tag)
    began = time.monotonic()
    try:
        done = harness("bench", *POOL, "--run-dir", str(tmp_path))
    finally:
        good.tag(name, tag)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    _note(table, "wrong: a corrupt image", done.stderr, began)
    (directory,) = tmp_path.iterdir()
    assert left_in(client, directory) == []


def test_no_subnet_is_free(engine: OwnEngine, tmp_path: Path, table: Table) -> None:
    client = engine.client()
    taken: list[Network] = []
    with suppress(Exception):
        while len(taken) < 100:
            taken.append(client.networks.create(f"taken-{len(taken)}"))
    began = time.monotonic()
    try:
        done = harness("bench", *POOL, "--run-dir", str(tmp_path))
        examined = harness("doctor")
    finally:
        for network in taken:
            network.remove()
    assert done.returncode == 3
    assert "harness clean" in done.stderr
    assert examined.returncode == 3
    assert "FAIL  subnets" in examined.stdout
    _note(table, "wrong: no subnet is free", done.stderr, began)
    (directory,) = tmp_path.iterdir()
    assert left_in(client, directory) == []


def _note(table: Table, fault: str, err: str, began: float) -> None:
    last = err.strip().splitlines()[-1]
    took = time.monotonic() - began
    table.cells.append(Cell(fault, "infrastructure", "", last, took, 0, 1, ""))


class FreezableSocket:
    """Passes an engine's socket on, until it is frozen: then it takes connections and is silent."""

    def __init__(self, engine: Path, socket_path: Path) -> None:
        self._engine = engine
        self._path = socket_path
        self._frozen = threading.Event()
        self._server = socket.socket(socket.AF_UNIX)

    def freeze(self) -> None:
        self._frozen.set()

    def __enter__(self) -> FreezableSocket:
        self._server.bind(str(self._path))
        self._server.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self._path.unlink()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            upstream = socket.socket(socket.AF_UNIX)
            upstream.connect(str(self._engine))
            for source, sink in ((client, upstream), (upstream, client)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self._frozen.is_set():
                    threading.Event().wait(600)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
