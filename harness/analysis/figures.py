"""Every figure of a run, a mode and a service: made here once, shown everywhere else.

*Net* is less the same scope's use at the mark ``run_start``, for every figure and every part of the
ledger: as the kernel told it there, else the last sample before.

A figure is of one view. It says how much of its run that view's samples cover; below
:data:`~harness.analysis.series.MIN_COVERAGE` there is no figure, but the reason why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from harness.analysis.kinds import KINDS, shares_at
from harness.analysis.series import HOST, MIN_COVERAGE, TOPOLOGY, Memory, coverage
from harness.analysis.session import Run, Session, distinct_names
from harness.results.conversation import AFTER_START, RUN_END, RUN_START, STOP
from harness.results.schema import KIND_SAMPLED, ON_NODE, SCOPE_CONTAINER, peak_label

REFERENCE_MODE = "none"
CGROUP = "cgroup"
PARTS = ("usage_bytes", "anon_bytes", "shmem_bytes", "file_bytes", "kernel_bytes", "sock_bytes")


@dataclass(frozen=True)
class ScopeFigures:
    """Memory of one service, or of all together, in one run, in bytes.

    Attributes:
        scope: the service, or ``topology`` for all containers, or the host, at once.
        view: whose samples these are: ``cgroup``, ``inside`` or ``host``.
        coverage: share of the run with samples of all of the scope's containers, 0 to 1.
        containers: how many it has.
        baseline_bytes: use at run_start.
        peak_bytes: highest use from start to end; of all containers of the scope at once.
        peak_kind: where the peak was read: a kernel counter's name, or ``sampled``.
        peak_interval_ns: what the peak can miss: 0 if exact, else the sampling interval.
        mean_bytes: mean use over the run, on a clock grid.
        after_bytes: use after the mode's clean-up, as it is; None if it was not read then.
        left_bytes: use when the phase after the run ended, once every process has given back what
            is free; None if it was not read then.
        parts: usage, anon, shmem, file, kernel and sock at run_end, net; empty without a ledger.
        peak_most_bytes: of a scope on several nodes, the sum of their kernels' peaks: no kernel
            knows the moment at which all together used most, so the peak is between the highest
            sampled sum and this. None elsewhere.
        nodes: how many nodes such a scope is on; 0 elsewhere.
    """

    scope: str
    view: str
    coverage: float
    containers: int
    baseline_bytes: float
    peak_bytes: float
    peak_kind: str
    peak_interval_ns: int
    mean_bytes: float
    after_bytes: float | None
    left_bytes: float | None
    parts: Mapping[str, float | None]
    peak_most_bytes: float | None = None
    nodes: int = 0

    @property
    def net_peak_most_bytes(self) -> float | None:
        """The most that the net peak can have been, where it is only known to be between two."""
        return None if self.peak_most_bytes is None else self.peak_most_bytes - self.baseline_bytes

    @property
    def net_peak_bytes(self) -> float:
        """Peak less baseline."""
        return self.peak_bytes - self.baseline_bytes

    @property
    def net_mean_bytes(self) -> float:
        """Mean less baseline."""
        return self.mean_bytes - self.baseline_bytes

    @property
    def net_after_bytes(self) -> float | None:
        """What stayed in use after the mode's clean-up, less baseline."""
        return None if self.after_bytes is None else self.after_bytes - self.baseline_bytes

    @property
    def leftover_bytes(self) -> float | None:
        """What stayed in use when the phase after the run ended, less baseline."""
        return None if self.left_bytes is None else self.left_bytes - self.baseline_bytes

    @property
    def peak_from(self) -> str:
        """Where the peak was read, as people read it: ``kernel``, or ``sampled at N ms``."""
        label = peak_label(self.peak_kind, self.peak_interval_ns)
        return f"{label}, on {self.nodes} nodes" if self.nodes else label


@dataclass(frozen=True)
class RunFigures:
    """All figures of one run.

    Attributes:
        run: the run.
        end_ns: when it ended; of one that was killed, its last sample. None if it never started.
        scopes: by service; the key ``topology`` is all together. Empty without samples.
        absent: why there are no figures of memory; empty if there are.
        coverage: share of the run with samples of all containers, 0 to 1.
        at_peak: net use of each service at the sample at which all together used most.
        kinds_at_peak: which share of that is of which kind of memory, by service; services are
            missing of which that was not read.
    """

    run: Run
    end_ns: int | None
    scopes: Mapping[str, ScopeFigures]
    absent: str = ""
    coverage: float = 0.0
    at_peak: Mapping[str, float] = field(default_factory=dict)
    kinds_at_peak: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def topology(self) -> ScopeFigures | None:
        """Figures of all services at once."""
        return self.scopes.get(TOPOLOGY)


