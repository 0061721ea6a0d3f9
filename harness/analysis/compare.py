"""Two sessions side by side: by mode, service and metric, with a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from harness.analysis import statistics
from harness.analysis.figures import Group, RunFigures, ScopeFigures, group_runs
from harness.analysis.identity import (
    Difference,
    Package,
    differences,
    other_work,
    packages,
    share_topologies,
    stopped_by_verdict,
)
from harness.analysis.quality import STOCK_BYTES
from harness.analysis.series import TOPOLOGY
from harness.analysis.session import OK, Session, WorkloadFacts
from harness.analysis.statistics import ALPHA_OF_A_LOOK
from harness.analysis.verdicts import (
    ANSWERS,
    Comparison,
    Order,
    Rules,
    Sides,
    Verdict,
    compare_all,
    order_of,
    with_difference,
)
from harness.core.errors import UsageError

# Clocks of a busy machine are late by some milliseconds.
_CLOCK_S = 0.05
_RATIO = 0.01
_LEAST_STEP_BYTES = 2**20


class Unit(StrEnum):
    """Unit of a metric's values."""

    BYTES = "B"
    BYTE_SECONDS = "B s"
    SECONDS = "s"
    RATIO = "ratio"


@dataclass(frozen=True)
class Measured:
    """What one run says of one service, or of the topology.

    Attributes:
        run: all of the run's figures.
        scope: those of the service or topology; None where it has none.
        workload: what was run; None where that was not recorded.
    """

    run: RunFigures
    scope: ScopeFigures | None
    workload: WorkloadFacts | None


@dataclass(frozen=True)
class Metric:
    """Something of which every run has one value, and less is better.

    Attributes:
        name: as flags and JSON spell it; of a service with its name behind: ``net_peak:runner``.
        label: as people read it.
        unit: of its values.
        value: the value of a run, or of one service in it; None where it has none.
        per_service: whether services have it too, and not only the topology.
        net: whether it is less a baseline, which what ran before can raise.
        scale_free: whether it compares across workloads and machines of other sizes.
        carries_over: whether the same plan gives the same value on another machine.
    """

    name: str
    label: str
    unit: Unit
    value: Callable[[Measured], float | None] = field(repr=False)
    per_service: bool = False
    net: bool = False
    scale_free: bool = False
    carries_over: bool = True


def _of_scope(name: str) -> Callable[[Measured], float | None]:
    return lambda of: getattr(of.scope, name) if of.scope else None


def _area(of: Measured) -> float | None:
    makespan_s = of.run.run.makespan_s
    return None if of.scope is None or makespan_s is None else of.scope.net_mean_bytes * makespan_s


def _peak_per_payload(of: Measured) -> float | None:
    if of.scope is None or of.workload is None or not of.workload.payload_bytes:
        return None
    return of.scope.net_peak_bytes / of.workload.payload_bytes


def _makespan_per_ideal(of: Measured) -> float | None:
    makespan_s = of.run.run.makespan_s
    if makespan_s is None or of.workload is None or not of.workload.ideal_s:
        return None
    return makespan_s / of.workload.ideal_s


METRICS = (
    Metric(
        "net_peak", "net peak", Unit.BYTES, _of_scope("net_peak_bytes"), per_service=True, net=True
    ),
    Metric("peak", "peak", Unit.BYTES, _of_scope("peak_bytes"), per_service=True),
    Metric("baseline", "baseline", Unit.BYTES, _of_scope("baseline_bytes"), per_service=True),
    Metric(
        "net_mean", "net mean", Unit.BYTES, _of_scope("net_mean_bytes"), per_service=True, net=True
    ),
    Metric(
        "leftover", "leftover", Unit.BYTES, _of_scope("leftover_bytes"), per_service=True, net=True
    ),
    Metric("area", "net area", Unit.BYTE_SECONDS, _area, net=True, carries_over=False),
    Metric(
        "makespan",
        "makespan",
        Unit.SECONDS,
        lambda of: of.run.run.makespan_s,
        carries_over=False,
    ),
    Metric(
        "peak_per_payload",
        "net peak / payload",
        Unit.RATIO,
        _peak_per_payload,
        net=True,
        scale_free=True,
    ),
    Metric(
        "makespan_per_ideal",
        "makespan / ideal",
        Unit.RATIO,
        _makespan_per_ideal,
        scale_free=True,
        carries_over=False,
    ),
)
PRIMARY = "net_peak"


