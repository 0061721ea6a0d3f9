"""Memory over time: the median run among the others, aligned at their starts; points to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.analysis.figures import Group, RunFigures
from harness.analysis.series import TOPOLOGY, Levels, Memory

Indices = npt.NDArray[np.int64]

# How much before and after a run is shown: what was recorded, up to this part of the run.
_AROUND = 0.1
_AROUND_S = 2.0


@dataclass(frozen=True)
class Band:
    """A mode's memory over time, over its runs.

    Attributes:
        t_s: seconds since the start of the run.
        median: bytes at these times of the median run (:func:`typical_run`): one that there was.
            The runs' mean is none: their stages do not coincide, and it jumps when one ends.
        low, high: the lowest and the highest of all runs at these times.
    """

    t_s: Levels
    median: Levels
    low: Levels
    high: Levels


@dataclass(frozen=True)
class RunCurve:
    """One run's memory over time.

    Attributes:
        t_s: seconds since the start of the run.
        services: bytes at these times by service.
        total: of all services together.
    """

    t_s: Levels
    services: dict[str, Levels]
    total: Levels


def band(group: Group, *, net: bool, scope: str = TOPOLOGY) -> Band | None:
    """Return the median run of a group among the others; None without samples.

    If no run went through, those that did not are shown. Each run counts until it ends.

    Args:
        group: the runs.
        net: whether to take each run's own baseline off first.
        scope: a service, or all together.
    """
    memory = group.session.memory
    runs = [figures for figures in group.figures or group.runs if scope in figures.scopes]
    if memory is None or not runs:
        return None
    windows = [_until_end(memory, figures) for figures in runs]
    before = max(start - first for first, start, _ in windows)
    after = max(last - start for _, start, last in windows)
    series = memory.levels(scope)
    rows = np.full((len(runs), before + after), np.nan)
    for number, (figures, (first, start, last)) in enumerate(zip(runs, windows, strict=True)):
        levels = series[first:last]
        offset = before - (start - first)
        baseline = baseline_of(figures, scope) if net else 0.0
        rows[number, offset : offset + len(levels)] = levels - baseline
    t_s = _seconds(-before, after, memory)
    there = ~np.isnan(rows)
    known = there.any(axis=0)
    low = np.where(known, np.where(there, rows, np.inf).min(axis=0), np.nan)
    high = np.where(known, np.where(there, rows, -np.inf).max(axis=0), np.nan)
    return Band(t_s, rows[runs.index(_median_of(runs))], low, high)


def run_curve(memory: Memory, figures: RunFigures) -> RunCurve:
    """Return one run's memory by service."""
    first, start, last = _shown(memory, figures)
    return RunCurve(
        t_s=_seconds(first - start, last - start, memory),
        services={name: levels[first:last] for name, levels in memory.services.items()},
        total=memory.total[first:last],
    )


def baseline_of(figures: RunFigures, scope: str = TOPOLOGY) -> float:
    """Return a scope's baseline in bytes, 0 where there is none."""
    return figures.scopes[scope].baseline_bytes if scope in figures.scopes else 0.0


def typical_run(group: Group) -> RunFigures:
    """Return the median run: that of the median net peak (the upper of two), then makespan.

    If no run went through: the first that has figures of memory, else the first.
    """
    if not group.figures:
        return next((figures for figures in group.runs if figures.scopes), group.runs[0])
    return _median_of(group.figures)


def _median_of(runs: Sequence[RunFigures]) -> RunFigures:
    def size(figures: RunFigures) -> tuple[float, float]:
        peak = figures.topology.net_peak_bytes if figures.topology else 0.0
        return peak, figures.run.makespan_s or 0.0

    return sorted(runs, key=size)[len(runs) // 2]


def _until_end(memory: Memory, figures: RunFigures) -> tuple[int, int, int]:
    """Return what is shown of a run, without what comes after its end."""
    first, start, last = _shown(memory, figures)
    assert figures.end_ns is not None
    return first, start, max(min(last, memory.tick(figures.end_ns) + 1), start)


def _seconds(first: int, last: int, memory: Memory) -> Levels:
    return np.arange(first, last, dtype=np.float64) * np.float64(memory.tick_ns / 1e9)


def _shown(memory: Memory, figures: RunFigures) -> tuple[int, int, int]:
    """Return the first tick shown of a run, its start, and the tick after the last shown."""
    run, end_ns = figures.run, figures.end_ns
    assert run.start_ns is not None
    assert end_ns is not None
    around = int((end_ns - run.start_ns) * _AROUND + _AROUND_S * 1e9)
    earliest = min(run.marks.values(), default=run.start_ns)
    latest = end_ns + around
    if run.end_ns is None:
        latest = end_ns  # It was killed: what comes after is not its own.
    elif run.after_ns is not None:
        latest = run.after_ns
    first = memory.tick(max(earliest, run.start_ns - around))
    last = memory.tick(min(latest, end_ns + around)) + 1
    start = min(max(memory.tick(run.start_ns), 0), memory.ticks)
    return min(max(first, 0), start), start, min(max(last, start), memory.ticks)


def thin(levels: Levels, points: int) -> Indices:
    """Return which values to draw: of each stretch its lowest and its highest.

    The highest and the lowest of all values are always among them (min-max thinning; LTTB would
    draw prettier lines and may lose a peak of one sample). Where values are missing, one NaN is
    kept so that the line breaks there.

    Args:
        levels: values at even distances, NaN where missing.
        points: about how many to keep, at least four.
    """
    there = ~np.isnan(levels)
    known = np.flatnonzero(there)
    if len(known) <= points:
        kept = known
    else:
        chosen = [known[[0, -1]]]
        for stretch in np.array_split(known, max(points // 2, 1)):
            values = levels[stretch]
            chosen.append(stretch[[values.argmin(), values.argmax()]])
        kept = np.unique(np.concatenate(chosen))
    breaks = np.flatnonzero(there[:-1] & ~there[1:]) + 1
    inner = breaks[breaks < known[-1]] if len(known) else breaks[:0]
    return np.union1d(kept, inner[:points])


def thin_together(all_levels: list[Levels], points: int) -> Indices:
    """Return which values to draw of several series on the same ticks, as for a stack.

    Keeps what :func:`thin` keeps of each.
    """
    kept = [thin(levels, max(points // len(all_levels), 4)) for levels in all_levels]
    found: Indices = np.unique(np.concatenate(kept))
    return found
