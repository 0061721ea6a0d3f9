"""The runs of one mode in one session, and what they have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.metrics import RunFigures, ScopeFigures, session_figures
from harness.analysis.series import TOPOLOGY
from harness.analysis.session import Session

REFERENCE_MODE = "none"


@dataclass(frozen=True)
class Range:
    """Median and extremes of some runs' values."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class ScopeSummary:
    """Memory of one service, or of all, over the runs of a group, in bytes.

    Attributes are those of :class:`~harness.analysis.metrics.ScopeFigures`, each as a range.
    """

    scope: str
    containers: int
    baseline: Range
    peak: Range
    net_peak: Range
    mean: Range
    net_mean: Range
    leftover: Range | None
    peak_kinds: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """The runs of one mode in one session.

    Attributes:
        label: the mode; with the session's name where several sessions ran it.
        session: where the runs are from.
        mode: their mode.
        figures: of the runs that went through, in their order.
    """

    label: str
    session: Session
    mode: str
    figures: tuple[RunFigures, ...]

    @property
    def makespan(self) -> Range | None:
        """Makespan in seconds."""
        return range_of(f.run.makespan_s for f in self.figures)

    @property
    def scopes(self) -> list[ScopeSummary]:
        """Memory by service, all together last."""
        names = {name for figures in self.figures for name in figures.scopes}
        ordered = sorted(names, key=lambda name: (name == TOPOLOGY, name))
        return [
            _summary([f.scopes[name] for f in self.figures if name in f.scopes]) for name in ordered
        ]

    @property
    def topology(self) -> ScopeSummary | None:
        """Memory of all services at once."""
        return next((scope for scope in self.scopes if scope.scope == TOPOLOGY), None)


def range_of(values: Iterable[float | None]) -> Range | None:
    """Return median and extremes of the values that are there; None if none is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Range(float(np.median(known)), min(known), max(known))


def _summary(runs: Sequence[ScopeFigures]) -> ScopeSummary:
    def of(name: str) -> Range:
        found = range_of(getattr(figures, name) for figures in runs)
        assert found is not None
        return found

    return ScopeSummary(
        scope=runs[0].scope,
        containers=max(figures.containers for figures in runs),
        baseline=of("baseline_bytes"),
        peak=of("peak_bytes"),
        net_peak=of("net_peak_bytes"),
        mean=of("mean_bytes"),
        net_mean=of("net_mean_bytes"),
        leftover=range_of(figures.leftover_bytes for figures in runs),
        peak_kinds=tuple(sorted({_kind(figures) for figures in runs})),
    )


def _kind(figures: ScopeFigures) -> str:
    """Return where a peak was read, as people read it."""
    if not figures.peak_interval_ns:
        return f"kernel ({figures.peak_kind})"
    return f"sampled at {figures.peak_interval_ns / 1e6:.4g} ms"


def group_runs(sessions: Sequence[Session]) -> list[Group]:
    """Return the groups of some sessions, in the order of their first run.

    Modes of which no run went through have no group.
    """
    shared = Counter(mode for session in sessions for mode in session.modes)
    names = _distinct_names(sessions)
    groups = []
    for session, name in zip(sessions, names, strict=True):
        figures = session_figures(session)
        for mode in session.modes:
            runs = tuple(f for f in figures if f.run.mode == mode)
            if runs:
                label = mode if shared[mode] == 1 else f"{mode} ({name})"
                groups.append(Group(label, session, mode, runs))
    return groups


def reference(groups: Sequence[Group]) -> Group | None:
    """Return the group others are compared with: mode none, else the first."""
    return next((g for g in groups if g.mode == REFERENCE_MODE), groups[0] if groups else None)


def _distinct_names(sessions: Sequence[Session]) -> list[str]:
    names = [session.name for session in sessions]
    if len(set(names)) == len(names):
        return names
    return [f"{number} {name}" for number, name in enumerate(names, 1)]
