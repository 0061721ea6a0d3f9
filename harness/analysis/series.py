"""Memory over time on one clock grid: a level for each service at every tick.

A tick's value is the highest reading that fell into it, so that no peak is lost, and a container's
last reading holds until the next one, for at most two seconds. Services are sums over their
containers at the same tick: what they used at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

Levels = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]

TOPOLOGY = "topology"
HOST = "host"

_HOLD_NS = 2_000_000_000
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
        containers: number of containers of each service.
        before: the services' last readings before single moments, in bytes: exact where a tick,
            which may hold readings of both sides of a moment, is not.
    """

    view: str
    start_ns: int
    tick_ns: int
    services: Mapping[str, Levels]
    containers: Mapping[str, int]
    before: Mapping[int, Mapping[str, float]] = field(default_factory=dict)

    @cached_property
    def total(self) -> Levels:
        """Bytes of all services together at each tick, NaN where nothing at all was read."""
        stacked = np.vstack(list(self.services.values()))
        total: Levels = np.nansum(stacked, axis=0)
        total[np.isnan(stacked).all(axis=0)] = np.nan
        return total

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
    read: dict[str, npt.NDArray[np.bool_]] = {}
    containers: dict[str, int] = {}
    before: dict[int, dict[str, float]] = {moment: {} for moment in moments}
    for _, service, times, values in found:
        for moment, last in _readings_before(times, values, before):
            before[moment][service] = before[moment].get(service, 0.0) + last
        level = _on_grid((times - start) // tick, values, ticks, max(_HOLD_NS // tick, 1))
        there = ~np.isnan(level)
        if service in services:
            services[service] += np.where(there, level, 0.0)
            read[service] |= there
        else:
            services[service], read[service] = np.where(there, level, 0.0), there
        containers[service] = containers.get(service, 0) + 1
    for service, levels in services.items():
        levels[~read[service]] = np.nan
    return Memory(view, start, tick, services, containers, before)


def _readings_before(
    times: Times, values: npt.NDArray[np.int64], moments: Iterable[int]
) -> Iterator[tuple[int, float]]:
    """Yield each moment with the last reading before it, if it still held then."""
    for moment in moments:
        place = int(np.searchsorted(times, moment)) - 1
        if place >= 0 and moment - times[place] <= _HOLD_NS:
            yield moment, float(values[place])


def _interval(all_times: Iterable[Times]) -> int:
    """Return the usual distance of two readings of one container."""
    steps = [float(np.median(np.diff(times))) for times in all_times if len(times) > 1]
    return max(round(float(np.median(steps))), 1) if steps else 1


def _on_grid(cells: Times, values: npt.NDArray[np.int64], ticks: int, hold: int) -> Levels:
    """Return one container's level at each tick; cells are ascending tick numbers."""
    firsts = np.flatnonzero(np.diff(cells, prepend=cells[0] - 1))
    level = np.full(ticks, np.nan)
    level[cells[firsts]] = np.maximum.reduceat(values, firsts)
    # The tick of the last reading at or before each tick.
    latest = np.full(ticks, -1, np.int64)
    latest[cells[firsts]] = cells[firsts]
    latest = np.maximum.accumulate(latest)
    held = (latest >= 0) & (np.arange(ticks) - latest <= hold)
    return np.where(held, level[np.maximum(latest, 0)], np.nan)
