"""ProxyStore's Margo connector with a journal."""

from __future__ import annotations

from proxystore_ex.connectors.dim.margo import MargoConnector as _MargoConnector
from proxystore_ex.connectors.dim.models import DIMKey

from harness.connectors._journal import Journalled


class MargoConnector(Journalled, _MargoConnector):
    """See :class:`Journalled`."""

    key_type = DIMKey
