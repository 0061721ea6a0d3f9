"""Counting in a storage that cannot list what it holds, but can be asked about one key.

Every process that puts an object writes its key into a directory all of them see; whoever
counts asks the storage about each key.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.connectors._protocol import Held


class Journal:
    """Keys and sizes of objects, one file for each process.

    Args:
        directory: one that all processes see, and that nobody else uses.
    """

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)

    def note(self, key: Sequence[Any], size: int) -> None:
        """Write down a key that is about to be put."""
        path = self.directory / f"{socket.gethostname()}-{os.getpid()}"
        line = f"{json.dumps([list(key), size])}\n".encode()
        # One write: threads of a process share its file.
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)

    def keys(self) -> dict[tuple[Any, ...], int]:
        """Return all keys and their objects' sizes."""
        lines = (line for path in self.directory.iterdir() for line in path.open(encoding="utf-8"))
        return {tuple(key): size for key, size in map(json.loads, lines)}


class Journalled:
    """Mix-in for a ProxyStore connector whose keys are tuples of JSON values.

    Args:
        journal: the journal's directory.
    """

    key_type: type[Any]

    def __init__(self, *args: Any, journal: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._journal = Journal(journal)
        self._gone: set[tuple[Any, ...]] = set()

    def config(self) -> dict[str, Any]:
        """Return the configuration, the journal's directory included."""
        found: dict[str, Any] = super().config()  # type: ignore[misc]  # the connector's
        return found | {"journal": str(self._journal.directory)}

    def put(self, obj: Any) -> Any:
        """Put an object and note its key."""
        key = super().put(obj)  # type: ignore[misc]
        self._journal.note(key, len(obj))
        return key

    def put_batch(self, objs: Sequence[Any]) -> list[Any]:
        """Put objects and note their keys."""
        keys: list[Any] = super().put_batch(objs)  # type: ignore[misc]
        for key, obj in zip(keys, objs, strict=True):
            self._journal.note(key, len(obj))
        return keys

    def held(self) -> Held:
        """Ask the storage about every key it ever got and may still have."""
        sizes = []
        for key, size in self._journal.keys().items():
            if key in self._gone:
                continue
            if self.exists(self.key_type(*key)):  # type: ignore[attr-defined]
                sizes.append(size)
            else:
                self._gone.add(key)
        return Held(len(sizes), sum(sizes))
