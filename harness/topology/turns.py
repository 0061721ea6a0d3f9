"""Benches that take turns, topology by topology: what drifts meanwhile meets all of them alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from harness.core import interrupt
from harness.topology.bench import Bench
from harness.topology.leftovers import clean_in_background


@dataclass
class Turns:
    """Runs the plans of several benches, each time one topology of each, in random order.

    Args:
        benches: with the same runs; they share one ``LastTopology``.
        seed: of the order.
        enough: asked after each turn whether that settles it.
    """

    benches: Sequence[Bench]
    seed: int
    enough: Callable[[], bool]

    def run(self) -> None:
        """Run until every plan is at its end, or it is enough.

        Raises:
            as :meth:`Bench.session`: of several errors the last one.
        """
        order = random.Random(self.seed)
        with ExitStack() as stack:
            steps = [stack.enter_context(bench.session()) for bench in self.benches]
            # Each bench knows how to end itself at once; this ends all.
            stack.enter_context(interrupt.second_ends(self._end_at_once))
            while steps:
                for step in order.sample(steps, len(steps)):
                    if not _goes_on(step):
                        steps.remove(step)
                if steps and self.enough():
                    break

    def _end_at_once(self) -> None:
        projects = [project for bench in self.benches for project in bench.projects()]
        clean_in_background(projects, self.benches[0].say)


def _goes_on(step: Iterator[None]) -> bool:
    return next(step, _END) is not _END


_END = object()
