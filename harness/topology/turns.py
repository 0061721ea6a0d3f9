"""Benches that take turns, topology by topology: what drifts meanwhile meets all of them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from harness.core.errors import MeasuredFailure
from harness.topology.bench import Bench

MOST_OPEN = 6
"""Sessions that are open at a time, as many as ``harness ab`` has sides. Each has an agent on the
engine's machine; to close one and open another took 1.5 s at a load of 31 on 2 CPUs."""


@dataclass
class Turns:
    """Runs the plans of several benches, each time one topology of each, in random order.

    Args:
        benches: with the same runs; they share one ``LastTopology``.
        seed: of the order.
        enough: asked after each topology whether that settles it.

    Attributes:
        topologies_s: how long topologies came up, ran and were waited for; the rest is the turns'.
    """

    benches: Sequence[Bench]
    seed: int
    enough: Callable[[], bool]
    topologies_s: float = 0.0
    _open: dict[Bench, _Session] = field(default_factory=dict)
    _failure: MeasuredFailure | None = None

    def run(self) -> None:
        """Run until every plan is at its end, or it is enough.

        Raises:
            as :meth:`Bench.session`: of several errors the last one.
        """
        order = random.Random(self.seed)
        waiting = list(self.benches)
        with ExitStack() as whole:
            turn: list[Bench] = []
            while waiting:
                turn = turn or order.sample(waiting, len(waiting))
                bench = turn.pop(0)
                if not self._step(bench, whole):
                    waiting.remove(bench)
                    self._close(bench)
                if waiting and self.enough():
                    break
        if self._failure is not None:
            raise self._failure

    def _step(self, bench: Bench, whole: ExitStack) -> bool:
        """Run one topology of a bench; return whether it may have more."""
        session = self._open.pop(bench, None)
        if session is None:
            while len(self._open) >= MOST_OPEN:
                # The one whose turn was longest ago: its topology is down.
                self._close(next(iter(self._open)))
            session = _Session(bench)
            # An error ends all that are open by then.
            whole.push(session.stack)
            session.begin()
        self._open[bench] = session
        began = time.monotonic()
        try:
            return session.step()
        finally:
            self.topologies_s += time.monotonic() - began

    def _close(self, bench: Bench) -> None:
        try:
            self._open.pop(bench).stack.close()
        except MeasuredFailure as error:
            # The others still have their turns.
            self._failure = error


class _Session:
    """A session of a bench, and what ends it."""

    def __init__(self, bench: Bench) -> None:
        self.stack = ExitStack()
        self._bench = bench
        self._steps: Iterator[None] = iter(())

    def begin(self) -> None:
        self._steps = self.stack.enter_context(self._bench.session())

    def step(self) -> bool:
        """Run one topology; return whether there may be more."""
        return next(self._steps, _END) is not _END


_END = object()