@dataclass(frozen=True)
class Steps:
    """How many copies of a payload two sides hold at their peaks, where that is a race.

    Attributes:
        payload_bytes: size of the payload.
        a, b: number of copies, from the fewest, to number of runs that held as many.
    """

    payload_bytes: int
    a: Mapping[int, int]
    b: Mapping[int, int]


@dataclass(frozen=True)
class Row:
    """One mode (or two, one of each side) and one service under one metric.

    Attributes:
        mode_a, mode_b: the modes compared; the same but where modes are compared with each other.
        scope: the service, or ``topology`` for all of them at once.
        metric: what is compared.
        comparison: None where a side has no value of it.
        primary: whether it is of the metric that decides.
        why: why there is no verdict, where the sides cannot be compared.
        steps: how many copies of a payload the sides hold at their peaks, where that is what
            makes the runs of a side differ; None where it is not.
    """

    mode_a: str
    mode_b: str
    scope: str
    metric: Metric
    comparison: Comparison | None
    primary: bool = False
    why: str = ""
    steps: Steps | None = None

    @property
    def mode(self) -> str:
        """The mode, or both."""
        return self.mode_a if self.mode_a == self.mode_b else f"{self.mode_a} > {self.mode_b}"

    @property
    def name(self) -> str:
        """The metric, with its service, as flags and JSON spell it."""
        return _name(self.scope, self.metric)

    @property
    def label(self) -> str:
        """The metric as people read it; a service's by the name that flags take."""
        return self.metric.label if self.scope == TOPOLOGY else self.name

    @property
    def verdict(self) -> Verdict:
        """What it means."""
        if self.why or self.comparison is None:
            return Verdict.NOT_COMPARABLE
        return self.comparison.verdict

    @property
    def needs(self) -> str:
        """What it would take to decide, or why nothing can."""
        if self.why or self.comparison is None:
            return self.why or "a side has no figure of it"
        return self.comparison.needs


@dataclass(frozen=True)
class SessionComparison:
    """Session B beside session A.

    Attributes:
        a, b: the sessions.
        rules: when a difference counted.
        rows: mode by mode, metric by metric, the topology's before the services'.
        differences: what is not the same on both sides, beside the figures.
        packages: the runner's packages that differ, A's version first.
        regressions: runs that failed where A's did not, one line each.
    """

    a: Session
    b: Session
    rules: Rules
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    packages: tuple[Package, ...]
    regressions: tuple[str, ...]

    @property
    def primary(self) -> list[Row]:
        """The rows that decide."""
        return [row for row in self.rows if row.primary]

    @property
    def worse(self) -> bool:
        """Whether the primary metric became worse, or runs fail that did not."""
        return bool(self.regressions) or any(row.verdict is Verdict.WORSE for row in self.primary)

    @property
    def undecided(self) -> bool:
        """Whether the primary metric of some mode has no answer."""
        return any(row.verdict not in ANSWERS for row in self.primary)


def _name(scope: str, metric: Metric) -> str:
    return metric.name if scope == TOPOLOGY else f"{metric.name}:{scope}"


@dataclass(frozen=True)
class Question:
    """What is asked of two sessions or modes.

    Attributes:
        rules: when a difference counts.
        metrics: names of what to compare: ``net_peak`` is that of the topology and of every
            service, ``net_peak:runner`` of one. None: all that are not scale-free.
        primary: the metric that decides: ``net_peak`` of the topology, ``net_peak:runner`` of a
            service.
        services: whether to compare services, too.
        other_work: whether to compare although other work was done.
    """

    rules: Rules = field(default_factory=Rules)
    metrics: tuple[str, ...] | None = None
    primary: str = PRIMARY
    services: bool = True
    other_work: bool = False

    def names(self, scope: str, metric: Metric) -> bool:
        """Return whether a service's or the topology's own figure is asked for by its name."""
        return _name(scope, metric) in (self.primary, *(self.metrics or ()))

    def asks(self, scope: str, metric: Metric) -> bool:
        """Return whether a figure is compared."""
        of_all = not metric.scale_free if self.metrics is None else metric.name in self.metrics
        return of_all or self.names(scope, metric)


