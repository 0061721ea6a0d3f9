"""What the service must not forget: functions, endpoints, tasks and results, in SQLite.

Payloads of tasks are not here: until they are done, the broker's durable queues hold them.
A call takes some ten microseconds, and a result of 10 MB as many milliseconds, so the event loop
makes them itself.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tokens (digest BLOB PRIMARY KEY, expires REAL NOT NULL);
CREATE TABLE IF NOT EXISTS functions (id TEXT PRIMARY KEY, name TEXT NOT NULL, frame TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS endpoints (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, metadata TEXT NOT NULL, registered REAL NOT NULL);
CREATE TABLE IF NOT EXISTS user_endpoints (
    id TEXT PRIMARY KEY, endpoint TEXT NOT NULL, config TEXT NOT NULL, name TEXT NOT NULL,
    UNIQUE (endpoint, config));
CREATE TABLE IF NOT EXISTS tasks (
    id TEXT PRIMARY KEY, task_group TEXT NOT NULL, user_endpoint TEXT NOT NULL,
    submitted REAL NOT NULL, completed REAL, failed INTEGER, delivered INTEGER NOT NULL DEFAULT 0,
    message BLOB);
CREATE INDEX IF NOT EXISTS tasks_of_group ON tasks (task_group);
CREATE INDEX IF NOT EXISTS open_tasks ON tasks (user_endpoint) WHERE completed IS NULL;
"""
# What is deleted after its time goes in small portions: other requests wait meanwhile.
_PORTION = 1000


@dataclass(frozen=True)
class Endpoint:
    """A registered endpoint."""

    id: UUID
    name: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class UserEndpoint:
    """A process that executes tasks: one for each endpoint and user configuration."""

    id: UUID
    endpoint: UUID
    name: str


@dataclass(frozen=True)
class Task:
    """A task and, once it is done, its result message as it came from the endpoint.

    Attributes:
        completed: UNIX time in seconds, None while it is open.
        delivered: whether the result has reached the group's queue.
    """

    id: UUID
    group: UUID
    completed: float | None
    failed: bool
    delivered: bool
    message: bytes | None