@dataclass(frozen=True)
class Range:
    """Median and extremes of some runs' values."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class ScopeSummary:
    """Memory of one service, or of all, over the runs of a group, in bytes.

    Attributes are those of :class:`ScopeFigures`, each as a range; after and leftover are net.
    """

    scope: str
    view: str
    coverage: Range
    containers: int
    baseline: Range
    peak: Range
    net_peak: Range
    mean: Range
    net_mean: Range
    after: Range | None
    leftover: Range | None
    parts: Mapping[str, Range | None]
    peak_kinds: tuple[str, ...]
    net_peak_most: Range | None = None
    peak_most: Range | None = None


@dataclass(frozen=True)
class Group:
    """The runs of one mode in one session.

    Attributes:
        label: the mode; with the session's name where several sessions ran it.
        session: where the runs are from.
        mode: their mode.
        runs: all of them, in their order.
    """

    label: str
    session: Session
    mode: str
    runs: tuple[RunFigures, ...]

    @property
    def figures(self) -> tuple[RunFigures, ...]:
        """Those that went through: only these count in medians and comparisons."""
        return tuple(figures for figures in self.runs if figures.run.measured)

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
    def at_peak(self) -> dict[str, float]:
        """Where the net peak sits: bytes of each service, which add up to the median net peak.

        Their shares are medians of the samples at which all together used most: the kernel tells
        how high a peak was, and not whose.
        """
        names = {name: None for figures in self.figures for name in figures.at_peak}
        sizes = {}
        for name in names:
            found = range_of(figures.at_peak.get(name) for figures in self.figures)
            sizes[name] = max(found.median, 0.0) if found else 0.0
        total, topology = sum(sizes.values()), self.topology
        scale = topology.net_peak.median / total if topology and total else 0.0
        return {name: size * scale for name, size in sizes.items()}

    @property
    def kinds_at_peak(self) -> dict[str, dict[str, float]]:
        """Of what kinds :attr:`at_peak` is: kind to bytes, by service; the kind "" is not known."""
        found: dict[str, dict[str, float]] = {}
        for name, size in self.at_peak.items():
            known = [f.kinds_at_peak[name] for f in self.figures if name in f.kinds_at_peak]
            medians = {
                k: float(np.median([each.get(k, 0.0) for each in known])) for k in KINDS if known
            }
            total = sum(medians.values())
            found[name] = (
                {kind: size * share / total for kind, share in medians.items() if share}
                if total
                else {"": size}
            )
        return found

    @property
    def topology(self) -> ScopeSummary | None:
        """Memory of all services at once."""
        return next((scope for scope in self.scopes if scope.scope == TOPOLOGY), None)


def session_figures(session: Session) -> list[RunFigures]:
    """Return the figures of all runs, in their order."""
    ledger = _ledger(session)
    return [run_figures(session, run, ledger) for run in session.runs]


def uncovered(session: Session) -> Iterator[str]:
    """Yield a line for each run that went through and whose samples do not cover it."""
    if session.memory is None:
        return
    for figures in session_figures(session):
        # What is wrong with a run's times was said where they were read.
        if figures.run.measured and figures.absent and not figures.run.unusable:
            yield f"{session.path}: {figures.run.run_id}: no memory figures: {figures.absent}"


Ledger = Mapping[tuple[str, str, str], Mapping[str, float | None]]


def _ledger(session: Session) -> Ledger:
    """Return the ledger's rows of services and topology by run, mark and name."""
    rows = session.tables.get("ledger")
    if rows is None:
        return {}
    whole = {
        (row["run_id"], row["mark"], row["name"]): row
        for row in rows
        if row["scope"] != SCOPE_CONTAINER
    }
    return {**whole, **_over_nodes(rows)}


def _over_nodes(rows: Iterable[Mapping[str, Any]]) -> Ledger:
    """Return the sums of what several nodes' kernels told of their parts of a scope."""
    parts: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        scope, _, node = str(row["name"]).partition(ON_NODE)
        if node and row["scope"] != SCOPE_CONTAINER:
            parts.setdefault((row["run_id"], row["mark"], scope), []).append(row)

    def total(found: Sequence[Mapping[str, Any]], name: str) -> float | None:
        known = [row[name] for row in found if row.get(name) is not None]
        return float(sum(known)) if len(known) == len(found) else None

    return {key: {part: total(found, part) for part in PARTS} for key, found in parts.items()}