def compare_sessions(
    a: Session,
    b: Session,
    question: Question | None = None,
    modes: Sequence[tuple[str, str]] | None = None,
) -> SessionComparison:
    """Compare two sessions mode by mode.

    Args:
        a: the baseline.
        b: what is judged.
        question: what is asked.
        modes: pairs of a mode of A and one of B; each common mode with itself by default.

    Raises:
        UsageError: if there is no mode to compare, or nothing has the primary metric.
    """
    question = question or Question()
    pairs = list(modes or [(mode, mode) for mode in a.modes if mode in b.modes])
    if not pairs:
        raise UsageError(
            f"no mode in common: {a.path} has {', '.join(a.modes)}; {b.path} has"
            f" {', '.join(b.modes)}; --modes A B compares two modes with each other"
        )
    for session, side in ((a, 0), (b, 1)):
        for pair in pairs:
            if not session.measured(pair[side]):
                has = ", ".join(mode for mode in session.modes if session.measured(mode))
                raise UsageError(
                    f"{session.path}: no run of {pair[side]} went through (it has"
                    f" {has or 'none that did'})"
                )
    groups = {(g.session.path, g.mode): g for g in group_runs([a, b] if a.path != b.path else [a])}
    sides = [(groups[a.path, x], groups[b.path, y]) for x, y in pairs]
    rows = [row for each in compare_groups(sides, question) for row in each]
    _check_names(rows, sorted({s for pair in sides for s in _services(*pair)}), question)
    return SessionComparison(
        a,
        b,
        question.rules,
        tuple(rows),
        tuple(differences(a, b)),
        tuple(packages([a, b])),
        tuple(_regressions(a, b, pairs)),
    )


def _check_names(rows: Sequence[Row], services: Sequence[str], question: Question) -> None:
    """Refuse names of which there is no row, with what there is."""
    has = {row.name for row in rows}
    wrong = {
        "--primary": [question.primary] if question.primary not in has else [],
        "--metrics": [
            name
            for name in question.metrics or ()
            if name not in has and name not in (metric.name for metric in METRICS)
        ],
    }
    for flag, names in wrong.items():
        if names:
            raise _no_such_metric(flag, names[0], services)


def _no_such_metric(flag: str, name: str, services: Sequence[str]) -> UsageError:
    return UsageError(
        f"{flag} {name}: no such metric; there are"
        f" {', '.join(metric.name for metric in METRICS)}; of a service (:SERVICE behind:"
        f" {', '.join(services) or 'none was measured'})"
        f" {', '.join(metric.name for metric in METRICS if metric.per_service)}"
    )


def compare_groups(
    pairs: Sequence[tuple[Group, Group]], question: Question | None = None
) -> list[list[Row]]:
    """Return, for each pair, its rows: of two modes, or of one mode in two sessions.

    The rows that are judged together (a family) are those of one service, or of the topology; of
    these the rows of the deciding metric are a family of their own. So what is looked at beside
    the question makes no answer to it harder to get, and one service more changes no verdict of
    another. With all services in one family, four runs of each could say of none of them that it
    halved: each would have to stand out among 60 rows. The price is stated in docs/verdicts.md:
    among many services, chance may make one row stand out; only the primary metric decides.
    """
    question = question or Question()
    rules = question.rules
    if any(stopped_by_verdict(a.session, b.session) for a, b in pairs):
        rules = replace(rules, alpha=min(rules.alpha, ALPHA_OF_A_LOOK))
    rows = [_unjudged(a, b, question) for a, b in pairs]
    everything = [each for of_pair in rows for each in of_pair]
    decides = question.primary.partition(":")[0]
    families: dict[tuple[str, bool], list[tuple[int, Sides]]] = {}
    for number, (row, sides) in enumerate(everything):
        if sides is not None:
            family = (row.scope, row.metric.name == decides)
            families.setdefault(family, []).append((number, sides))
    judged: dict[int, Comparison] = {}
    for members in families.values():
        found = compare_all([sides for _, sides in members], rules)
        judged |= {n: each for (n, _), each in zip(members, found, strict=True)}
    numbers = iter(range(len(everything)))
    return [
        [_explained(replace(row, comparison=judged.get(next(numbers))), a, b) for row, _ in of_pair]
        for (a, b), of_pair in zip(pairs, rows, strict=True)
    ]


