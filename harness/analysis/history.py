"""Figures over the versions of a package, and between which of them they step.

A step is looked for in the medians of the versions (PELT, Killick et al. 2012). It is named if two
verdicts say so: that of ``compare`` between the two versions beside it, and that of all runs up to
the step before, beside all runs up to the next one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import ruptures

from harness.analysis.compare import (
    METRICS,
    Metric,
    Question,
    Row,
    Sample,
    compare_groups,
    sample_of,
)
from harness.analysis.figures import Group, group_runs
from harness.analysis.identity import other_work
from harness.analysis.series import TOPOLOGY
from harness.analysis.session import Session
from harness.analysis.statistics import Spread, spread
from harness.analysis.verdicts import Comparison, Rules, Sides, Verdict, compare
from harness.core.errors import UsageError

SHOWN = ("net_peak", "baseline", "net_mean", "leftover", "makespan")
"""The metrics of a history, the first as the headline."""
_SHOWN = tuple(metric for name in SHOWN for metric in METRICS if metric.name == name)
# The variance of a median of many normal values, of that of their mean.
_MEDIAN = math.pi / 2


@dataclass(frozen=True)
class Line:
    """One metric of the topology, or of a service, in one mode.

    Attributes:
        metric: what.
        scope: the service, or ``topology``.
        mode: the mode.
        points: one for each version; None where it has no figure.
        floor: what the measurement resolves.
    """

    metric: Metric
    scope: str
    mode: str
    points: tuple[Spread | None, ...]
    floor: float

    @property
    def name(self) -> str:
        """As flags and JSON spell it: ``net_peak:runner``."""
        return self.metric.name if self.scope == TOPOLOGY else f"{self.metric.name}:{self.scope}"

    def values(self, places: Sequence[int]) -> list[float]:
        """Return the values of all runs of some versions."""
        points = (self.points[place] for place in places)
        return [value for point in points if point is not None for value in point.values]


@dataclass(frozen=True)
class Change:
    """A step of a line between two versions.

    Attributes:
        line: the line.
        before, after: places of the versions; those between them have no figure.
        row: the second version beside the first, as ``compare`` has it.
        around: all runs from this step to the next one, beside those since the one before. The
            place of the step was chosen among all, and two versions alone may differ by chance.
    """

    line: Line
    before: int
    after: int
    row: Row
    around: Comparison

    @property
    def named(self) -> bool:
        """Whether the verdicts are that there is one."""
        said = self.row.verdict
        return said in (Verdict.WORSE, Verdict.BETTER) and said is self.around.verdict

    @property
    def needs(self) -> str:
        """What it would take to decide; empty if it is decided, or nothing can."""
        open_ = (each for each in (self.row, self.around) if each.verdict is Verdict.UNDECIDED)
        return next((each.needs for each in open_), "")


@dataclass(frozen=True)
class History:
    """The versions of a package, from the oldest.

    Attributes:
        package: its name.
        versions: as the index spells them.
        sessions: what was measured of each; None where nothing was.
        rules: when a difference counts.
    """

    package: str
    versions: tuple[str, ...]
    sessions: tuple[Session | None, ...]
    rules: Rules

    @property
    def measured(self) -> list[Session]:
        """The sessions that there are."""
        return [session for session in self.sessions if session is not None]

    @cached_property
    def modes(self) -> list[str]:
        """The modes, in the order of their first run."""
        return list(dict.fromkeys(mode for session in self.measured for mode in session.modes))

    @cached_property
    def _groups(self) -> Mapping[tuple[int, str], Group]:
        found = {}
        for place, session in enumerate(self.sessions):
            for group in group_runs([session]) if session is not None else ():
                if group.figures:
                    found[place, group.mode] = group
        return found

    def runs(self, place: int, mode: str) -> int:
        """Return how many runs of a version went through."""
        group = self._groups.get((place, mode))
        return 0 if group is None else len(group.figures)

    @cached_property
    def lines(self) -> list[Line]:
        """Every metric of the topology, then of each service, in each mode."""
        groups = self._groups.values()
        services = sorted({s for g in groups for f in g.figures for s in f.scopes} - {TOPOLOGY})
        # One service alone is the topology.
        scopes = [TOPOLOGY, *(services if len(services) > 1 else [])]
        found = [
            self._line(metric, scope, mode)
            for metric in _SHOWN
            for scope in scopes
            if scope == TOPOLOGY or metric.per_service
            for mode in self.modes
        ]
        return [line for line in found if any(line.points)]

    def _line(self, metric: Metric, scope: str, mode: str) -> Line:
        points: list[Spread | None] = []
        floor = 0.0
        for place in range(len(self.versions)):
            group = self._groups.get((place, mode))
            found = Sample(()) if group is None else sample_of(metric, scope, group)
            points.append(spread(found.values) if found.values else None)
            floor = max(floor, found.floor)
        return Line(metric, scope, mode, tuple(points), floor)

    @cached_property
    def steps(self) -> list[Change]:
        """Where lines step by their medians, whatever the verdict, from the oldest version."""
        places = max(len(self.versions) - 1, 1)
        rules = replace(self.rules, alpha=self.rules.alpha / places)
        chance = self.rules.alpha / places / max(len(self.lines), 1)
        rows: dict[tuple[int, int], Mapping[tuple[str, str, str], Row]] = {}
        found = []
        for line in self.lines:
            for left, right in pairwise(_levels(line, chance)):
                before, after = left[-1], right[0]
                if (before, after) not in rows:
                    rows[before, after] = self._rows(before, after)
                row = rows[before, after].get((line.mode, line.scope, line.metric.name))
                if row is not None:
                    sides = Sides(line.values(left), line.values(right), line.floor)
                    found.append(Change(line, before, after, row, compare(sides, rules)))
        return sorted(found, key=lambda change: change.after)

    @property
    def changes(self) -> list[Change]:
        """The steps that the verdicts confirm."""
        return [step for step in self.steps if step.named]

    @property
    def open(self) -> list[Change]:
        """The steps for which there are too few runs."""
        return [step for step in self.steps if step.needs]

    def _rows(self, before: int, after: int) -> Mapping[tuple[str, str, str], Row]:
        """Return what ``compare`` says of two versions, by mode, scope and metric."""
        pairs = [
            (self._groups[before, mode], self._groups[after, mode])
            for mode in self.modes
            if (before, mode) in self._groups and (after, mode) in self._groups
        ]
        found = compare_groups(pairs, Question(self.rules, SHOWN))
        return {(row.mode, row.scope, row.metric.name): row for each in found for row in each}


def _levels(line: Line, chance: float) -> list[list[int]]:
    """Return the places of versions with figures, divided where their medians step.

    A step costs what chance alone reaches with a probability of ``chance`` between two versions
    that do not differ, given how the runs of one version scatter. As each run has a topology of its
    own and the versions take turns, that is all the noise there is.
    """
    there = [(place, point) for place, point in enumerate(line.points) if point is not None]
    if len(there) < 2:
        return []
    medians = np.array([point.median for _, point in there])
    penalty = _noise(line) ** 2 * NormalDist().inv_cdf(1 - chance / 2) ** 2
    # Half the square of a step is what it saves at least; below this none can be measured.
    penalty = max(penalty, line.floor**2 / 2, float(np.finfo(float).tiny))
    ends = ruptures.Pelt(model="l2", min_size=1, jump=1).fit(medians).predict(pen=penalty)
    return [[place for place, _ in there[a:b]] for a, b in pairwise([0, *ends])]


def _noise(line: Line) -> float:
    """Return the standard error of a version's median, from how its runs scatter."""
    samples = [np.asarray(point.values) for point in line.points if point is not None]
    freedom = sum(len(sample) - 1 for sample in samples)
    if not freedom:
        return 0.0
    squares = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in samples)
    fewest = min(len(sample) for sample in samples)
    # Of one or two runs the median is the mean.
    return math.sqrt(squares / freedom / fewest * (_MEDIAN if fewest > 2 else 1))


def require_same_work(package: str, sessions: Sequence[Session]) -> None:
    """Refuse sessions that answer different questions.

    Raises:
        UsageError: one line that names two of them and what differs.
    """
    for session in sessions[1:]:
        other = [str(difference) for difference in other_work(sessions[0], session)]
        if other:
            raise UsageError(
                f"{session.path}: other work was done than in {sessions[0].path}"
                f" ({'; '.join(other)}): a history of {package} needs the same plan"
            )
