"""ProxyStore's DAOS connector with a journal."""

from __future__ import annotations

from proxystore_ex.connectors.daos import DAOSConnector as _DAOSConnector
from proxystore_ex.connectors.daos import DAOSKey

from harness.connectors._journal import Journalled


class DAOSConnector(Journalled, _DAOSConnector):
    """See :class:`Journalled`."""

    key_type = DAOSKey
