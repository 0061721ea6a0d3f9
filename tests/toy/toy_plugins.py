"""An executor of a thread for each task, a connector of rows in SQLite, and a workload."""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Annotated, Any, NamedTuple, Self

from proxystore.connectors.protocols import Connector
from proxystore.serialize import BytesLike
from pydantic import Field

from harness.connectors import ConnectorConfig, Held
from harness.core.flags import Flag
from harness.core.pairs import ConnectorTraits
from harness.executors import ExecutorConfig
from harness.plan import Workload
from harness.plan.graph import Graph, Start, Task


class ToyExecutor(Executor):
    """Runs at most ``limit`` tasks at a time, each in a thread of its own."""

    def __init__(self, limit: int) -> None:
        self._slots = threading.Semaphore(limit)
        self._threads: list[threading.Thread] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Start a thread."""
        future: Future[Any] = Future()

        def call() -> None:
            with self._slots:
                try:
                    future.set_result(fn(*args, **kwargs))
                except Exception as error:  # noqa: BLE001  # whatever the task raised
                    future.set_exception(error)

        self._threads.append(threading.Thread(target=call))
        self._threads[-1].start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for all threads."""
        for thread in self._threads:
            thread.join()


class ToyExecutorConfig(ExecutorConfig):
    """Options of the toy executor."""

    name = "toy"

    limit: Annotated[int, Flag("--toy-limit", "tasks at a time", "N")] = Field(default=2, gt=0)

    @property
    def in_client_process(self) -> bool:
        """Threads do."""
        return True

    def refusal(self, connector: ConnectorTraits) -> str | None:
        """Refuse a connector, to show how."""
        if connector.name == "redis":
            return "--ps-connector redis: the toy does not like it; use --ps-connector toy"
        return None

    def start(self, timeout_s: float) -> AbstractContextManager[Executor]:
        """Start nothing: threads come with tasks."""
        return ToyExecutor(self.limit)

    def wait_ready(
        self, executor: Executor, warm_up: Callable[..., Any], timeout_s: float
    ) -> Mapping[str, Any]:
        """Call ``warm_up`` once."""
        executor.submit(warm_up).result(timeout_s)
        return {"workers": self.limit}


class ToyKey(NamedTuple):
    """Key of a row."""

    id: str


class ToyConnector:
    """Objects as rows of an SQLite database."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._do("CREATE TABLE IF NOT EXISTS objects (id TEXT PRIMARY KEY, data BLOB)")

    def _do(self, statement: str, *values: Any) -> list[Any]:
        with closing(sqlite3.connect(self._database, timeout=60)) as database, database:
            return database.execute(statement, values).fetchall()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hold nothing open."""

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments: with them workers make the connector again."""
        return {"database": self._database}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make the connector again."""
        return cls(**config)

    def put(self, obj: Any) -> ToyKey:
        """Insert a row."""
        key = ToyKey(str(uuid.uuid4()))
        self._do("INSERT INTO objects VALUES (?, ?)", key.id, bytes(obj))
        return key

    def put_batch(self, objs: Sequence[Any]) -> list[ToyKey]:
        """Insert rows."""
        return [self.put(obj) for obj in objs]

    def get(self, key: ToyKey) -> BytesLike | None:
        """Select a row."""
        rows = self._do("SELECT data FROM objects WHERE id = ?", key.id)
        return bytes(rows[0][0]) if rows else None

    def get_batch(self, keys: Sequence[ToyKey]) -> list[BytesLike | None]:
        """Select rows."""
        return [self.get(key) for key in keys]

    def exists(self, key: ToyKey) -> bool:
        """Look for a row."""
        return self.get(key) is not None

    def evict(self, key: ToyKey) -> None:
        """Delete a row."""
        self._do("DELETE FROM objects WHERE id = ?", key.id)

    def held(self) -> Held:
        """Count the rows."""
        [(objects, size)] = self._do("SELECT count(*), ifnull(sum(length(data)), 0) FROM objects")
        return Held(objects, size)


class ToyConnectorConfig(ConnectorConfig):
    """Options of the toy connector."""

    name = "toy"

    database: Annotated[str, Flag("--ps-toy-database", "SQLite database", "FILE")]

    @contextmanager
    def _open(self) -> Iterator[Connector[Any]]:
        with ToyConnector(self.database) as connector:
            yield connector

    def open(self) -> AbstractContextManager[Connector[Any]]:
        """Open the database."""
        return self._open()

    def held(self, connector: Connector[Any]) -> Held:
        """Ask the database."""
        assert isinstance(connector, ToyConnector)
        return connector.held()

    @classmethod
    def for_topology(cls) -> Self:
        """Use the volume that runner and workers share."""
        return cls(database="/harness/store/toy.db")


class ToyWorkload(Workload):
    """Options of a workload: a triangle, whose last task reads the start data again."""

    name = "toy"
    sizes_flag = "--toy-bytes"

    size: Annotated[int, Flag("--toy-bytes", "size of each object", "BYTES", size=True)]

    def graph(self) -> Graph:
        """Return the two tasks."""
        first = Task("first", (0,), self.size, 0.0)
        last = Task("last", (0, 1), self.size, 0.0)
        return Graph((Start("start", self.size),), ((first,), (last,)))