class State:
    """The database; used by one thread.

    Args:
        path: its file, ``:memory:`` for none.
    """

    def __init__(self, path: Path | str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        # With a write-ahead log what was committed survives the end of this process; only the end
        # of the machine could take the last moments, and takes the topology with them.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        # Results of 10 MB must not make the log, or the page cache, grow without bounds.
        self._db.execute("PRAGMA wal_autocheckpoint = 256")
        self._db.execute("PRAGMA journal_size_limit = 4194304")
        self._db.execute("PRAGMA cache_size = -2048")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add_token(self, token: str, expires: float) -> None:
        """Remember a token, by its hash, until a UNIX time."""
        self._db.execute("INSERT INTO tokens VALUES (?, ?)", (_digest(token), expires))

    def knows_token(self, token: str) -> bool:
        """Return whether a token was given out and has not expired."""
        query = "SELECT 1 FROM tokens WHERE digest = ? AND expires > ?"
        return self._db.execute(query, (_digest(token), time.time())).fetchone() is not None

    def add_function(self, name: str, frame: str) -> UUID:
        """Register a function, as the frame that precedes each task's arguments."""
        function = uuid4()
        self._db.execute("INSERT INTO functions VALUES (?, ?, ?)", (str(function), name, frame))
        return function

    def function_frame(self, function: UUID) -> str | None:
        """Return a function's frame, None if it is not registered."""
        query = "SELECT frame FROM functions WHERE id = ?"
        row = self._db.execute(query, (str(function),)).fetchone()
        return None if row is None else str(row[0])

    def put_endpoint(self, endpoint: UUID, name: str, metadata: dict[str, Any]) -> None:
        """Register an endpoint, or register it again."""
        self._db.execute(
            "INSERT INTO endpoints VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " name = excluded.name, metadata = excluded.metadata, registered = excluded.registered",
            (str(endpoint), name, json.dumps(metadata), time.time()),
        )

    def endpoint(self, endpoint: UUID) -> Endpoint | None:
        """Return an endpoint, None if it is not registered."""
        return next((found for found in self.endpoints() if found.id == endpoint), None)

    def endpoints(self) -> list[Endpoint]:
        """Return all endpoints, the oldest registration first."""
        rows = self._db.execute("SELECT id, name, metadata FROM endpoints ORDER BY registered, id")
        return [Endpoint(UUID(id_), name, json.loads(data)) for id_, name, data in rows]

    def user_endpoint(self, endpoint: UUID, config: dict[str, Any] | None) -> UserEndpoint:
        """Return the user endpoint for a user configuration, new if there is none yet."""
        key = json.dumps(config or {}, sort_keys=True)
        fresh = uuid4()
        name = f"uep.{endpoint}.{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        self._db.execute(
            "INSERT INTO user_endpoints VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (str(fresh), str(endpoint), key, name),
        )
        query = "SELECT id, endpoint, name FROM user_endpoints WHERE endpoint = ? AND config = ?"
        return _user_endpoint(self._db.execute(query, (str(endpoint), key)).fetchone())

    def user_endpoints_of(self, endpoint: UUID) -> list[UserEndpoint]:
        """Return an endpoint's user endpoints."""
        query = "SELECT id, endpoint, name FROM user_endpoints WHERE endpoint = ? ORDER BY rowid"
        return [_user_endpoint(row) for row in self._db.execute(query, (str(endpoint),))]

    def add_tasks(self, tasks: Iterable[UUID], group: UUID, user_endpoint: UUID) -> None:
        """Remember tasks that are about to be queued."""
        now = time.time()
        rows = [(str(task), str(group), str(user_endpoint), now) for task in tasks]
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO tasks (id, task_group, user_endpoint, submitted) VALUES (?, ?, ?, ?)", rows
        )
        self._db.execute("COMMIT")

    def forget_tasks(self, tasks: Iterable[UUID]) -> None:
        """Forget tasks that could not be queued: whoever submitted them is told so."""
        rows = [(str(task),) for task in tasks]
        self._db.executemany("DELETE FROM tasks WHERE id = ? AND completed IS NULL", rows)

    def complete(self, task: UUID, message: bytes, *, failed: bool) -> None:
        """Keep a task's result, before anybody is told of it; the first one counts."""
        self._db.execute(
            "UPDATE tasks SET completed = ?, failed = ?, message = ?"
            " WHERE id = ? AND completed IS NULL",
            (time.time(), failed, message, str(task)),
        )

    def delivered(self, task: UUID) -> None:
        """Note that a task's result is in its group's queue."""
        self._db.execute("UPDATE tasks SET delivered = 1 WHERE id = ?", (str(task),))

    def task(self, task: UUID) -> Task | None:
        """Return a task, None if it is unknown."""
        found = self.tasks([task])
        return found[0] if found else None

    def tasks(self, tasks: Sequence[UUID]) -> list[Task]:
        """Return those of the tasks that are known."""
        query = (
            "SELECT id, task_group, completed, failed, delivered, message FROM tasks WHERE id = ?"
        )
        found = (self._db.execute(query, (str(task),)).fetchone() for task in tasks)
        return [_task(row) for row in found if row is not None]

    def group(self, group: UUID) -> list[UUID]:
        """Return the tasks of a group, in the order of their submission."""
        query = "SELECT id FROM tasks WHERE task_group = ? ORDER BY rowid"
        return [UUID(id_) for (id_,) in self._db.execute(query, (str(group),))]

    def open_tasks(self, user_endpoint: UUID) -> list[UUID]:
        """Return the tasks that a user endpoint has not answered."""
        query = "SELECT id FROM tasks WHERE user_endpoint = ? AND completed IS NULL"
        return [UUID(id_) for (id_,) in self._db.execute(query, (str(user_endpoint),))]

    def busy_user_endpoints(self) -> list[UserEndpoint]:
        """Return the user endpoints that have not answered all of their tasks."""
        query = (
            "SELECT id, endpoint, name FROM user_endpoints WHERE id IN"
            " (SELECT user_endpoint FROM tasks WHERE completed IS NULL)"
        )
        return [_user_endpoint(row) for row in self._db.execute(query)]

    def undelivered(self) -> list[UUID]:
        """Return tasks that are done but whose result has not reached the group's queue."""
        query = "SELECT id FROM tasks WHERE completed IS NOT NULL AND NOT delivered"
        return [UUID(id_) for (id_,) in self._db.execute(query)]

    def expire(self, older_than_s: float) -> int:
        """Forget some old tasks and tokens; return how many tasks."""
        now = time.time()
        self._db.execute("DELETE FROM tokens WHERE expires < ?", (now,))
        query = (
            "DELETE FROM tasks WHERE id IN"
            " (SELECT id FROM tasks WHERE submitted < ? ORDER BY submitted LIMIT ?)"
        )
        return self._db.execute(query, (now - older_than_s, _PORTION)).rowcount


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _user_endpoint(row: tuple[str, str, str]) -> UserEndpoint:
    return UserEndpoint(UUID(row[0]), UUID(row[1]), row[2])


def _task(row: tuple[str, str, float | None, int | None, int, bytes | None]) -> Task:
    return Task(UUID(row[0]), UUID(row[1]), row[2], bool(row[3]), bool(row[4]), row[5])
