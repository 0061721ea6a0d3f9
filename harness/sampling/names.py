"""Which container is which, by the engine's name server.

Which container this is: compose gives replicas no variable that tells them apart.

Docker's DNS answers the reverse look-up of a container's address with its name, as
``<project>-<service>-<n>.<network>``; the project's part is cut off. The query is put together
here because the C library's look-up would ask /etc/hosts first, which only knows the ID.

What the containers of a topology are called, from the host names that tasks report.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


_PTR = 12
_IN = 1
_HEADER_BYTES = 12
_POINTER = 0xC0
_PORT = 53


def ptr_query(address: str, query_id: int) -> bytes:
    """Return a DNS query (RFC 1035) for the name of an IPv4 address."""
    labels = [*reversed(address.split(".")), "in-addr", "arpa"]
    name = b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"
    header = query_id.to_bytes(2, "big") + b"\x01\x00" + b"\0\x01" + b"\0\0" * 3
    return header + name + _PTR.to_bytes(2, "big") + _IN.to_bytes(2, "big")


def parse_ptr_answer(message: bytes, query_id: int) -> str | None:
    """Return the first name in a DNS answer to ``ptr_query``, ``None`` if there is none."""
    try:
        if int.from_bytes(message[:2], "big") != query_id:
            return None
        questions = int.from_bytes(message[4:6], "big")
        answers = int.from_bytes(message[6:8], "big")
        at = _HEADER_BYTES
        for _ in range(questions):
            at = _name(message, at)[1] + 4
        for _ in range(answers):
            at = _name(message, at)[1]
            kind = int.from_bytes(message[at : at + 2], "big")
            length = int.from_bytes(message[at + 8 : at + 10], "big")
            if kind == _PTR:
                return _name(message, at + 10)[0] or None
            at += 10 + length
    except (IndexError, UnicodeDecodeError):
        return None
    return None


def _name(message: bytes, at: int) -> tuple[str, int]:
    """Return the domain name at an offset and the offset behind it. Raises IndexError."""
    labels: list[str] = []
    behind = -1
    # Pointers may only lead backwards, so a name has fewer labels than the message has bytes.
    for _ in range(len(message)):
        length = message[at]
        if length == 0:
            return ".".join(labels), behind if behind >= 0 else at + 1
        if length & _POINTER == _POINTER:
            behind = at + 2 if behind < 0 else behind
            at = (length & ~_POINTER) << 8 | message[at + 1]
            continue
        labels.append(message[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    msg = "endless name"
    raise IndexError(msg)


def parse_nameserver(resolv_conf: str) -> str | None:
    """Return the first IPv4 name server of a resolv.conf."""
    for line in resolv_conf.splitlines():
        fields = line.split()
        if len(fields) > 1 and fields[0] == "nameserver" and ":" not in fields[1]:
            return fields[1]
    return None


def short_name(dns_name: str, project: str) -> str:
    """Return the container's name without network and project: ``worker-1``."""
    name = dns_name.partition(".")[0]
    return name.removeprefix(f"{project}-") if project else name


class Identity:
    """Asks for the name and picks up the answer later, so that nothing waits for a resolver.

    ``HARNESS_CONTAINER`` overrides it; without an answer the name is the host name, by default
    the first 12 digits of the container's ID.
    """

    def __init__(
        self, environment: Mapping[str, str], resolv_conf: Path = Path("/etc/resolv.conf")
    ) -> None:
        self._project = environment.get("HARNESS_PROJECT", "")
        self._found = environment.get("HARNESS_CONTAINER", "")
        self._query_id = int.from_bytes(os.urandom(2), "big")
        self._socket: socket.socket | None = None
        if not self._found:
            self._ask(resolv_conf)

    def _ask(self, resolv_conf: Path) -> None:
        try:
            server = parse_nameserver(resolv_conf.read_text(encoding="utf-8"))
            if server is None:
                return
            address = socket.gethostbyname(socket.gethostname())
            asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            asked.setblocking(False)
            asked.connect((server, _PORT))
            asked.send(ptr_query(address, self._query_id))
        except OSError:
            return
        self._socket = asked

    @property
    def pending(self) -> bool:
        """Whether an answer may still come; looks whether it has."""
        if self._socket is None:
            return False
        try:
            message = self._socket.recv(4096)
        except BlockingIOError:
            return True
        except OSError:
            message = b""
        dns_name = parse_ptr_answer(message, self._query_id)
        if dns_name:
            self._found = short_name(dns_name, self._project)
        self._socket.close()
        self._socket = None
        return False

    @property
    def name(self) -> str:
        """The name as far as it is known now, safe for a CSV cell."""
        return (self._found or socket.gethostname()).replace(",", "_")


_RESOLV_CONF = Path("/etc/resolv.conf")
_TIMEOUT_S = 2.0


class ContainerNames:
    """Asks the engine's name server, once for each host name; outside of a topology knows none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._project = environment.get("HARNESS_PROJECT", "")
        # Where containers are told their names, those are their host names, too.
        self._told = "HARNESS_CONTAINER" in environment
        self._known: dict[str, str | None] = {}

    def __call__(self, host: str) -> str | None:
        """Return a container's name, ``worker-1``, from its host name; ``None`` if unknown."""
        if not self._project:
            return None
        if self._told:
            return host
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
