"""ProxyStore's distributed in-memory connector over Mochi-Margo RPC."""

from __future__ import annotations

from typing import Annotated, Any

from proxystore.connectors.protocols import Connector
from pydantic import Field

from harness.connectors._hardware import HardwareConfig
from harness.connectors._protocol import connectors
from harness.core.flags import Flag


@connectors.register("margo")
class MargoConfig(HardwareConfig):
    """Options of the Margo connector."""

    name = "margo"
    modules = {  # noqa: RUF012  # a ClassVar
        "pymargo": "py-mochi-margo (github.com/mochi-hpc/py-mochi-margo)",
        "proxystore_ex": "proxystore-ex",
    }
    beyond = "py-mochi-margo and the Margo library"

    port: Annotated[int, Flag("--ps-port", "port of the server", "PORT")] = Field(gt=0, lt=65536)
    protocol: Annotated[
        str, Flag("--ps-margo-protocol", "Mercury plug-in and transport", "PROTOCOL")
    ] = Field(default="tcp", pattern=r"^\w+(\+\w+)?$")
    address: Annotated[
        str | None,
        Flag("--ps-address", "IP address of this host; then all hosts use its server", "ADDR"),
    ] = None
    interface: Annotated[
        str | None,
        Flag("--ps-interface", "network interface whose address each host's server has", "NAME"),
    ] = None

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
