"""ProxyStore's distributed in-memory connector over UCX."""

from __future__ import annotations

from typing import Annotated, Any

from proxystore.connectors.protocols import Connector
from pydantic import Field

from harness.connectors._hardware import HardwareConfig
from harness.connectors._protocol import connectors
from harness.core.flags import Flag


@connectors.register("ucx")
class UCXConfig(HardwareConfig):
    """Options of the UCX connector."""

    name = "ucx"
    modules = {  # noqa: RUF012  # a ClassVar
        "ucp": "ucx-py-cu12",
        "proxystore_ex": "proxystore-ex",
    }
    beyond = "ucx-py and the UCX library"

    port: Annotated[int, Flag("--ps-port", "port of the server", "PORT")] = Field(gt=0, lt=65536)
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
        from harness.connectors._ucx_connector import UCXConnector  # noqa: PLC0415

        return UCXConnector(
            port=self.port, address=self.address, interface=self.interface, journal=journal
        )
