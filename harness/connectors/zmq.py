"""ProxyStore's distributed in-memory connector: each host keeps what it made, in a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Self

from proxystore.connectors.protocols import Connector

from harness.connectors._hardware import HostServerOptions
from harness.connectors._protocol import ConnectorConfig, Held, connectors
from harness.core.errors import InfrastructureError

# Each container has its own network name space: the port is free in all of them.
TOPOLOGY_PORT = 5571


@connectors.register("zmq")
class ZeroMQConfig(HostServerOptions, ConnectorConfig):
    """Options of the ZeroMQ connector."""

    name = "zmq"
    modules = {"zmq": "pyzmq", "proxystore_ex": "proxystore-ex"}  # noqa: RUF012  # a ClassVar
    extra = "zmq"

    @contextmanager
    def _open(self) -> Iterator[Connector[Any]]:
        from harness.connectors._zmq_connector import ZeroMQConnector  # noqa: PLC0415

        try:
            connector = ZeroMQConnector(self.port, self.address, self.interface)
        except OSError as error:
            given = f"--ps-interface {self.interface}" if self.interface else "--ps-address"
            raise InfrastructureError(
                f"{given}: this host has no such address ({error.strerror or error})"
            ) from None
        try:
            yield connector
        finally:
            connector.close()

    def open(self) -> AbstractContextManager[Connector[Any]]:
        """Start this host's server; it ends on exit. Workers on other hosts start theirs."""
        return self._open()

    def held(self, connector: Connector[Any]) -> Held:
        """Ask every host's server."""
        from harness.connectors._zmq_connector import ZeroMQConnector  # noqa: PLC0415

        assert isinstance(connector, ZeroMQConnector)
        return connector.held()

    def trim(self, connector: Connector[Any]) -> tuple[str, ...]:
        """Trim every host's server."""
        from harness.connectors._zmq_connector import ZeroMQConnector  # noqa: PLC0415

        assert isinstance(connector, ZeroMQConnector)
        try:
            connector.trim()
        except InfrastructureError as error:
            return (str(error),)
        return ()

    @classmethod
    def for_topology(cls) -> Self:
        """Use each container's address in the topology's network."""
        return cls(port=TOPOLOGY_PORT)
