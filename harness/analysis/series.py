"""Memory over time on one clock grid: a level for each service at every tick.

A tick's value is the highest reading that fell into it, so that no peak is lost. Between two
readings of a container that are at most two seconds apart, the earlier one holds; a container that
is read no more, because it or its sampler is gone, counts no more. Services are sums over their
containers at the same tick: what they used at the same time.

How much of a run its samples cover: what a figure of memory must say of itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from harness.analysis.kinds import PartReadings

Levels = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
Counts = npt.NDArray[np.uint16]

TOPOLOGY = "topology"
HOST = "host"

_BRIDGED_NS = 2_000_000_000
# A day at 50 Hz; longer recordings get wider ticks.
_MOST_TICKS = 4_320_000


@dataclass(frozen=True)
class Memory:
    """Memory of a session over time.

    Attributes:
        view: ``cgroup``, ``inside`` or ``host``: whose readings these are.
        start_ns: time of the first tick, on the clock of the session's runs.
        tick_ns: distance of two ticks.
        services: bytes at each tick by service, NaN where nothing was read. All are of one
            length. The host's view has the one service ``host``.
        read: number of the service's containers that were read at each tick.
        before: the services' last readings before single moments, in bytes: exact where a tick,
            which may hold readings of both sides of a moment, is not.
        parts: the readings of each of a service's containers that told its parts; empty in views
            that tell none.
    """

    view: str
    start_ns: int
    tick_ns: int
    services: Mapping[str, Levels]
    read: Mapping[str, Counts]
    before: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    parts: Mapping[str, Sequence[PartReadings]] = field(default_factory=dict)

    @cached_property
    def total(self) -> Levels:
        """Bytes of all services together at each tick, NaN where nothing at all was read."""
        stacked = np.vstack(list(self.services.values()))
        total: Levels = np.nansum(stacked, axis=0)
        total[np.isnan(stacked).all(axis=0)] = np.nan
        return total

    @cached_property
    def containers(self) -> dict[str, int]:
        """Number of containers of each service: the most that were read at one time."""
        return {name: int(counts.max(initial=0)) for name, counts in self.read.items()}

    def levels(self, scope: str) -> Levels:
        """Return the bytes at each tick of a service, or of all together."""
        return self.total if scope == TOPOLOGY else self.services[scope]

    @cached_property
    def _all_read(self) -> Counts:
        total: Counts = np.sum(list(self.read.values()), axis=0, dtype=np.uint16)
        return total

    def counts(self, scope: str) -> Counts:
        """Return how many containers of a service, or of all, were read at each tick."""
        return self._all_read if scope == TOPOLOGY else self.read[scope]

    @property
    def end_ns(self) -> int:
        """Time after the last tick."""
        return self.start_ns + self.ticks * self.tick_ns

    @property
    def ticks(self) -> int:
        """Number of ticks."""
        return len(next(iter(self.services.values())))

    def level_before(self, t_ns: int, scope: str) -> float | None:
        """Return a scope's last reading before one of the moments; None if there is none."""
        found = self.before.get(t_ns, {})
        if scope == TOPOLOGY:
            return sum(found.values()) if found else None
        return found.get(scope)

    def tick(self, t_ns: int) -> int:
        """Return the tick a time falls into; negative before the recording."""
        return (t_ns - self.start_ns) // self.tick_ns

    def window(self, start_ns: int, end_ns: int) -> slice:
        """Return the ticks from the first to the last that a stretch of time touches."""
        return slice(max(self.tick(start_ns), 0), max(self.tick(end_ns) + 1, 0))


def service_of(container: str) -> str:
    """Return the service of a container name: ``worker`` of ``worker-2``."""
    return re.sub(r"-\d+$", "", container)


def build(
    view: str,
    readings: Iterable[tuple[str, str, Times, npt.NDArray[np.int64]]],
    moments: Iterable[int] = (),
) -> Memory | None:
    """Return the services' levels on a common grid; None if there are no readings.

    Args:
        view: whose readings they are.
        readings: (container, service, times, bytes) of every container, times ascending.
        moments: times of which the last readings before them are wanted.
    """
    found = [reading for reading in readings if len(reading[2])]
    if not found:
        return None
    start = min(int(times[0]) for _, _, times, _ in found)
    end = max(int(times[-1]) for _, _, times, _ in found)
    tick = max(_interval(times for _, _, times, _ in found), -(-(end - start) // _MOST_TICKS))
    ticks = (end - start) // tick + 1
    services: dict[str, Levels] = {}
    read: dict[str, Counts] = {}
    before: dict[int, dict[str, float]] = {moment: {} for moment in moments}
    for _, service, times, values in found:
        for moment, last in _readings_before(times, values, before):
            before[moment][service] = before[moment].get(service, 0.0) + last
        level = _on_grid((times - start) // tick, values, ticks, max(_BRIDGED_NS // tick, 1))
        there = ~np.isnan(level)
        if service not in services:
            services[service], read[service] = np.zeros(ticks), np.zeros(ticks, np.uint16)
        services[service] += np.where(there, level, 0.0)
        read[service] += there
    for service, levels in services.items():
        levels[read[service] == 0] = np.nan
    return Memory(view, start, tick, services, read, before)


def _readings_before(
    times: Times, values: npt.NDArray[np.int64], moments: Iterable[int]
) -> Iterator[tuple[int, float]]:
    """Yield each moment with the last reading before it, if it still held then."""
    for moment in moments:
        place = int(np.searchsorted(times, moment)) - 1
        if place >= 0 and moment - times[place] <= _BRIDGED_NS:
            yield moment, float(values[place])


def _interval(all_times: Iterable[Times]) -> int:
    """Return the usual distance of two readings of one container."""
    steps = [float(np.median(np.diff(times))) for times in all_times if len(times) > 1]
    return max(round(float(np.median(steps))), 1) if steps else 1


def _on_grid(cells: Times, values: npt.NDArray[np.int64], ticks: int, bridged: int) -> Levels:
    """Return one container's level at each tick; cells are ascending tick numbers."""
    firsts = np.flatnonzero(np.diff(cells, prepend=cells[0] - 1))
    level = np.full(ticks, np.nan)
    level[cells[firsts]] = np.maximum.reduceat(values, firsts)
    # The ticks of the last reading at or before each tick, and of the first at or after it.
    latest = np.full(ticks, -ticks - bridged, np.int64)
    latest[cells[firsts]] = cells[firsts]
    latest = np.maximum.accumulate(latest)
    following = np.full(ticks, 2 * ticks + bridged, np.int64)
    following[cells[firsts]] = cells[firsts]
    following = np.minimum.accumulate(following[::-1])[::-1]
    held = following - latest <= bridged
    return np.where(held, level[np.maximum(latest, 0)], np.nan)


MIN_COVERAGE = 0.9
"""Share of a run that samples must cover, or there is no figure of its memory."""


def coverage(counts: Counts, expected: int, ticks: int) -> float:
    """Return the share of some ticks at which all of the containers were read, 0 to 1.

    Args:
        counts: containers that were read, at each tick that was recorded.
        expected: how many there are.
        ticks: how many ticks there are, recorded or not.
    """
    if not expected or ticks <= 0:
        return 0.0
    return min(float((counts >= expected).sum()) / ticks, 1.0)
