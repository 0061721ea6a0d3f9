"""ProxyStore's Globus connector with a journal."""

from __future__ import annotations

from typing import Any

from proxystore.connectors.globus import GlobusConnector as _GlobusConnector
from proxystore.connectors.globus import GlobusKey

from harness.connectors._journal import Journalled


def _key(filename: str, task_id: str | list[str]) -> GlobusKey:
    # JSON has made a list of a tuple.
    return GlobusKey(filename, tuple(task_id) if isinstance(task_id, list) else task_id)


class GlobusConnector(Journalled, _GlobusConnector):
    """See :class:`Journalled`."""

    key_type: Any = staticmethod(_key)
