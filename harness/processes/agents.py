"""The agents of a topology's nodes: what they say of their clocks, and when they say nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.clock import Reference
from harness.core.errors import InfrastructureError
from harness.results.rows import RowWriter
from harness.results.schema import NodeRow
from harness.sampling.agent.relay import Relay, Transport
from harness.sampling.clocks import Offset

# A watching agent sends rows each second.
_SILENT_S = 8.0
# What one look at them adds to their silence at most: home looks more often, unless it stood still
# itself, as on a machine without time for it. Then it has not taken what they said, either.
_LOOK_S = 1.0


class NodeRelay(Relay):
    """Talks to the agent of a node, and gives up one that says nothing more.

    Args:
        transport: to the agent.
    """

    def __init__(self, transport: Transport) -> None:
        self._looked_s = time.monotonic()
        self._silent_s = 0.0
        super().__init__(transport)

    def _take(self, message: dict[str, Any], data: bytes) -> None:
        self._silent_s = 0.0
        super()._take(message, data)

    def _send(self, message: dict[str, Any]) -> None:
        if not self._gone:
            super()._send(message)

    def silent(self) -> str:
        """Return why a watching agent is given up; empty while it says something."""
        now_s = time.monotonic()
        self._silent_s += min(now_s - self._looked_s, _LOOK_S)
        self._looked_s = now_s
        if not self._gone and self._silent_s > _SILENT_S:
            self._gone = f"it has said nothing for {_SILENT_S:g} s"
            with self._lock:
                for answered in self._waiting.values():
                    answered.put({"error": self._gone})
        return self._gone


@dataclass
class Agents:
    """The agents of a bench.

    Args:
        relays: by node, that of the runner first.
        first: the runner's node.
        table: where measurements of the clocks go.
    """

    relays: Mapping[str, NodeRelay]
    first: str
    table: Path
    _offsets: dict[str, Offset] = field(default_factory=dict)

    @property
    def runner(self) -> NodeRelay:
        """The agent of the runner's node."""
        return self.relays[self.first]

    def measure(self, topology: int, moment: str) -> None:
        """Measure all clocks and write that down; nothing where there is one node.

        Raises:
            InfrastructureError: if an agent does not answer.
            OSError: if that cannot be written.
        """
        if len(self.relays) < 2:
            return
        self._offsets = {node: relay.clock_offset() for node, relay in self.relays.items()}
        now_ns = self.runner.ask("clock")["mono_ns"]
        with RowWriter(self.table, NodeRow) as rows:
            for node, relay in self.relays.items():
                same = relay.clock == self.runner.clock
                error_ns = self._offsets[node].error_ns + self._offsets[self.first].error_ns
                word = "same" if same else "measured"
                shift_ns = self._shift_ns(node)
                error_ns = 0 if same else error_ns
                rows.write(NodeRow(node, moment, topology, now_ns, shift_ns, error_ns, word))

    def _shift_ns(self, node: str) -> int:
        if self.relays[node].clock == self.runner.clock:
            return 0
        return self._offsets[node].offset_ns - self._offsets[self.first].offset_ns

    def references(self) -> dict[str, Reference]:
        """Return the clock that times are on, as each node has to know it."""
        told = self.runner.ask("clock")
        unix_minus_mono_ns = told["unix_ns"] - told["mono_ns"]
        return {
            node: Reference()
            if relay.clock == self.runner.clock
            else Reference(self.runner.clock, self._shift_ns(node), unix_minus_mono_ns)
            for node, relay in self.relays.items()
        }

    def ask_all(self, request: str, **words: Any) -> None:
        """Ask all agents for something; one that is gone does nothing."""
        for relay in self.relays.values():
            with suppress(OSError, InfrastructureError):
                relay.ask(request, **words)
