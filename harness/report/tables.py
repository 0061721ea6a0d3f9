"""What is said of runs, as tables of text: bench, report, compare and the page show the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.analysis.digits import three
from harness.analysis.figures import PARTS, Group, Range, RunFigures, ScopeSummary
from harness.analysis.predicted import Comparison, predictions
from harness.analysis.session import OK, Session
from harness.analysis.stores import stores_in_use
from harness.core.sizes import format_size
from harness.report.terminal import NOTHING as NOTHING  # noqa: PLC0414 - made here, shown there
from harness.report.terminal import PLAIN, Screen, render
from harness.report.terminal import Cell as Cell  # noqa: PLC0414
from harness.report.terminal import Table as Table  # noqa: PLC0414


def as_text(table: Table, screen: Screen = PLAIN) -> str:
    """Return a table for a terminal, with its title above and its note below."""
    return render(table, screen)


def tables(groups: Sequence[Group]) -> list[Table]:
    """Return what ``bench`` and ``report`` print, in this order."""
    found = [summary(groups), services(groups)]
    more = (ledger(groups), connector(groups), object_stores(groups))
    found += [table for table in more if table is not None]
    if any(figures.run.outcome != OK for group in groups for figures in group.runs):
        found.append(outcomes(groups))
    return found


_MEMORY = (
    " net peak",
    " net mean",
    " after",
    " leftover",
    " baseline",
    " peak",
    " mean",
    "view",
    " covered",
    "peak from",
)
# What says how a figure was read goes before the figures.
_LESS = (
    "covered",
    "view",
    "mean",
    "peak from",
    "after",
    "net mean",
    "peak",
    "baseline",
    "leftover",
)


def summary(groups: Sequence[Group]) -> Table:
    """Return one row for each mode: makespan, and memory with and without its baseline."""
    rows = []
    for group in groups:
        scope = group.topology
        memory = _memory(scope) if scope else _no_memory(group)
        makespan = _ranged(group.makespan, three)
        went, all_runs = len(group.figures), len(group.runs)
        runs = str(went) if went == all_runs else f"{went} of {all_runs}"
        rows.append((group.label, runs, makespan, *memory))
    return Table(
        "summary",
        "Summary",
        ("mode", " runs", " makespan s", *_MEMORY),
        tuple(rows),
        "Medians over a mode's runs that went through. Net peak, net mean, after and leftover are"
        " net: less the use when the run started (baseline). After: use after the mode's clean-up,"
        " as it is. Leftover: use when the phase after the run ended, once every process has given"
        " back what is free. Covered: the share of the run that the samples cover.",
        _LESS,
    )


def services(groups: Sequence[Group]) -> Table:
    """Return one row for each mode and service."""
    rows: list[tuple[str | Cell, ...]] = []
    for group in groups:
        label = group.label
        for scope in group.scopes:
            rows.append((label, _name(scope), *_memory(scope)))
            label = ""
    return Table(
        "services",
        "Peaks by service",
        ("mode", "service", *_MEMORY),
        tuple(rows),
        "The topology's peak is the simultaneous one, not the sum of the services'. A peak of the"
        " kernel is exact; a sampled one can miss what is shorter than its interval. Over several"
        " nodes no kernel knows the peak: it is between the highest sampled sum and the sum of the"
        " nodes' kernel peaks.",
        _LESS,
    )


def _name(scope: ScopeSummary) -> str:
    return f"{scope.scope} x {scope.containers}" if scope.containers > 1 else scope.scope


def _memory(scope: ScopeSummary) -> tuple[str | Cell, ...]:
    sizes = (
        _bracket(scope.net_peak, scope.net_peak_most),
        *map(_sizes, (scope.net_mean, scope.after, scope.leftover, scope.baseline)),
        _bracket(scope.peak, scope.peak_most),
        _sizes(scope.mean),
    )
    covered = f"{scope.coverage.low:.0%}".replace("%", " %")
    return (*sizes, scope.view, covered, ", ".join(scope.peak_kinds))


def _no_memory(group: Group) -> tuple[str | Cell, ...]:
    reasons = [figures.absent for figures in group.runs if figures.absent]
    missing: list[str | Cell] = [NOTHING] * (len(_MEMORY) - 1)
    return (*missing, reasons[0] if reasons else NOTHING)


def _bracket(least: Range, most: Range | None) -> Cell:
    """Return a peak; one that is only known to be between two bounds never as one number."""
    cell = _sizes(least)
    if most is None:
        return cell
    shown = f"{format_size(least.median)} to {format_size(most.median)}"
    return Cell(shown, between(format_size(least.low), format_size(most.high)))


def _sizes(value: Range | None) -> Cell:
    return _ranged(value, format_size)


def _ranged(value: Range | None, shown: Callable[[float], str]) -> Cell:
    if value is None:
        return Cell(NOTHING)
    alone = value.low == value.high
    return Cell(shown(value.median), "" if alone else between(shown(value.low), shown(value.high)))


def ledger(groups: Sequence[Group]) -> Table | None:
    """Return where the memory was when the runs ended, net; None without a ledger."""
    rows: list[tuple[str | Cell, ...]] = []
    for group in groups:
        label = group.label
        for scope in group.scopes:
            if scope.parts:
                rows.append((label, _name(scope), *(_sizes(scope.parts[part]) for part in PARTS)))
                label = ""
    if not rows:
        return None
    return Table(
        "ledger-net",
        "Where the memory was when the runs ended",
        ("mode", "service", " usage", " = anon", " + shmem", " + file", " + kernel", " + sock"),
        tuple(rows),
        "Medians over a mode's runs at the mark run_end, less what was there at run_start.",
        ("+ sock", "+ shmem"),
    )


def object_stores(groups: Sequence[Group]) -> Table | None:
    """Return what the executor's own object stores had in use; None where it has none."""
    rows: list[tuple[str | Cell, ...]] = []
    for group in groups:
        found = stores_in_use(group)
        if found is not None:
            rows.append((group.label, *map(_sizes, (found.most, found.at_end, found.shared))))
    if not rows:
        return None
    return Table(
        "object-stores",
        "In the executor's object stores",
        ("mode", " in use at most", " when the runs ended", " + shmem then"),
        tuple(rows),
        "Medians over a mode's runs of all stores together, less what was in use when the run"
        " started. In use: asked of the executor ten times a second; an object that nobody needs"
        " any more still counts for up to a second. + shmem: of the kernel, all that was ever"
        " touched.",
    )


