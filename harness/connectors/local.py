"""Objects in the client's own memory: only for executors whose tasks run there too."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Self

from proxystore.connectors.local import LocalConnector
from proxystore.connectors.protocols import Connector

from harness.connectors._protocol import ConnectorConfig, Held, connectors
from harness.core.pairs import ExecutorTraits


@connectors.register("local")
class LocalConfig(ConnectorConfig):
    """The local connector has no options."""

    name = "local"

    def refusal(self, executor: ExecutorTraits) -> str | None:
        """Refuse workers in other processes: each would have an empty dictionary of its own."""
        if executor.in_client_process:
            return None
        return (
            f"--ps-connector local: keeps objects in the client's memory, which the workers of"
            f" --executor {executor.name} do not share; use an executor of threads, or another"
            " connector"
        )

    def compose_files(self) -> tuple[str, ...]:
        """Need no service."""
        return ()

    def open(self) -> AbstractContextManager[Connector[Any]]:
        """Make an empty dictionary; what it holds goes with it."""
        return LocalConnector()

    def held(self, connector: Connector[Any]) -> Held:
        """Count the dictionary's items."""
        assert isinstance(connector, LocalConnector)
        sizes = [len(data) for data in list(connector._store.values())]
        return Held(len(sizes), sum(sizes))

    @classmethod
    def for_topology(cls) -> Self:
        """Use the runner's memory."""
        return cls()
