"""What home and the agent say to each other: one line of JSON a message, with bytes behind it.

Any pair of byte streams carries it: a child's pipes, a container's standard input and output. A
message that has ``bytes`` is followed by so many bytes, which are rows or a part of a file. Every
message ends in a newline or in its bytes, so that nothing waits for the next one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Nothing that is sent is longer; whoever sends more is no agent.
_LINE_BYTES = 16 << 20


def encode(message: dict[str, Any], data: bytes = b"") -> bytes:
    """Return a message as it goes over the stream."""
    if data:
        message = message | {"bytes": len(data)}
    return json.dumps(message).encode() + b"\n" + data


class Decoder:
    """Puts messages together from the pieces in which a stream hands them over."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Yield the messages that a piece completes, each with its bytes.

        Raises:
            ValueError: if it is no message.
        """
        self._rest += piece
        while (found := self._first()) is not None:
            yield found

    def _first(self) -> tuple[dict[str, Any], bytes] | None:
        end = self._rest.find(b"\n") + 1
        if not end:
            if len(self._rest) > _LINE_BYTES:
                raise ValueError("a message without an end")
            return None
        message = json.loads(self._rest[:end])
        if not isinstance(message, dict):
            raise ValueError("a message that is none")
        size = int(message.pop("bytes", 0))
        if len(self._rest) < end + size:
            return None
        data, self._rest = self._rest[end : end + size], self._rest[end + size :]
        return message, data


class RowSender:
    """Holds rows back and sends them home once a second, at marks and at the end.

    Args:
        table: which of home's files they belong to.
        send: takes a message and its bytes.
        clock: nanoseconds.
    """

    def __init__(
        self,
        table: str,
        send: Callable[[dict[str, Any], bytes], None],
        clock: Callable[[], int],
        flush_interval_ns: int = 1_000_000_000,
    ) -> None:
        self._table = table
        self._send = send
        self._clock = clock
        self._flush_interval_ns = flush_interval_ns
        self._flushed_ns = clock()
        self._lines: list[str] = []

    def write(self, line: str) -> None:
        """Take one line, newline included."""
        self._lines.append(line)

    def flush_if_due(self) -> None:
        """Send if the last time is an interval ago."""
        if self._clock() - self._flushed_ns >= self._flush_interval_ns:
            self.flush()

    def flush(self) -> None:
        """Send all lines."""
        self._flushed_ns = self._clock()
        if self._lines:
            data = "".join(self._lines).encode()
            self._lines.clear()
            self._send({"rows": self._table}, data)