def connector(groups: Sequence[Group]) -> Table | None:
    """Return predicted and measured bytes in the connector; None without predictions."""
    rows = []
    asked = False
    sessions = {group.session.path: group.session for group in groups}
    labels = {(group.session.path, group.mode): group.label for group in groups}
    for session in sessions.values():
        for found in predictions(session):
            held = NOTHING
            asked = asked or bool(found.completions)
            if found.objects_at_end is not None:
                held = f"{found.objects_at_end} / {found.objects_left}"
            rows.append(
                (
                    labels.get((session.path, found.mode), found.mode),
                    held,
                    *_comparison(found.at_end),
                    *_comparison(found.fullest),
                    _off(found.worst),
                    _off(found.completion),
                    format_size(found.peak_bytes),
                    format_size(found.ideal_bytes),
                )
            )
    if not rows:
        return None
    return Table(
        "connector",
        "In the connector",
        (
            "mode",
            " objects end/left",
            " at end: predicted",
            " measured",
            " off",
            " fullest stage: predicted",
            " measured",
            " off",
            " worst stage",
            *([" worst completion"] if asked else []),
            " peak",
            " ideal",
        ),
        tuple(row if asked else (*row[:9], *row[10:]) for row in rows),
        "Objects: when the clock stopped / after the clean-up. Predicted: payload bytes, from the"
        " flags alone; measured: serialised bytes, asked of the storage. Stages are counted with"
        " --audit-stages and in warm-up runs. Peak: most that must be there at once; ideal: least"
        " that any implementation holds at its fullest stage boundary. Of futures, peak is what the"
        " executor must hold.",
        (
            "worst completion",
            "worst stage",
            "off",
            "at end: predicted",
            "measured",
            "objects end/left",
            "ideal",
        ),
    )


def _comparison(found: Comparison | None) -> tuple[str, ...]:
    if found is None:
        return (NOTHING, NOTHING, NOTHING)
    return (format_size(found.predicted_bytes), format_size(found.measured_bytes), _off(found))


def _off(found: Comparison | None) -> str:
    if found is None:
        return NOTHING
    return "not 0" if found.off_percent is None else f"{three(found.off_percent, signed=True)} %"


def outcomes(groups: Sequence[Group]) -> Table:
    """Return how each run ended, its net peak until then, and what it left in the connector."""
    sessions = {group.session.path: group.session for group in groups}
    found = {
        (group.session.path, figures.run.run_id): figures
        for group in groups
        for figures in group.runs
    }
    rows = []
    for session in sessions.values():
        objects = _by_run(session)
        for run in session.runs:
            figures = found.get((session.path, run.run_id))
            if figures is not None:
                rows.append((session.name, *_outcome(figures, objects.get(run.run_id))))
    header = ("session", "run", " makespan s", " net peak", " objects at end", " left", "outcome")
    # One session needs no column that says which.
    first = 1 if len(sessions) == 1 else 0
    shown = tuple(row[first:] for row in rows)
    note = "The net peak of a run that did not go through is that until its end."
    return Table(
        "outcomes", "Runs and outcomes", header[first:], shown, note, ("objects at end", "left")
    )


def _outcome(figures: RunFigures, held: dict[str, object] | None) -> tuple[str, ...]:
    run = figures.run
    at_end = left = NOTHING
    if held is not None:
        at_end = f"{held['objects_at_end']} (predicted {held['objects_predicted']})"
        left = str(held["objects_left"])
    makespan = NOTHING if run.makespan_s is None else three(run.makespan_s)
    peak = format_size(figures.topology.net_peak_bytes) if figures.topology else NOTHING
    ended = run.outcome if run.outcome == OK else f"{run.outcome}: {run.reason}"
    return (run.run_id, makespan, peak, at_end, left, ended)


def _by_run(session: Session) -> dict[str, dict[str, object]]:
    rows = session.tables.get("objects")
    if rows is None:
        return {}
    return {row["run_id"]: row for row in rows}


def between(low: str, high: str) -> str:
    """Return a range; a unit that both ends have is said once."""
    number, _, unit = low.partition(" ")
    return f"{number if unit and high.endswith(f' {unit}') else low} to {high}"