def _unjudged(a: Group, b: Group, question: Question) -> list[tuple[Row, Sides | None]]:
    """Return the rows of two groups without a verdict, and what is to be compared in each."""
    order = _order(a, b)
    may_differ = question.other_work or a.session is b.session
    other = [] if may_differ else other_work(a.session, b.session)
    why = f"other work: {other[0]}" if other else ""
    return [
        (
            Row(a.mode, b.mode, scope, asked, None, _name(scope, asked) == question.primary, why),
            _sides(asked, scope, a, b, order),
        )
        for scope, asked in _questions(a, b, question)
    ]


def _services(a: Group, b: Group) -> list[str]:
    return sorted({name for g in (a, b) for f in g.figures for name in f.scopes} - {TOPOLOGY})


def _questions(a: Group, b: Group, question: Question) -> list[tuple[str, Metric]]:
    found = [(TOPOLOGY, metric) for metric in METRICS if question.asks(TOPOLOGY, metric)]
    if question.services:
        scopes = _services(a, b)
        of_services = [metric for metric in METRICS if metric.per_service]
        # One service alone is the topology.
        asked = question.asks if len(scopes) > 1 else question.names
        found += [(s, metric) for s in scopes for metric in of_services if asked(s, metric)]
    return found


def _values(metric: Metric, scope: str, group: Group) -> list[float | None]:
    return [
        metric.value(Measured(figures, figures.scopes.get(scope), group.session.workload))
        for figures in group.figures
    ]


def _sides(metric: Metric, scope: str, a: Group, b: Group, order: Order) -> Sides | None:
    sides = [_values(metric, scope, group) for group in (a, b)]
    x, y = ([value for value in side if value is not None] for side in sides)
    if not x or not y:
        return None
    whole = len(x) == len(sides[0]) and len(y) == len(sides[1])
    floor = max(_floor(metric, scope, group) for group in (a, b))
    return Sides(x, y, floor, order if whole else Order.MIXED)


@dataclass(frozen=True)
class Sample:
    """What the runs of one mode say of one metric.

    Attributes:
        values: one for each run that has a figure, in the metric's unit, in the order of the runs.
        floor: what the measurement resolves: differences up to this say nothing.
    """

    values: tuple[float, ...]
    floor: float = 0.0


def check_name(flag: str, name: str, services: Sequence[str]) -> Metric:
    """Return the metric that ``net_peak`` or ``net_peak:runner`` names, before anything is run.

    Args:
        flag: that gives the name.
        name: of the metric, with a service behind it or without.
        services: those that there will be.

    Raises:
        UsageError: one line that lists what there is.
    """
    metrics = {metric.name: metric for metric in METRICS}
    word, colon, service = name.partition(":")
    found = metrics.get(word)
    known = found is not None and (not colon or (found.per_service and service in services))
    if found is None or not known:
        raise _no_such_metric(flag, name, services)
    return found


def sample(session: Session, mode: str, name: str) -> Sample:
    """Return the values of one metric in one mode, of runs that went through.

    Args:
        session: the runs.
        mode: which of them.
        name: as :func:`check_name` takes it.
    """
    word, _, service = name.partition(":")
    metric = next(metric for metric in METRICS if metric.name == word)
    scope = service or TOPOLOGY
    group = next((g for g in group_runs([session]) if g.mode == mode), None)
    return Sample(()) if group is None else sample_of(metric, scope, group)


def sample_of(metric: Metric, scope: str, group: Group) -> Sample:
    """Return the values of one metric of a service, or of the topology, in a group's runs."""
    known = tuple(value for value in _values(metric, scope, group) if value is not None)
    return Sample(known, _floor(metric, scope, group))


