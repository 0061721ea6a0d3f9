"""Objects in ProxyStore endpoints."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Self

from proxystore.connectors.protocols import Connector
from proxystore.utils.environment import home_dir
from pydantic import field_validator

from harness.connectors._journal import Journalled
from harness.connectors._protocol import ConnectorConfig, Held, connectors
from harness.core.errors import InfrastructureError
from harness.core.flags import Flag
from harness.core.uuids import check_uuids

if TYPE_CHECKING:
    from proxystore.connectors.endpoint import EndpointConnector

# The topology's endpoint (compose/connectors/endpoint.yaml). Its configuration is in the volume
# that runner and workers share: that is how ProxyStore's clients find an endpoint.
TOPOLOGY_UUID = "5a0d2f0e-6a3f-4d55-9a77-0f6d1b0c8e21"
TOPOLOGY_HOME = "/harness/store/proxystore"
# It starts beside the runner and imports for a second or two.
_TOPOLOGY_WAIT_S = 60.0
_REQUEST_TIMEOUT_S = 30.0


@connectors.register("endpoint")
class EndpointConfig(ConnectorConfig):
    """Options of the endpoint connector."""

    name = "endpoint"

    endpoints: Annotated[
        tuple[str, ...],
        Flag("--ps-endpoints", "endpoints, of which one must run on each host", "UUID", place=True),
    ]
    home: str | None = None
    wait_s: float = 0.0

    @field_validator("endpoints")
    @classmethod
    def _are_uuids(cls, endpoints: tuple[str, ...]) -> tuple[str, ...]:
        check_uuids(endpoints)
        return endpoints

    def _connect(self, journal: str | None) -> EndpointConnector:
        import requests  # noqa: PLC0415  # only when used
        from proxystore.connectors.endpoint import (  # noqa: PLC0415
            EndpointConnector,
            EndpointConnectorError,
        )

        from harness.connectors import _endpoint_connector  # noqa: PLC0415

        deadline = time.monotonic() + self.wait_s
        while True:
            try:
                if journal is None:
                    return EndpointConnector(self.endpoints, self.home)
                return _endpoint_connector.EndpointConnector(
                    self.endpoints, self.home, journal=journal
                )
            except (EndpointConnectorError, requests.RequestException) as error:
                if time.monotonic() >= deadline:
                    raise InfrastructureError(
                        f"--ps-endpoints {' '.join(self.endpoints)}: none of them answers on this"
                        " host; start one with 'proxystore-endpoint start NAME'"
                        f" ({type(error).__name__})"
                    ) from None
                time.sleep(0.05)

    @contextmanager
    def _open(self) -> Iterator[Connector[Any]]:
        with self._connect(None) as connector:
            if len(self.endpoints) == 1 and _ask(connector) is not None:
                yield connector
                return
        # Below ProxyStore's own directory, which all of an endpoint's clients on a host read.
        with (
            tempfile.TemporaryDirectory(prefix="harness-", dir=self.home or home_dir()) as journal,
            self._connect(journal) as connector,
        ):
            yield connector

    def open(self) -> AbstractContextManager[Connector[Any]]:
        """Connect to this host's endpoint; nothing is deleted on exit."""
        return self._open()

    def held(self, connector: Connector[Any]) -> Held:
        """Ask the endpoint.

        A topology's endpoint counts its storage itself. Any other has no way to list its keys:
        it is asked whether it holds each object that this invocation has put, and so cannot
        tell of others.
        """
        if isinstance(connector, Journalled):
            return connector.held()
        found = _ask(connector)
        if found is None:
            raise InfrastructureError("--ps-endpoints: the endpoint does not answer any more")
        return found

    def trim(self, connector: Connector[Any]) -> tuple[str, ...]:
        """Trim a topology's endpoint; any other has no way to be asked."""
        trimmed = not isinstance(connector, Journalled) and _get(connector, "trim") is not None
        return () if trimmed else ("the ProxyStore endpoint",)

    @classmethod
    def for_topology(cls) -> Self:
        """Use the topology's ``endpoint`` service."""
        return cls(endpoints=(TOPOLOGY_UUID,), home=TOPOLOGY_HOME, wait_s=_TOPOLOGY_WAIT_S)


def _ask(connector: Connector[Any]) -> Held | None:
    """Return what the endpoint says it holds, None if it cannot say."""
    answer = _get(connector, "held")
    return None if answer is None else Held(answer["objects"], answer["bytes"])


def _get(connector: Connector[Any], route: str) -> dict[str, Any] | None:
    """Ask a topology's endpoint; return its answer, None from any other."""
    from proxystore.connectors.endpoint import EndpointConnector  # noqa: PLC0415

    assert isinstance(connector, EndpointConnector)
    response = connector._session.get(
        f"{connector.address}/{route}", timeout=_REQUEST_TIMEOUT_S, proxies={"http": ""}
    )
    if not response.ok:
        return None
    answer: dict[str, Any] = response.json()
    return answer
