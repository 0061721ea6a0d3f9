"""ProxyStore's distributed in-memory connector over UCX."""

from __future__ import annotations

from typing import Any

from proxystore.connectors.protocols import Connector

from harness.connectors._hardware import HardwareConfig, HostServerOptions
from harness.connectors._protocol import connectors


@connectors.register("ucx")
class UCXConfig(HostServerOptions, HardwareConfig):
    """Options of the UCX connector."""

    name = "ucx"
    modules = {  # noqa: RUF012  # a ClassVar
        "ucp": "ucx-py-cu12",
        "proxystore_ex": "proxystore-ex",
    }
    beyond = "ucx-py and the UCX library"

    def connect(self, journal: str) -> Connector[Any]:
        """Connect to this host's server, or start it."""
        from harness.connectors._ucx_connector import UCXConnector  # noqa: PLC0415

        return UCXConnector(
            port=self.port, address=self.address, interface=self.interface, journal=journal
        )
