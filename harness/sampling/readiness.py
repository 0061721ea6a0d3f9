"""Telling a health check that the service is up, without touching the service.

A health check that starts a Python process or opens a connection costs the container memory and
the service log lines. The sampler is there anyway: it looks at the container's sockets in
``/proc/net`` and creates a file once the right one is there; the check is then ``test -e``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_LISTEN = "0A"
_ESTABLISHED = "01"
DEFAULT_FILE = "/tmp/ready"  # noqa: S108  # a tmpfs of the container's own


@dataclass(frozen=True, slots=True)
class Sockets:
    """Ports this network namespace listens on, and remote ports it is connected to."""

    listening: frozenset[int]
    connected: frozenset[int]


def parse_sockets(text: str) -> Sockets:
    """Parse ``/proc/net/tcp`` or ``tcp6`` (format: proc(5); ports are hexadecimal)."""
    listening = set()
    connected = set()
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 4:
            continue
        if fields[3] == _LISTEN:
            listening.add(int(fields[1].rpartition(":")[2], 16))
        elif fields[3] == _ESTABLISHED:
            connected.add(int(fields[2].rpartition(":")[2], 16))
    return Sockets(frozenset(listening), frozenset(connected))


class Readiness:
    """Creates a file once a port is listened on or a connection to a port stands.

    From the environment: ``HARNESS_READY_PORT`` (a server such as the scheduler or redis),
    ``HARNESS_READY_PEER_PORT`` (a client such as a worker; the port of its server),
    ``HARNESS_READY_FILE`` (default /tmp/ready). With neither port there is nothing to do and
    ``pending`` is false. Raises ValueError for a port that is not a number.
    """

    def __init__(self, environment: Mapping[str, str], net: Path = Path("/proc/net")) -> None:
        self._listen = int(environment.get("HARNESS_READY_PORT") or 0)
        self._peer = int(environment.get("HARNESS_READY_PEER_PORT") or 0)
        self._file = Path(environment.get("HARNESS_READY_FILE") or DEFAULT_FILE)
        self._net = net
        self.pending = bool(self._listen or self._peer)

    def poll(self) -> None:
        """Look once. Raises OSError if the file cannot be created."""
        if not self.pending:
            return
        listening: set[int] = set()
        connected: set[int] = set()
        for name in ("tcp", "tcp6"):
            try:
                sockets = parse_sockets((self._net / name).read_text(encoding="ascii"))
            except FileNotFoundError:
                continue
            listening |= sockets.listening
            connected |= sockets.connected
        if self._listen and self._listen not in listening:
            return
        if self._peer and self._peer not in connected:
            return
        self._file.touch()
        self.pending = False
