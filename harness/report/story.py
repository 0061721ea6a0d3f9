"""What a report says first: one sentence on the modes, and what was run where.

The terminal and the page say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

from harness.analysis.compare import Question, Row, compare_groups, resolution_bytes
from harness.analysis.figures import Group
from harness.analysis.session import Session, WorkloadFacts
from harness.analysis.statistics import least_runs
from harness.analysis.verdicts import Rules, Verdict
from harness.core.sizes import format_size
from harness.core.text import listed, one_line
from harness.report.tables import between

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NEARLY_ALL = 0.8


def story(groups: Sequence[Group], rules: Rules | None = None) -> str:
    """Return who needs how much memory at the peak, by how much more, and where it sits.

    Modes of one session are compared with the one that needs least. Modes that the verdicts do not
    tell apart stand together, and nothing ranks them. Empty without memory.
    """
    rules = rules or Rules()
    said = [_of_session(each, rules) for each in _by_session(groups)]
    return " ".join(filter(None, said))


def _by_session(groups: Sequence[Group]) -> list[list[Group]]:
    paths = dict.fromkeys(group.session.path for group in groups)
    return [[group for group in groups if group.session.path == path] for path in paths]


def _of_session(groups: Sequence[Group], rules: Rules) -> str:
    measured = [g for g in groups if g.figures and g.topology]
    if not measured:
        return ""
    resolved = resolution_bytes(measured[0].session)
    if max(map(_net_peak, measured)) <= resolved:
        needs = "The run needs" if len(measured) == 1 else "No mode needs"
        more = "no more than" if len(measured) == 1 else "more than"
        return (
            f"{needs} {more} {format_size(resolved)} above its baseline: that is less than can be"
            " told apart here."
        )
    ranked = _ranked(measured, rules)
    parts = [_sizes(ranked), _where(ranked), _over_nodes(measured), _how_sure(ranked)]
    return " ".join(filter(None, parts))


def _over_nodes(groups: Sequence[Group]) -> str:
    """Return how far peaks may be above what is said, where no kernel knows them."""
    found = [
        (group.topology.net_peak_most.median, group.topology.net_peak.median)
        for group in groups
        if group.topology and group.topology.net_peak_most and group.topology.net_peak.median > 0
    ]
    if not found:
        return ""
    share = max(most / least - 1 for most, least in found)
    return (
        "These are the highest sums of samples over several nodes: the true peaks are at most"
        f" {share:.0%} higher.".replace("%", " %")
    )


@dataclass(frozen=True)
class _Ranked:
    """What the verdicts say of the modes beside the one with the least median.

    Attributes:
        groups: all of them, in the order of the plan.
        alike: those not known to need more than the least, in the order of the plan.
        more: those that need more, by their medians, with the row that says so.
        open: rows of those in ``alike`` of which the runs do not say that they need as much.
        needed: with fewer runs of each, nothing can be said.
    """

    groups: tuple[Group, ...]
    alike: tuple[Group, ...]
    more: tuple[tuple[Group, Row], ...]
    open: tuple[tuple[Group, Row], ...]
    needed: int

    @property
    def fewest(self) -> int:
        """How many runs there are of the mode with the fewest."""
        return min(len(group.figures) for group in self.groups)


def _ranked(groups: Sequence[Group], rules: Rules) -> _Ranked:
    by_median = sorted(groups, key=_net_peak)
    least = by_median[0]
    # Which mode has the least median, and in which direction the others differ, is found in the
    # same runs: chance has all pairs and both directions to choose from.
    pairs = list(combinations(by_median, 2))
    strict = replace(rules, alpha=rules.alpha / 2)
    question = Question(strict, services=False)
    rows = compare_groups(pairs, question)
    beside = [
        (b, next(row for row in of_pair if row.primary))
        for (a, b), of_pair in zip(pairs, rows, strict=True)
        if a is least
    ]
    more = tuple((g, row) for g, row in beside if row.verdict is Verdict.WORSE)
    further = {g.label for g, _ in more}
    answered = (Verdict.WORSE, Verdict.EQUIVALENT, Verdict.TOO_SMALL)
    return _Ranked(
        tuple(groups),
        tuple(g for g in groups if g.label not in further),
        more,
        tuple((g, row) for g, row in beside if row.verdict not in answered),
        least_runs(strict.alpha),
    )


def _sizes(ranked: _Ranked) -> str:
    """Return who needs how much; what is not known to differ stands together, without an order."""
    undecided = {g.label for g, _ in ranked.open}
    if ranked.more:
        # Those that nothing is known of are told apart from those that need the least.
        alike = [g for g in ranked.alike if g.label not in undecided]
        said = f"At its peak {_need(alike)}"
        said += "".join(f", {_more(g, row)}" for g, row in ranked.more)
        rest = [f"{g.label} ({format_size(_net_peak(g))})" for g, _ in ranked.open]
        return said + (f"; of {listed(rest)} the runs do not say." if rest else ".")
    if len(ranked.alike) == 1:
        return f"At its peak {_need(ranked.alike)}."
    if undecided and ranked.fewest < ranked.needed:
        first, *others = ranked.alike
        sizes = [f"{first.label} needs {format_size(_net_peak(first))}"]
        sizes += [f"{g.label} {format_size(_net_peak(g))}" for g in others]
        return (
            f"At its peak {listed(sizes)} above the baseline: too few runs to tell the modes apart."
        )
    if undecided:
        return f"The modes do not differ by more than chance: at its peak {_need(ranked.alike)}."
    return f"The modes do not differ: at its peak {_need(ranked.alike)}."


def _need(groups: Sequence[Group]) -> str:
    verb = "needs" if len(groups) == 1 else "need"
    names = listed([group.label for group in groups])
    return f"{names} {verb} {_between([_net_peak(g) for g in groups])} above the baseline"


def _between(sizes: Sequence[float]) -> str:
    low, high = format_size(min(sizes)), format_size(max(sizes))
    return low if low == high else between(low, high)


def _net_peak(group: Group) -> float:
    assert group.topology is not None
    return group.topology.net_peak.median


def _more(group: Group, row: Row) -> str:
    size = f"{group.label} {format_size(_net_peak(group))}"
    change = row.comparison.change if row.comparison else None
    if change is None:
        return size
    more = f"{1 + change:.1f} times as much" if change >= 1 else f"{change:+.0%}"
    return f"{size} ({more.replace('%', ' %')})"


def _where(ranked: _Ranked) -> str:
    """Return which service, and which kind of memory, most of the peak is.

    Of the mode that needs most; where none is known to need more: if it is the same in all.
    """
    groups = [ranked.more[-1][0]] if ranked.more else list(ranked.alike)
    holders = {_holder(group) for group in groups}
    if len(holders) > 1 or "" in holders:
        return ""
    size = _between([max(group.at_peak.values()) for group in groups])
    said = f"{holders.pop()} {size} of it{_kind(groups)}."
    if ranked.more:
        return f"In {groups[0].label}, {said}"
    return said[0].upper() + said[1:]


def _holder(group: Group) -> str:
    """Return the service that holds most of a peak, with its verb; empty if there is one only."""
    held = sorted(group.at_peak.items(), key=lambda item: -item[1])
    if len(held) < 2 or held[0][1] <= 0:
        return ""
    name = held[0][0]
    count = next((s.containers for s in group.scopes if s.scope == name), 1)
    return f"the {count} {name} containers hold" if count > 1 else f"the {name} holds"


def _kind(groups: Sequence[Group]) -> str:
    """Return of which kind nearly all of that is, if it is of one kind in all groups."""
    found = set()
    for group in groups:
        name, size = max(group.at_peak.items(), key=lambda item: item[1])
        kinds = group.kinds_at_peak[name]
        kind = max(kinds, key=lambda each: kinds[each])
        found.add(kind if kinds[kind] >= _NEARLY_ALL * size else "")
    kind = found.pop() if len(found) == 1 else ""
    return f" as {kind}" if kind else ""


def _how_sure(ranked: _Ranked) -> str:
    runs = sorted({len(group.figures) for group in ranked.groups})
    many = " to ".join(_number(n) for n in (runs[0], runs[-1])[: len(runs)])
    many += f" run{'' if runs == [1] else 's'}{' of each' if len(ranked.groups) > 1 else ''}"
    if ranked.open:
        return f"{many.capitalize()}: to be sure it would take {ranked.open[-1][1].needs}."
    if ranked.more:
        return f"{many.capitalize()}: more than chance explains."
    return f"{many.capitalize()}."


def _number(number: int) -> str:
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)


# What class names do not tell.
_SAID = {"dask": "Dask", "globus": "Globus Compute", "parsl": "Parsl", "ray": "Ray"}
_SAID |= {"redis": "Redis", "process": "A process pool", "thread": "A thread pool", "file": "files"}


def short_names(facts: WorkloadFacts) -> tuple[str, str]:
    """Return what executor and connector are called; the latter empty without one."""
    found = []
    for name, kind in ((facts.executor, "Executor"), (facts.connector, "Connector")):
        short = name.removesuffix(kind)
        found.append(_SAID.get(short.removesuffix("Pool").lower(), short))
    return found[0], found[1]


def plan_in_words(session: Session) -> str:
    """Return what one run was: its stages, sizes and sleep, how many modes and repetitions."""
    facts = session.workload
    if facts is None:
        return ""
    counts = sorted({len([r for r in session.runs if r.mode == m]) for m in session.modes})
    modes, stages = len(session.modes), len(facts.task_counts)
    runs = " to ".join(_number(n) for n in (counts[0], counts[-1])[: len(counts)])
    cycles = f", {facts.repeat} times in a row" if facts.repeat > 1 else ""
    ran = (
        f"{_number(modes).capitalize()} mode{'s' if modes > 1 else ''}, {runs} run"
        f"{'' if counts == [1] else 's'}{' of each' if modes > 1 else ''}."
    )
    if not any(facts.task_counts):
        return f"{ran} A run calls a function of its user's."
    if not facts.bytes_sizes:
        return (
            f"{ran} A run is a graph of {sum(facts.task_counts)} tasks in {_number(stages)}"
            f" level{'s' if stages > 1 else ''}, which take {facts.ideal_s:.3g} s at least on any"
            " number of workers."
            f" Start data and results have {format_size(facts.payload_bytes)} in all."
        )
    return (
        f"{ran} A run is a workflow of"
        f" {_number(stages)} stage{'s' if stages > 1 else ''} of"
        f" {listed(list(map(str, facts.task_counts)))} tasks{cycles}, which sleep"
        f" {facts.sleep_s:g} s. Start data and each result have"
        f" {_between(facts.bytes_sizes)}, {format_size(facts.payload_bytes)} in all."
    )


def circumstances(sessions: Sequence[Session]) -> list[str]:
    """Return a line for each session: when, how long, on which machine, with which engine."""
    return [line for line in map(_circumstance, sessions) if line]


def _circumstance(session: Session) -> str:
    manifest: dict[str, Any] = session.documents.get("manifest") or {}
    machine = manifest.get("machine") or {}
    parts = []
    begun = [run.start_ns for run in session.runs if run.start_ns is not None]
    ended = [run.end_ns for run in session.runs if run.end_ns is not None]
    started = _started(session)
    if started:
        parts.append(started)
    if begun and ended:
        parts.append(_duration((max(ended) - min(begun)) / 1e9))
    if machine.get("cpu_model"):
        memory = format_size(machine.get("memory_bytes") or 0)
        parts.append(f"{machine['cpu_model']}, {machine.get('cpus')} CPUs, {memory}")
    if machine.get("kernel"):
        parts.append(f"Linux {machine['kernel']}")
    engine = manifest.get("engine") or {}
    if engine.get("version"):
        parts.append(f"Docker {engine['version']}")
    parts.append(session.name)
    return one_line(", ".join(parts))


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"


def _started(session: Session) -> str:
    """Return the day of the first run, from the results' own times."""
    at = session.started_unix_s
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"