def run_figures(session: Session, run: Run, ledger: Ledger) -> RunFigures:
    """Return one run's figures; scopes of which nothing was read are missing."""
    memory, end_ns = session.memory, _end_ns(session, run)
    if memory is None:
        return RunFigures(run, end_ns, {}, "nothing was sampled")
    if run.unusable:
        return RunFigures(run, end_ns, {}, run.unusable)
    if run.start_ns is None or end_ns is None or end_ns <= run.start_ns:
        return RunFigures(run, end_ns, {}, "no start and end of it were recorded")
    window = _Window(session, memory, run, run.start_ns, end_ns, ledger)
    share = window.coverage(TOPOLOGY)
    if share < MIN_COVERAGE:
        reason = f"samples cover {share:.0%} of the run, less than {MIN_COVERAGE:.0%}"
        return RunFigures(run, end_ns, {}, reason.replace("%", " %"), share)
    # Of the host there is one scope: all of it.
    services = [] if memory.view == HOST else list(memory.services)
    found = {
        scope: window.figures(scope)
        for scope in (*services, TOPOLOGY)
        if window.coverage(scope) >= MIN_COVERAGE
    }
    return RunFigures(
        run,
        end_ns,
        found,
        coverage=share,
        at_peak=window.at_peak(found),
        kinds_at_peak=window.kinds_at_peak(found),
    )


def _end_ns(session: Session, run: Run) -> int | None:
    """Return when a run ended; one that was killed, with the last sample of its own topology.

    That is the last one before a gap, a ``stop`` or the next run: after a run that did not go
    through its topology is replaced.
    """
    if run.end_ns is not None or run.start_ns is None or session.memory is None:
        return run.end_ns
    memory = session.memory
    marks = session.tables.get("marks")
    bounds = [min(other.marks.values()) for other in session.runs if other.marks]
    bounds += [r["t_mono_ns"] for r in (marks or ()) if r["mark"] == STOP]
    until = min([t for t in bounds if t > run.start_ns] + [memory.end_ns])
    window = memory.window(run.start_ns, until - 1)
    there = memory.counts(TOPOLOGY)[window] > 0
    begins = int(there.argmax()) if len(there) else 0
    gaps = np.flatnonzero(~there[begins:])
    last = begins + (int(gaps[0]) if len(gaps) else len(there) - begins) - 1
    return memory.start_ns + (int(window.start) + last) * memory.tick_ns if last >= 0 else None


