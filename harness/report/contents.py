"""What a report says, as tables of text: the terminal, the page and Markdown show the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.analysis.csvfile import Rows
from harness.analysis.groups import Group, Range, ScopeSummary
from harness.analysis.session import OK, Session
from harness.core.sizes import format_size

NOTHING = "-"


@dataclass(frozen=True)
class Cell:
    """A cell whose small print only the page has room for."""

    text: str
    small: str = ""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Table:
    """A table for people.

    Attributes:
        name: for links and tests.
        title: above it.
        header: column titles; those that start with a blank are aligned to the right.
        rows: its cells.
        note: below it.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    note: str = ""

    @property
    def right(self) -> tuple[bool, ...]:
        """Which columns hold numbers."""
        return tuple(title.startswith(" ") for title in self.header)


def summary(groups: Sequence[Group]) -> Table:
    """Return one row for each mode: makespan, and memory with and without its baseline."""
    rows = []
    for group in groups:
        scope = group.topology
        memory: list[str | Cell] = [NOTHING] * 7
        if scope is not None:
            sizes = [_sizes(value) for value in _figures(scope)]
            memory = [*sizes, ", ".join(scope.peak_kinds)]
        makespan = _ranged(group.makespan, lambda value: f"{value:.3f}")
        rows.append((group.label, str(len(group.figures)), makespan, *memory))
    return Table(
        "summary",
        "Summary",
        (
            "mode",
            " runs",
            " makespan s",
            " baseline",
            " peak",
            " net peak",
            " mean",
            " net mean",
            " leftover",
            "peak from",
        ),
        tuple(rows),
        "Medians over a mode's runs. Net: less the use when the run started (baseline). Leftover:"
        " use when the phase after the run ended, less the baseline.",
    )


def services(groups: Sequence[Group]) -> Table:
    """Return one row for each mode and service."""
    rows: list[tuple[str | Cell, ...]] = []
    for group in groups:
        label = group.label
        for scope in group.scopes:
            name = f"{scope.scope} x {scope.containers}" if scope.containers > 1 else scope.scope
            kinds = ", ".join(scope.peak_kinds)
            rows.append((label, name, *(_sizes(value) for value in _figures(scope)), kinds))
            label = ""
    return Table(
        "services",
        "Peaks by service",
        (
            "mode",
            "service",
            " baseline",
            " peak",
            " net peak",
            " mean",
            " net mean",
            " leftover",
            "peak from",
        ),
        tuple(rows),
        "The topology's peak is the simultaneous one, not the sum of the services'. A peak of the"
        " kernel is exact; a sampled one can miss what is shorter than its interval.",
    )


def _figures(scope: ScopeSummary) -> tuple[Range | None, ...]:
    return (
        scope.baseline,
        scope.peak,
        scope.net_peak,
        scope.mean,
        scope.net_mean,
        scope.leftover,
    )


def _sizes(value: Range | None) -> Cell:
    return _ranged(value, format_size)


def _ranged(value: Range | None, shown: Callable[[float], str]) -> Cell:
    if value is None:
        return Cell(NOTHING)
    alone = value.low == value.high
    return Cell(shown(value.median), "" if alone else between(shown(value.low), shown(value.high)))


def between(low: str, high: str) -> str:
    """Return a range; a unit that both ends have is said once."""
    number, _, unit = low.partition(" ")
    return f"{number if unit and high.endswith(f' {unit}') else low} to {high}"


def outcomes(sessions: Sequence[Session]) -> Table:
    """Return how each run ended, and what it left in the connector."""
    rows = []
    for session in sessions:
        objects = _by_run(session.tables.get("objects"))
        for run in session.runs:
            held = objects.get(run.run_id)
            at_end = left = NOTHING
            if held is not None:
                predicted = f"predicted {held['objects_predicted']}"
                at_end = f"{held['objects_at_end']} ({predicted})"
                left = str(held["objects_left"])
            makespan = NOTHING if run.makespan_s is None else f"{run.makespan_s:.3f}"
            ended = run.outcome if run.outcome == OK else f"{run.outcome}: {run.reason}"
            rows.append((session.name, run.run_id, makespan, at_end, left, ended))
    header = ("session", "run", " makespan s", " objects at end", " left", "outcome")
    # One session needs no column that says which.
    first = 1 if len(sessions) == 1 else 0
    shown = tuple(row[first:] for row in rows)
    return Table("outcomes", "Runs and outcomes", header[first:], shown)


def _by_run(rows: Rows | None) -> dict[str, dict[str, object]]:
    if rows is None:
        return {}
    return {row["run_id"]: row for row in rows.to_dicts()}
