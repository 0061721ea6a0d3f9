"""An absolute clock grid: tick k is due at t0 + k x interval, whatever the ticks before it did.

Sleeping for an interval between samples drifts (92 to 97 samples a second where 100 were asked
for); sleeping until the next point of a grid does not. A tick that comes late is sampled late
and says by how much; points that have passed by then are skipped and counted as missed, never
made up for. Statistics take constant memory however long the grid runs.

What a sampler asks of the system: to wake on time, and descriptors enough.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_SUB_BITS = 4
_SUB = 1 << _SUB_BITS
# Enough for 2**46 ns (19 hours); anything later is counted in the last bucket.
_BUCKETS = _SUB * 43


class Histogram:
    """Counts of nanosecond values in log-linear buckets, each at most 1/16 of its value wide."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.max = 0

    def add(self, value: int) -> None:
        """Count one value; negative values count as zero."""
        value = max(value, 0)
        shift = max(value.bit_length() - _SUB_BITS - 1, 0)
        self._counts[min(shift * _SUB + (value >> shift), _BUCKETS - 1)] += 1
        self.count += 1
        self.max = max(self.max, value)

    def quantile(self, q: float) -> int:
        """Return an upper bound of the q-quantile, at most 1/16 too high; 0 when empty."""
        wanted = q * self.count
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted and index < _BUCKETS - 1:
                shift = max(index // _SUB - 1, 0)
                upper = ((index - shift * _SUB + 1) << shift) - 1
                return min(upper, self.max)
        return self.max


@dataclass(frozen=True, slots=True)
class GridReport:
    """How well a grid was kept. ``kept`` is ticks / (ticks + missed), 1.0 when none was missed."""

    interval_ns: int
    ticks: int
    missed: int
    kept: float
    late_median_ns: int
    late_p95_ns: int
    late_p99_ns: int
    late_max_ns: int

    def as_dict(self) -> dict[str, int | float]:
        """Return the figures for a JSON file."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Tick:
    """One point of the grid: its number since t0 and how late it was reached."""

    index: int
    late_ns: int


class Grid:
    """Ticks of one interval on CLOCK_MONOTONIC.

    ``sleep`` takes seconds and may return early (a signal, a closed pipe): the grid then asks
    ``stopped`` again and sleeps on. Raises ValueError for an interval that is not positive.
    """

    def __init__(
        self,
        interval_ns: int,
        *,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        if interval_ns <= 0:
            msg = f"a sampling interval must be positive, not {interval_ns} ns"
            raise ValueError(msg)
        self.interval_ns = interval_ns
        self._sleep = sleep
        self._clock = clock
        self._ticks = 0
        self._missed = 0
        self._late = Histogram()

    def ticks(self, stopped: Callable[[], bool]) -> Iterator[Tick]:
        """Yield ticks from now on until ``stopped()``, which is asked at least once per tick."""
        start = self._clock()
        index = 0
        while True:
            due = start + index * self.interval_ns
            now = self._clock()
            while now < due:
                if stopped():
                    return
                self._sleep((due - now) / 1e9)
                now = self._clock()
            if stopped():
                return
            self._ticks += 1
            self._late.add(now - due)
            yield Tick(index, now - due)
            following = max(index, (self._clock() - start) // self.interval_ns) + 1
            self._missed += following - index - 1
            index = following

    def report(self) -> GridReport:
        """Return the statistics so far."""
        wanted = self._ticks + self._missed
        return GridReport(
            interval_ns=self.interval_ns,
            ticks=self._ticks,
            missed=self._missed,
            kept=self._ticks / wanted if wanted else 1.0,
            late_median_ns=self._late.quantile(0.5),
            late_p95_ns=self._late.quantile(0.95),
            late_p99_ns=self._late.quantile(0.99),
            late_max_ns=self._late.max,
        )


class Every:
    """Says on which ticks of a fast grid a slower reading is due.

    If the tick it was due on is missed, the next one takes its place. The first tick is due.
    """

    def __init__(self, interval_ns: int, grid_interval_ns: int) -> None:
        self._step = max(round(interval_ns / grid_interval_ns), 1)
        self._next = 0

    def due(self, index: int) -> bool:
        """Return whether the reading is due on tick ``index``, and note that it was made."""
        if index < self._next:
            return False
        self._next = (index // self._step + 1) * self._step
        return True


def raise_priority() -> str:
    """Ask for real-time scheduling, else a better nice value, and return what was granted.

    A sampler uses about 1 % of a core; at the lowest real-time priority (SCHED_FIFO 1) it wakes
    within half a millisecond even when every core is busy, at normal priority up to 70 ms late.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        pass
    else:
        return "SCHED_FIFO 1"
    try:
        return f"nice {os.nice(-10)}"
    except OSError:
        return "normal"


def raise_descriptor_limit() -> None:
    """Raise this process's limit of open files as far as it may be: to the hard limit.

    The soft limit is often 1,024, for the sake of programs that use ``select``; ours do not.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
