"""ProxyStore's endpoint connector with a journal, for endpoints that cannot say what they hold."""

from __future__ import annotations

from proxystore.connectors.endpoint import EndpointConnector as _EndpointConnector
from proxystore.connectors.endpoint import EndpointKey

from harness.connectors._journal import Journalled


class EndpointConnector(Journalled, _EndpointConnector):
    """See :class:`Journalled`."""

    key_type = EndpointKey
