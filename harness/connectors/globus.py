"""Objects as files that Globus transfers keep the same in several collections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from proxystore.connectors.protocols import Connector
from proxystore.utils.environment import home_dir
from pydantic import field_validator

from harness.connectors._hardware import HardwareConfig
from harness.connectors._protocol import connectors
from harness.core.flags import Flag

# Where ProxyStore keeps what a login gave it.
_TOKENS_FILE = "storage.db"


@connectors.register("globus")
class GlobusConfig(HardwareConfig):
    """Options of the Globus connector."""

    name = "globus"
    beyond = "a Globus login and two collections"

    config: Annotated[
        str,
        Flag(
            "--ps-globus-config",
            "JSON file that describes the Globus collections",
            "FILE",
            place=True,
        ),
    ]

    @field_validator("config")
    @classmethod
    def _describes_collections(cls, config: str) -> str:
        from proxystore.connectors.globus import GlobusEndpoints  # noqa: PLC0415  # 60 ms

        try:
            found = GlobusEndpoints.from_json(config)
        except OSError as error:
            raise ValueError(f"{config}: {error.strerror}") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{config}: is not JSON ({error})") from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{config}: each collection's UUID must name an object with host_regex,"
                f" endpoint_path and local_path ({error})"
            ) from None
        if len(found) < 2:
            raise ValueError(f"{config}: describes {len(found)} collection; two are needed")
        return config

    @classmethod
    def needs(cls, *, containers: bool) -> str | None:
        """Return that a login is missing: without one the library asks for it and waits."""
        if containers:
            return super().needs(containers=True)
        from proxystore.globus.app import is_client_login  # noqa: PLC0415

        if not is_client_login() and not Path(home_dir(), _TOKENS_FILE).exists():
            return "a Globus login: run 'proxystore-globus-auth login'"
        return super().needs(containers=False)

    def connect(self, journal: str) -> Connector[Any]:
        """Open the collections; they are emptied on exit, as in the reference."""
        from proxystore.connectors.globus import GlobusEndpoints  # noqa: PLC0415

        from harness.connectors._globus_connector import GlobusConnector  # noqa: PLC0415

        return GlobusConnector(GlobusEndpoints.from_json(self.config), journal=journal)
