"""ProxyStore's distributed in-memory connector over Mochi-Margo RPC."""

from __future__ import annotations

from typing import Annotated, Any

from proxystore.connectors.protocols import Connector
from pydantic import Field

from harness.connectors._hardware import HardwareConfig, HostServerOptions
from harness.connectors._protocol import connectors
from harness.core.flags import Flag


@connectors.register("margo")
class MargoConfig(HostServerOptions, HardwareConfig):
    """Options of the Margo connector."""

    name = "margo"
    modules = {  # noqa: RUF012  # a ClassVar
        "pymargo": "py-mochi-margo (github.com/mochi-hpc/py-mochi-margo)",
        "proxystore_ex": "proxystore-ex",
    }
    beyond = "py-mochi-margo and the Margo library"

    protocol: Annotated[
        str, Flag("--ps-margo-protocol", "Mercury plug-in and transport", "PROTOCOL")
    ] = Field(default="tcp", pattern=r"^\w+(\+\w+)?$")

    def connect(self, journal: str) -> Connector[Any]:
        """Connect to this host's server, or start it."""
        from harness.connectors._margo_connector import MargoConnector  # noqa: PLC0415

        return MargoConnector(
            port=self.port,
            protocol=self.protocol,
            address=self.address,
            interface=self.interface,
            journal=journal,
        )