def _floor(metric: Metric, scope: str, group: Group) -> float:
    """Return what the measurement resolves: differences up to this say nothing."""
    facts = group.session.workload
    bytes_ = resolution_bytes(group.session, scope)
    if metric.unit is Unit.BYTES:
        return bytes_
    if metric.unit is Unit.BYTE_SECONDS:
        return bytes_ * max(facts.ideal_s if facts else 0.0, _CLOCK_S)
    if metric.unit is Unit.SECONDS:
        return _CLOCK_S
    payload = facts.payload_bytes if facts and metric.net else 0
    return max(_RATIO, bytes_ / payload if payload else 0.0)


def resolution_bytes(session: Session, scope: str = TOPOLOGY) -> float:
    """Return up to how much the counters of a service, or of all, are ahead of their use."""
    containers = session.memory.containers if session.memory else {}
    number = sum(containers.values()) if scope == TOPOLOGY else containers.get(scope, 1)
    machine = session.documents.get("manifest", {}).get("machine") or {}
    return float(STOCK_BYTES * max(number, 1) * int(machine.get("cpus") or 1))


def _explained(row: Row, a: Group, b: Group) -> Row:
    """Add what only the sessions know: what one mode leaves to the other, and steps of copies."""
    found = row.comparison
    if found is None or row.why:
        return row
    if row.metric.net and a.session is b.session and a.mode != b.mode:
        left, by = max((_left(group, row.scope), group.mode) for group in (a, b))
        if share_topologies(a.session) and left > found.matters:
            return replace(
                row,
                why=f"{by} leaves {left / 1e6:.3g} MB in processes that the modes share, which the"
                " baseline of the next run takes for its own: --isolate mode",
            )
    facts = a.session.workload
    # An absolute peak holds more than copies.
    if row.metric.name != "net_peak" or facts is None:
        return row
    found_steps = _steps(found, facts.bytes_sizes)
    if found_steps is None:
        return row
    # A median jumps from step to step, or lies between two where no run was.
    change = statistics.shift(found.a.values, found.b.values).middle
    return replace(row, steps=found_steps, comparison=with_difference(found, change, grouped=True))


def _left(group: Group, scope: str) -> float:
    left = [f.scopes[scope].leftover_bytes for f in group.figures if scope in f.scopes]
    known = [value for value in left if value is not None]
    return float(np.median(known)) if known else 0.0


def _steps(found: Comparison, sizes: Sequence[int]) -> Steps | None:
    """Return how many copies of a payload the runs held: of the largest that fits both sides."""
    for size in sorted(set(sizes), reverse=True):
        if size < max(_LEAST_STEP_BYTES, 2 * found.floor):
            return None
        a, b = (statistics.steps(side.values, size) for side in (found.a, found.b))
        if a and b and max(len(a), len(b)) > 1:
            return Steps(size, a, b)
    return None


def _order(a: Group, b: Group) -> Order:
    """Return in which order the runs were done; only of runs on one clock that is known."""
    if a.session.path != b.session.path and not _one_clock(a.session, b.session):
        return Order.MIXED
    starts = [[f.run.start_ns for f in group.figures] for group in (a, b)]
    known = [[t for t in side if t is not None] for side in starts]
    return order_of(*known) if starts == known else Order.MIXED


def _one_clock(a: Session, b: Session) -> bool:
    """Return whether times of both sessions can be compared: UNIX times, or of one boot."""
    boots = [(s.documents.get("manifest", {}).get("machine") or {}).get("boot_id") for s in (a, b)]
    by_boot = boots[0] is not None and boots[0] == boots[1]
    return a.source == b.source and (a.source == "psbench" or by_boot)


def _regressions(a: Session, b: Session, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return a line for each mode of which runs of B did not end well, but all of A's did."""
    found = []
    for mode_a, mode_b in pairs:
        bad = [run for run in b.runs if run.mode == mode_b and run.outcome != OK]
        if bad and all(run.outcome == OK for run in a.runs if run.mode == mode_a):
            found.append(
                f"{mode_b}: {bad[0].run_id} ended as {bad[0].outcome}"
                + (f" ({bad[0].reason})" if bad[0].reason else "")
                + (f", and {len(bad) - 1} more" if len(bad) > 1 else "")
            )
    return found