@dataclass(frozen=True)
class _Window:
    """One run's stretch of the recording, from start to end."""

    session: Session
    memory: Memory
    run: Run
    start_ns: int
    end_ns: int
    ledger: Ledger

    def containers(self, scope: str) -> int:
        """Return how many containers a scope has in this run: the most read at one time."""
        first = min(self.run.marks.values(), default=self.start_ns)
        window = self.memory.window(first, self.end_ns)
        return int(self.memory.counts(scope)[window].max(initial=0))

    def coverage(self, scope: str) -> float:
        """Return the share of the run with samples of all of the scope's containers."""
        # What the recording does not reach counts as ticks without a reading.
        ticks = self.memory.tick(self.end_ns) - self.memory.tick(self.start_ns) + 1
        counts = self.memory.counts(scope)[self.memory.window(self.start_ns, self.end_ns)]
        # In a run that did not go through it is no surprise that a container was gone.
        expected = self.containers(scope) if self.run.measured else min(1, self.containers(scope))
        return coverage(counts, expected, ticks)

    def figures(self, scope: str) -> ScopeFigures:
        """Return the figures of a scope that is covered."""
        memory = self.memory
        within = memory.levels(scope)[memory.window(self.start_ns, self.end_ns)]
        # The kernel's peaks are the cgroup view's, and stand beside no other.
        peak = self.session.peaks.get((self.run.run_id, scope))
        if peak is None or memory.view != CGROUP or peak.nodes:
            before = self._at(scope, RUN_START, self.start_ns)
            # Where sampling began after the run, its first reading is the best there is.
            baseline = float(within[~np.isnan(within)][0]) if before is None else before
            highest, kind, interval = float(np.nanmax(within)), KIND_SAMPLED, memory.tick_ns
        else:
            baseline, highest = float(peak.baseline_bytes), float(peak.peak_bytes)
            kind, interval = peak.kind, peak.interval_ns
        most, several = None, 0
        if peak is not None and peak.nodes and memory.view == CGROUP:
            baseline, several = float(peak.baseline_bytes), peak.nodes
            # A sum of samples is of moments up to an interval apart.
            most = max(float(peak.peak_bytes), highest) if peak.kind != KIND_SAMPLED else None
        return ScopeFigures(
            peak_most_bytes=most,
            nodes=several,
            scope=scope,
            view=memory.view,
            coverage=self.coverage(scope),
            containers=self.containers(scope),
            baseline_bytes=baseline,
            peak_bytes=highest,
            peak_kind=kind,
            peak_interval_ns=interval,
            mean_bytes=float(np.nanmean(within)),
            after_bytes=self._at(scope, AFTER_START, self.run.marks.get(AFTER_START)),
            left_bytes=self._left(scope),
            parts=self._parts(scope),
        )

    def at_peak(self, scopes: Mapping[str, ScopeFigures]) -> dict[str, float]:
        """Return each service's net use at the sample at which all together used most."""
        place = self._fullest
        return {
            name: float(self.memory.services[name][place]) - figures.baseline_bytes
            for name, figures in scopes.items()
            if name in self.memory.services
        }

    def kinds_at_peak(self, scopes: Iterable[str]) -> dict[str, dict[str, float]]:
        """Return of which kinds each service's net use is at that sample."""
        memory = self.memory
        at_ns = memory.start_ns + self._fullest * memory.tick_ns
        # Of a whole session, the readings of this run's own containers.
        until_ns = self.end_ns + memory.tick_ns
        found = {}
        for name in scopes:
            of_run = [each.between(self.start_ns, until_ns) for each in memory.parts.get(name, ())]
            of_run = [each for each in of_run if len(each.t_ns)]
            if len(of_run) == self.containers(name):
                shares = shares_at(of_run, at_ns, self._row(name, RUN_START))
                if shares:
                    found[name] = shares
        return found

    @cached_property
    def _fullest(self) -> int:
        """The tick at which all together used most."""
        stretch = self.memory.window(self.start_ns, self.end_ns)
        return int(stretch.start) + int(np.nanargmax(self.memory.total[stretch]))

    def _row(self, scope: str, mark: str) -> Mapping[str, float | None]:
        """Return the ledger's row of a mark; it is the cgroup view's too."""
        if self.memory.view != CGROUP:
            return {}
        return self.ledger.get((self.run.run_id, mark, scope), {})

    def _at(self, scope: str, mark: str, t_ns: int | None) -> float | None:
        """Return a scope's use at a mark: the ledger's, else the last sample before."""
        told = self._row(scope, mark).get("usage_bytes")
        if told is not None:
            return float(told)
        return None if t_ns is None else self.memory.level_before(t_ns, scope)

    def _left(self, scope: str) -> float | None:
        run, memory = self.run, self.memory
        if run.end_ns is None:
            return None
        if run.after_ns is not None:
            last = next((mark for mark, t_ns in run.marks.items() if t_ns == run.after_ns), "")
            return self._at(scope, last, run.after_ns)
        after = memory.levels(scope)[max(memory.tick(run.end_ns) + 1, 0) :]
        known = after[~np.isnan(after)]
        return float(known[-1]) if len(known) else None

    def _parts(self, scope: str) -> dict[str, float | None]:
        """Return where the memory was at run_end, less what was there at run_start."""
        now, before = self._row(scope, RUN_END), self._row(scope, RUN_START)
        found: dict[str, float | None] = {}
        for part in PARTS if now and before else ():
            x, y = now.get(part), before.get(part)
            found[part] = None if x is None or y is None else x - y
        return found


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
        view=runs[0].view,
        coverage=of("coverage"),
        containers=max(figures.containers for figures in runs),
        baseline=of("baseline_bytes"),
        peak=of("peak_bytes"),
        net_peak=of("net_peak_bytes"),
        mean=of("mean_bytes"),
        net_mean=of("net_mean_bytes"),
        after=range_of(figures.net_after_bytes for figures in runs),
        leftover=range_of(figures.leftover_bytes for figures in runs),
        parts={
            part: range_of(figures.parts.get(part) for figures in runs)
            for part in PARTS
            if any(figures.parts for figures in runs)
        },
        peak_kinds=tuple(sorted({figures.peak_from for figures in runs})),
        net_peak_most=range_of(figures.net_peak_most_bytes for figures in runs),
        peak_most=range_of(figures.peak_most_bytes for figures in runs),
    )


def group_runs(sessions: Sequence[Session]) -> list[Group]:
    """Return the groups of some sessions, in the order of their first run."""
    shared = Counter(mode for session in sessions for mode in session.modes)
    names = [session.name for session in sessions]
    if len(set(names)) < len(names):
        names = distinct_names([session.path for session in sessions])
    groups = []
    for session, name in zip(sessions, names, strict=True):
        figures = session_figures(session)
        for mode in session.modes:
            runs = tuple(f for f in figures if f.run.mode == mode)
            label = mode if shared[mode] == 1 else f"{mode} ({name})"
            groups.append(Group(label, session, mode, runs))
    return groups


def reference(groups: Sequence[Group]) -> Group | None:
    """Return the group others are compared with: mode none, else the first that has figures."""
    measured = [group for group in groups if group.figures]
    return next(
        (g for g in measured if g.mode == REFERENCE_MODE), measured[0] if measured else None
    )
