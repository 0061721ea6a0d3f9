"""ProxyStore's UCX connector with a journal."""

from __future__ import annotations

from proxystore_ex.connectors.dim.models import DIMKey
from proxystore_ex.connectors.dim.ucx import UCXConnector as _UCXConnector

from harness.connectors._journal import Journalled


class UCXConnector(Journalled, _UCXConnector):
    """See :class:`Journalled`."""

    key_type = DIMKey
