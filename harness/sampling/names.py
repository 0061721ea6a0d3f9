"""What the containers of a topology are called, from the host names that tasks report."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from harness.sampling.identity import parse_nameserver, parse_ptr_answer, ptr_query, short_name

if TYPE_CHECKING:
    from collections.abc import Mapping

_RESOLV_CONF = Path("/etc/resolv.conf")
_PORT = 53
_TIMEOUT_S = 2.0


class ContainerNames:
    """Asks the engine's name server, once for each host name; outside of a topology knows none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._project = environment.get("HARNESS_PROJECT", "")
        self._known: dict[str, str | None] = {}

    def __call__(self, host: str) -> str | None:
        """Return a container's name, ``worker-1``, from its host name; ``None`` if unknown."""
        if not self._project:
            return None
        if host not in self._known:
            self._known[host] = self._ask(host)
        return self._known[host]

    def _ask(self, host: str) -> str | None:
        try:
            server = parse_nameserver(_RESOLV_CONF.read_text(encoding="utf-8"))
            if server is None:
                return None
            query_id = int.from_bytes(os.urandom(2), "big")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
                asked.settimeout(_TIMEOUT_S)
                asked.connect((server, _PORT))
                asked.send(ptr_query(socket.gethostbyname(host), query_id))
                name = parse_ptr_answer(asked.recv(4096), query_id)
        except OSError:
            return None
        return short_name(name, self._project) if name else None
