"""Objects in a DAOS container."""

from __future__ import annotations

from typing import Annotated, Any

from proxystore.connectors.protocols import Connector
from pydantic import Field

from harness.connectors._hardware import HardwareConfig
from harness.connectors._protocol import connectors
from harness.core.flags import Flag


@connectors.register("daos")
class DAOSConfig(HardwareConfig):
    """Options of the DAOS connector."""

    name = "daos"
    modules = {  # noqa: RUF012  # a ClassVar
        "pydaos": "pydaos (part of DAOS)",
        "proxystore_ex": "proxystore-ex",
    }
    beyond = "pydaos and a DAOS system"

    pool: Annotated[str, Flag("--ps-daos-pool", "DAOS pool, label or UUID", "POOL", place=True)] = (
        Field(min_length=1)
    )
    container: Annotated[
        str, Flag("--ps-daos-container", "DAOS container, label or UUID", "CONTAINER", place=True)
    ] = Field(min_length=1)
    namespace: Annotated[
        str, Flag("--ps-daos-namespace", "DAOS dictionary for the objects", "NAME", place=True)
    ] = Field(min_length=1)

    def connect(self, journal: str) -> Connector[Any]:
        """Open the dictionary; what else is in it stays."""
        from harness.connectors._daos_connector import DAOSConnector  # noqa: PLC0415

        return DAOSConnector(self.pool, self.container, self.namespace, journal=journal)
