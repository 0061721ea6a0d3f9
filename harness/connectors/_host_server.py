"""Options of the connectors that keep what a host made in a server process on that host."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from harness.core.flags import Flag


class HostServerOptions(BaseModel):
    """Where each host's server listens."""

    port: Annotated[int, Flag("--ps-port", "port of the server", "PORT")] = Field(gt=0, lt=65536)
    address: Annotated[
        str | None,
        Flag("--ps-address", "IP address of this host; then all hosts use its server", "ADDR"),
    ] = None
    interface: Annotated[
        str | None,
        Flag("--ps-interface", "network interface whose address each host's server has", "NAME"),
    ] = None
