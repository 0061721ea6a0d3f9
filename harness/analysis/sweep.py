"""Figures over the values of a parameter, and from where on one mode needs less than another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise

from harness.analysis.compare import METRICS, Metric, Question, Row, compare_groups, sample_of
from harness.analysis.figures import REFERENCE_MODE, Group, group_runs
from harness.analysis.series import TOPOLOGY
from harness.analysis.session import Session
from harness.analysis.statistics import Spread, spread
from harness.analysis.verdicts import Rules, Verdict

SHOWN = ("net_peak", "peak_per_payload", "net_mean", "makespan", "makespan_per_ideal")
"""The metrics of a sweep, the first as the headline."""
JUDGED = ("net_peak", "makespan")
"""Those of which modes are compared with each other."""
_SHOWN = tuple(metric for name in SHOWN for metric in METRICS if metric.name == name)


@dataclass(frozen=True)
class Point:
    """One cell of a sweep.

    Attributes:
        name: its directory's.
        values: the parameters' values as flags have them.
        numbers: what they are on an axis, sizes in bytes; None if a value is no number.
        session: its runs; None if there are none.
    """

    name: str
    values: Mapping[str, str]
    numbers: Mapping[str, float | None]
    session: Session | None


@dataclass(frozen=True)
class Stretch:
    """Neighbouring values of the axis at which a verdict is the same.

    Attributes:
        verdict: of the second mode beside the first.
        first, last: places on the axis.
        rows: a row for each.
    """

    verdict: Verdict
    first: int
    last: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Contest:
    """One mode beside another over the axis, in one metric.

    Attributes:
        metric: what is compared.
        mode_a, mode_b: the modes; less of the metric is better.
        stretches: from the lowest value to the highest.
        crossing: where the medians cross, on the axis: between the last value at which one mode
            needs less for certain and the first at which the other one does; None if they do not,
            or the axis holds no numbers.
    """

    metric: Metric
    mode_a: str
    mode_b: str
    stretches: tuple[Stretch, ...]
    crossing: float | None


@dataclass(frozen=True)
class Panel:
    """The cells in which only the axis' parameter differs.

    Attributes:
        others: the other parameters' values.
        axis: the parameter that differs.
        points: by its values, numbers from the lowest.
        rules: when a difference counts.
    """

    others: Mapping[str, str]
    axis: str
    points: tuple[Point, ...]
    rules: Rules

    @property
    def labels(self) -> list[str]:
        """The values of the axis, as flags have them."""
        return [point.values[self.axis] for point in self.points]

    @property
    def numbers(self) -> list[float] | None:
        """The values of the axis; None if one is no number."""
        found = [point.numbers[self.axis] for point in self.points]
        known = [number for number in found if number is not None]
        return known if len(known) == len(found) else None

    @cached_property
    def _groups(self) -> Mapping[tuple[int, str], Group]:
        return {
            (place, group.mode): group
            for place, point in enumerate(self.points)
            if point.session is not None
            for group in group_runs([point.session])
            if group.figures
        }

    @cached_property
    def modes(self) -> list[str]:
        """The modes, in the order of their first run."""
        return list(dict.fromkeys(mode for _, mode in self._groups))

    def runs(self, place: int, mode: str) -> int:
        """Return how many runs of a cell went through."""
        group = self._groups.get((place, mode))
        return 0 if group is None else len(group.figures)

    @property
    def services(self) -> list[str]:
        """All services there are; none if there is but one, which is the topology."""
        groups = self._groups.values()
        found = sorted({s for g in groups for f in g.figures for s in f.scopes} - {TOPOLOGY})
        return found if len(found) > 1 else []

    def line(self, metric: Metric, scope: str, mode: str) -> list[Spread | None]:
        """Return one metric over the axis; None where there is no figure."""
        found: list[Spread | None] = []
        for place in range(len(self.points)):
            group = self._groups.get((place, mode))
            values = () if group is None else sample_of(metric, scope, group).values
            found.append(spread(values) if values else None)
        return found

    @cached_property
    def contests(self) -> list[Contest]:
        """Each mode beside the first one, or ``none``; all points are judged as one family."""
        if len(self.modes) < 2:
            return []
        first = REFERENCE_MODE if REFERENCE_MODE in self.modes else self.modes[0]
        keys = [
            (place, mode)
            for mode in self.modes
            for place in range(len(self.points))
            if mode != first and {(place, first), (place, mode)} <= set(self._groups)
        ]
        pairs = [(self._groups[place, first], self._groups[place, mode]) for place, mode in keys]
        found = compare_groups(pairs, Question(self.rules, JUDGED, services=False))
        rows = {
            (row.metric.name, mode, place): row
            for (place, mode), each in zip(keys, found, strict=True)
            for row in each
        }
        contests = []
        for metric in (metric for metric in _SHOWN if metric.name in JUDGED):
            for mode in self.modes:
                there = [
                    (place, rows[metric.name, mode, place])
                    for place in range(len(self.points))
                    if (metric.name, mode, place) in rows
                ]
                if there:
                    contests.append(
                        Contest(metric, first, mode, stretches(there), self._crossing(there))
                    )
        return contests

    def _crossing(self, rows: Sequence[tuple[int, Row]]) -> float | None:
        numbers = self.numbers
        decided = [(p, r) for p, r in rows if r.verdict in (Verdict.BETTER, Verdict.WORSE)]
        turns = [(a, b) for a, b in pairwise(decided) if a[1].verdict != b[1].verdict]
        if numbers is None or len(turns) != 1:
            return None
        (left, before), (right, after) = turns[0]
        assert before.comparison is not None
        assert after.comparison is not None
        return crossing(
            (numbers[left], before.comparison.difference),
            (numbers[right], after.comparison.difference),
        )


def stretches(rows: Sequence[tuple[int, Row]]) -> tuple[Stretch, ...]:
    """Return neighbouring rows with the same verdict together."""
    found = []
    for verdict, each in groupby(rows, key=lambda row: _simple(row[1].verdict)):
        members = list(each)
        of_all = tuple(row for _, row in members)
        found.append(Stretch(verdict, members[0][0], members[-1][0], of_all))
    return tuple(found)


def _simple(verdict: Verdict) -> Verdict:
    """Return one verdict for those that mean the same on a curve."""
    if verdict is Verdict.TOO_SMALL:
        return Verdict.EQUIVALENT
    return Verdict.UNDECIDED if verdict is Verdict.NOT_COMPARABLE else verdict


def crossing(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Return where a line through two points, whose heights have different signs, is zero.

    Between positive values it is straight over their logarithm, as on the axis.
    """
    (x0, y0), (x1, y1) = a, b
    share = y0 / (y0 - y1)
    if x0 > 0 and x1 > 0:
        return math.exp(math.log(x0) + share * (math.log(x1) - math.log(x0)))
    return x0 + share * (x1 - x0)


def axis_of(points: Sequence[Point], wanted: str | None = None) -> str:
    """Return the parameter of the axis: the one wanted, else the first with the most numbers."""
    names = list(points[0].values)
    if wanted is not None:
        return wanted
    numbers = {
        name: len({point.numbers[name] for point in points} - {None})
        if all(point.numbers[name] is not None for point in points)
        else 0
        for name in names
    }
    return max(names, key=lambda name: numbers[name])


def panels_of(points: Sequence[Point], axis: str, rules: Rules) -> list[Panel]:
    """Return the cells that differ only on the axis together, in the order of their first cell."""
    found: dict[tuple[str, ...], list[Point]] = {}
    for point in points:
        key = tuple(value for name, value in point.values.items() if name != axis)
        found.setdefault(key, []).append(point)
    panels = []
    for members in found.values():
        numbers = [point.numbers[axis] for point in members]
        if all(number is not None for number in numbers):
            members.sort(key=lambda point: point.numbers[axis] or 0.0)
        others = {name: value for name, value in members[0].values.items() if name != axis}
        panels.append(Panel(others, axis, tuple(members), rules))
    return panels


def shown_metrics() -> tuple[Metric, ...]:
    """Return the metrics of a sweep, in their order."""
    return _SHOWN
