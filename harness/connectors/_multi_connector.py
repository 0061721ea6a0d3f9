"""ProxyStore's multi connector in a form that a worker can make again."""

from __future__ import annotations

from typing import Any, cast

from proxystore.connectors.multi import ConnectorPolicyConfig, Policy
from proxystore.connectors.multi import MultiConnector as _MultiConnector
from proxystore.connectors.protocols import Connector
from proxystore.utils.imports import import_from_path

Parts = dict[str, tuple[Connector[Any], Policy]]


class MultiConnector(_MultiConnector):
    """Two or more connectors, each with a policy.

    A store is made again in a worker by calling its connector's class with ``config()`` as the
    keyword arguments, which ProxyStore's own class does not take.

    Args:
        connectors: name to connector and policy.
        parts: the same as :meth:`config` describes it; instead of ``connectors``.
    """

    def __init__(
        self,
        connectors: Parts | None = None,
        *,
        parts: dict[str, ConnectorPolicyConfig] | None = None,
    ) -> None:
        made = {name: _make(part) for name, part in (parts or {}).items()}
        super().__init__((connectors or {}) | made)

    def config(self) -> dict[str, Any]:
        """Return the configuration as keyword arguments."""
        return {"parts": super().config()}


def _make(part: ConnectorPolicyConfig) -> tuple[Connector[Any], Policy]:
    path, config, policy = part
    kind = cast(type[Connector[Any]], import_from_path(path))
    return kind.from_config(config), Policy(**policy)
