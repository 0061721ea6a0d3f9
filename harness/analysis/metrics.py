"""Figures of single runs: memory with and without the baseline, makespan, what is left over.

*Net* is less the same scope's use when the run started: the kernel's reading at the run_start mark
where peaks.csv has it, else the last sample before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.analysis.series import TOPOLOGY, Levels, Memory
from harness.analysis.session import Peak, Run, Session

SAMPLED = "sampled"


@dataclass(frozen=True)
class ScopeFigures:
    """Memory of one service, or of all together, in one run, in bytes.

    Attributes:
        scope: the service, or ``topology`` for all containers, or the host, at once.
        containers: how many it has.
        baseline_bytes: use at the start.
        peak_bytes: highest use from start to end; of all containers of the scope at once.
        peak_kind: where the peak was read: a kernel counter's name, or ``sampled``.
        peak_interval_ns: what the peak can miss: 0 if exact, else the sampling interval.
        mean_bytes: mean use over the run, on a clock grid.
        left_bytes: use when the phase after the run ended; None if nothing was recorded then.
    """

    scope: str
    containers: int
    baseline_bytes: float
    peak_bytes: float
    peak_kind: str
    peak_interval_ns: int
    mean_bytes: float
    left_bytes: float | None

    @property
    def net_peak_bytes(self) -> float:
        """Peak less baseline."""
        return self.peak_bytes - self.baseline_bytes

    @property
    def net_mean_bytes(self) -> float:
        """Mean less baseline."""
        return self.mean_bytes - self.baseline_bytes

    @property
    def leftover_bytes(self) -> float | None:
        """What stayed in use after the run: left less baseline."""
        return None if self.left_bytes is None else self.left_bytes - self.baseline_bytes


@dataclass(frozen=True)
class RunFigures:
    """All figures of one run.

    Attributes:
        run: the run.
        scopes: by service; the key ``topology`` is all together. Empty without samples.
    """

    run: Run
    scopes: dict[str, ScopeFigures]

    @property
    def topology(self) -> ScopeFigures | None:
        """Figures of all services at once."""
        return self.scopes.get(TOPOLOGY)


def run_figures(session: Session, run: Run) -> RunFigures:
    """Return one run's figures; scopes of which nothing was read are missing."""
    memory = session.memory
    if memory is None or run.start_ns is None or run.end_ns is None:
        return RunFigures(run, {})
    counts = dict(memory.containers) | {TOPOLOGY: sum(memory.containers.values())}
    found = {}
    for scope, containers in counts.items():
        exact = session.peaks.get((run.run_id, scope))
        figures = _scope_figures(memory, run, scope, exact)
        if figures is not None:
            found[scope] = ScopeFigures(scope, containers, *figures)
    return RunFigures(run, found)


def session_figures(session: Session) -> list[RunFigures]:
    """Return the figures of all runs that went through."""
    return [run_figures(session, run) for run in session.runs if run.measured]


def _scope_figures(
    memory: Memory, run: Run, scope: str, exact: Peak | None
) -> tuple[float, float, str, int, float, float | None] | None:
    """Return baseline, peak, its kind and interval, mean, and what is left; None if not read."""
    assert run.start_ns is not None
    assert run.end_ns is not None
    levels = memory.total if scope == TOPOLOGY else memory.services[scope]
    within = levels[memory.window(run.start_ns, run.end_ns)]
    if not len(within) or np.isnan(within).all():
        return None
    mean = float(np.nanmean(within))
    if exact is not None:
        baseline, peak = float(exact.baseline_bytes), float(exact.peak_bytes)
        kind, interval = exact.kind, exact.interval_ns
    else:
        before = memory.level_before(run.start_ns, scope)
        # Where sampling began after the run, its first reading is the best there is.
        baseline = float(within[~np.isnan(within)][0]) if before is None else before
        peak, kind, interval = float(np.nanmax(within)), SAMPLED, memory.tick_ns
    return baseline, peak, kind, interval, mean, _left(memory, run, scope, levels)


def _left(memory: Memory, run: Run, scope: str, levels: Levels) -> float | None:
    assert run.end_ns is not None
    if run.after_ns is not None:
        return memory.level_before(run.after_ns, scope)
    after = levels[max(memory.tick(run.end_ns) + 1, 0) :]
    known = after[~np.isnan(after)]
    return float(known[-1]) if len(known) else None
