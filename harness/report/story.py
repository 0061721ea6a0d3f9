"""What a report says first: one sentence on the modes, and what was run where.

The terminal and the page say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from harness.analysis.compare import Question, Row, compare_groups, resolution_bytes
from harness.analysis.figures import Group
from harness.analysis.session import Session
from harness.analysis.verdicts import Rules, Verdict
from harness.core.sizes import format_size
from harness.core.text import listed, one_line

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def story(groups: Sequence[Group], rules: Rules | None = None) -> str:
    """Return who needs how much memory at the peak, by how much more, and where it sits.

    Modes of one session are compared with the one that needs least. Empty without memory.
    """
    rules = rules or Rules()
    said = [_of_session(each, rules) for each in _by_session(groups)]
    return " ".join(filter(None, said))


def _by_session(groups: Sequence[Group]) -> list[list[Group]]:
    paths = dict.fromkeys(group.session.path for group in groups)
    return [[group for group in groups if group.session.path == path] for path in paths]


def _of_session(groups: Sequence[Group], rules: Rules) -> str:
    ranked = sorted((g for g in groups if g.figures and g.topology), key=_net_peak)
    if not ranked:
        return ""
    least = ranked[0]
    resolved = resolution_bytes(least.session)
    if _net_peak(ranked[-1]) <= resolved:
        needs = "The run needs" if len(ranked) == 1 else "No mode needs"
        more = "no more than" if len(ranked) == 1 else "more than"
        return (
            f"{needs} {more} {format_size(resolved)} above its baseline: that is less than can be"
            " told apart here."
        )
    rows = compare_groups([(least, g) for g in ranked[1:]], Question(rules, services=False))
    beside = [next(row for row in of_pair if row.primary) for of_pair in rows]
    as_much = [
        g.label
        for g, row in zip(ranked[1:], beside, strict=True)
        if row.verdict in (Verdict.EQUIVALENT, Verdict.TOO_SMALL)
    ]
    first = [least.label, *as_much]
    verb = "needs" if len(first) == 1 else "need"
    sentences = [
        f"At its peak {listed(first)} {verb} {format_size(_net_peak(least))} above the baseline"
        + "".join(_more(g, row) for g, row in zip(ranked[1:], beside, strict=True))
        + "."
    ]
    sentences += filter(None, [_where(ranked), _how_sure(ranked, beside)])
    return " ".join(sentences)


def _net_peak(group: Group) -> float:
    assert group.topology is not None
    return group.topology.net_peak.median


def _more(group: Group, row: Row) -> str:
    found = row.comparison
    if row.verdict in (Verdict.EQUIVALENT, Verdict.TOO_SMALL):
        return ""
    size = f"{group.label} {format_size(_net_peak(group))}"
    if found is None or row.verdict is not Verdict.WORSE or found.change is None:
        return f", {size} (not decided)"
    times = 1 + found.change
    more = f"{times:.1f} times as much" if times >= 2 else f"{found.change:+.0%}"
    return f", {size} ({more.replace('%', ' %')})"


def _where(ranked: Sequence[Group]) -> str:
    """Return which service holds most of the mode's peak that needs most."""
    group = ranked[-1]
    held = sorted(group.at_peak.items(), key=lambda item: -item[1])
    if len(held) == 1 or not held or held[0][1] <= 0:
        return ""
    name, size = held[0]
    count = next((s.containers for s in group.scopes if s.scope == name), 1)
    who = f"the {count} {name} containers hold" if count > 1 else f"the {name} holds"
    said = f"{who} {format_size(size)} of it."
    return f"In {group.label}, {said}" if len(ranked) > 1 else said[0].upper() + said[1:]


def _how_sure(ranked: Sequence[Group], rows: Sequence[Row]) -> str:
    runs = sorted({len(group.figures) for group in ranked})
    many = " to ".join(_number(n) for n in (runs[0], runs[-1])[: len(runs)])
    of_each = f"{many} run{'' if runs == [1] else 's'}{' of each' if len(ranked) > 1 else ''}"
    undecided = [row for row in rows if row.verdict is Verdict.UNDECIDED]
    if undecided:
        return f"{of_each.capitalize()}: it would take {undecided[-1].needs}."
    return f"{of_each.capitalize()}."


def _number(number: int) -> str:
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)


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
        parts.append(f"{(max(ended) - min(begun)) / 1e9:.0f} s")
    if machine.get("cpu_model"):
        memory = format_size(machine.get("memory_bytes") or 0)
        parts.append(f"{machine['cpu_model']}, {machine.get('cpus')} CPUs, {memory}")
    if machine.get("kernel"):
        parts.append(f"Linux {machine['kernel']}")
    engine = manifest.get("engine") or {}
    if engine.get("version"):
        parts.append(f"Docker {engine['version']}")
    return one_line(", ".join(parts))


def _started(session: Session) -> str:
    """Return the day of the first run, from the results' own times."""
    at = session.started_unix_s
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"
