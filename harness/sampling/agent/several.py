"""One topology on several nodes: an agent watches each, and the runner hears one answer.

A mark that the agent on the runner's node has handled is told to all others; it is confirmed when
all have handled it. Memory was flat if it was flat on every node.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.results.conversation import NOT_WATCHED, SETTLED, STOP, TIMED_OUT, Settled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.results.schema import MarkRow
    from harness.sampling.agent.relay import Watch


def together(found: Iterable[Settled]) -> Settled:
    """Return what the verdicts of all nodes on one baseline add up to."""
    all_of_them = list(found)
    watched = [each for each in all_of_them if each.verdict != NOT_WATCHED]
    if not watched:
        return Settled(NOT_WATCHED)
    timed_out = any(each.verdict == TIMED_OUT for each in watched)
    spread = sum(each.spread_bytes or 0 for each in watched)
    return Settled(TIMED_OUT if timed_out else SETTLED, spread)


@dataclass
class Several:
    """The watches of one topology, by node.

    Args:
        first: the node of the runner.
        nodes: all nodes.

    Attributes:
        watches: to be filled in before the runner begins.
    """

    first: str
    nodes: tuple[str, ...]
    watches: dict[str, Watch] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: set[str] = field(default_factory=set)
    _settled: dict[str, dict[str, Settled]] = field(default_factory=dict)

    def handled(self, node: str, mark: MarkRow) -> None:
        """Hear that an agent has handled a mark and sent its rows."""
        others = [name for name in self.nodes if name != self.first]
        with self._lock:
            if node == self.first:
                self._waiting = set() if mark.mark == STOP else set(others)
                told = list(self._waiting)
            else:
                told = []
                self._waiting.discard(node)
            complete = not self._waiting
        for name in told:
            self.watches[name].mark(mark)
        if complete:
            self.watches[self.first].confirm()

    def settled(self, node: str, run_id: str, found: Settled) -> None:
        """Hear whether memory was flat on a node."""
        with self._lock:
            of_run = self._settled.setdefault(run_id, {})
            of_run[node] = found
            if len(of_run) < len(self.nodes):
                return
            verdict = together(self._settled.pop(run_id).values())
        self.watches[self.first].tell_settled(run_id, verdict)

    def poll(self) -> str | None:
        """Return why sampling has ended on a node, None while it goes on everywhere."""
        for name, watch in self.watches.items():
            why = watch.poll()
            if why is not None:
                return f"{why} (node {name})" if len(self.nodes) > 1 else why
        return None

    def ask(self, timeout_s: float) -> str | None:
        """Ask every agent whether it is there; return who does not answer in time, else None."""
        with ThreadPoolExecutor(len(self.watches)) as pool:
            silent = pool.map(lambda watch: watch.is_silent(timeout_s), self.watches.values())
            names = [
                name for name, is_silent in zip(self.watches, silent, strict=True) if is_silent
            ]
        if not names:
            return None
        of = f" of node {', '.join(names)}" if len(self.nodes) > 1 else ""
        return f"its agent{of} did not answer within {timeout_s:g} s"

    def killed(self) -> Mapping[str, int]:
        """Return each container's kills for lack of memory, where they can be counted."""
        found: dict[str, int] = {}
        for watch in self.watches.values():
            found |= watch.killed()
        return found
