"""Objects as files in a directory that client and workers share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Self

from proxystore.connectors.file import FileConnector
from proxystore.connectors.protocols import Connector

from harness.connectors._protocol import ConnectorConfig, Held, connectors
from harness.core.errors import UsageError
from harness.core.flags import Flag

# The volume that the runner and the workers of a topology share (compose/connectors/file.yaml).
TOPOLOGY_DIR = "/harness/store"


@connectors.register("file")
class FileConfig(ConnectorConfig):
    """Options of the file connector."""

    name = "file"

    directory: Annotated[
        str,
        Flag(
            "--ps-file-dir",
            "directory for ProxyStore objects, shared with the workers",
            "DIR",
            place=True,
        ),
    ]

    @contextmanager
    def _open(self) -> Iterator[Connector[Any]]:
        parent = Path(self.directory).absolute()
        made = [p for p in (parent, *parent.parents) if not p.exists()]
        try:
            parent.mkdir(parents=True, exist_ok=True)
            # A directory of our own: the connector deletes the whole directory when it closes,
            # and what else lies in the user's is not ours to delete.
            own = tempfile.mkdtemp(prefix="objects-", dir=parent)
        except OSError as error:
            raise UsageError(
                f"--ps-file-dir {self.directory}: cannot write there ({error.strerror});"
                " name a directory you can write to"
            ) from None
        connector = FileConnector(own, clear=True)
        try:
            yield connector
        finally:
            connector.close()
            for directory in made:
                with suppress(OSError):  # not empty: somebody else uses it by now
                    directory.rmdir()

    def open(self) -> AbstractContextManager[Connector[Any]]:
        """Make a fresh directory below ``directory``; it is removed on exit."""
        return self._open()

    def held(self, connector: Connector[Any]) -> Held:
        """Count the object files; a ``.ready`` file beside each marks it complete."""
        assert isinstance(connector, FileConnector)
        with os.scandir(connector.store_dir) as entries:
            sizes = [e.stat().st_size for e in entries if not e.name.endswith(".ready")]
        return Held(len(sizes), sum(sizes))

    @classmethod
    def for_topology(cls) -> Self:
        """Use the topology's shared volume."""
        return cls(directory=TOPOLOGY_DIR)
