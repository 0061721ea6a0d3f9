"""The history of a package: a table, one page of figures, and the same as JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.analysis.compare import Metric, Unit
from harness.analysis.history import SHOWN, Change, History, Line
from harness.analysis.series import TOPOLOGY
from harness.core.errors import UsageError
from harness.core.files import write_whole
from harness.core.text import one_line
from harness.report.captions import of_points
from harness.report.charts import BYTES, Chart, whiskers
from harness.report.comparison import NOTE, comparison_json, comparisons, quantity
from harness.report.page import lead, rendered, warnings
from harness.report.palette import INK, Look, mode_looks, service_look
from harness.report.story import circumstances
from harness.report.tables import NOTHING, Cell, Table, as_text
from harness.results.documents import write_json

PAGE = "history.html"
DOCUMENT = "history.json"
CSV = "history.csv"
SCHEMA_VERSION = 1
_COLUMNS = (
    *("version", "mode", "service", "metric", "unit", "runs"),
    *("median", "low", "high", "confidence", "change", "verdict"),
)
# So that the table is no wider than a terminal.
_WIDTH = 80
_GAP = 2
_NARROWEST = 24
_MOST_CHANGES = 3
_MOST_REASON = 200
_MARK = "#808080"
# Of a figure's height: about a line of words.
_APART = 0.06


@dataclass(frozen=True)
class Asked:
    """What a history was asked for, beside its plan.

    Attributes:
        facts: as ``history.json`` has them.
        skipped: version -> why it could not be measured.
        left_out: one line on versions that were not tried; empty if there are none.
    """

    facts: Mapping[str, Any]
    skipped: Mapping[str, str]
    left_out: str = ""


def change_words(history: History, change: Change) -> str:
    """Return a change without its version: ``net_peak:runner 602 -> 452 MB (-25 %)``."""
    found, unit = change.row.comparison, change.line.metric.unit
    assert found is not None
    before, after = quantity(found.a.median, unit), quantity(found.b.median, unit)
    size, _, of_before = before.rpartition(" ")
    before = size if of_before == after.rpartition(" ")[2] else before
    words = f"{change.line.name} {before} -> {after} ({_share(change)})"
    words += f" in {change.line.mode}" if len(history.modes) > 1 else ""
    # The step may be of any of those that were not measured.
    between = change.after - change.before > 1
    return words + (f", since {history.versions[change.before]}" if between else "")


def _share(change: Change) -> str:
    found = change.row.comparison
    assert found is not None
    if found.change is None:
        sign = "+" if found.difference > 0 else ""
        return sign + quantity(found.difference, change.line.metric.unit)
    return f"{found.change:+.0%}".replace("%", " %")


def change_lines(history: History) -> list[str]:
    """Return a line for each change: ``2025.4.0: net_peak:runner 602 -> 452 MB (-25 %)``."""
    return [f"{history.versions[c.after]}: {change_words(history, c)}" for c in history.changes]


def open_lines(history: History) -> list[str]:
    """Return a line for each step that the runs are too few for."""
    return [
        f"{history.versions[each.after]}: {change_words(history, each)} is not decided: it would"
        f" take {each.needs}"
        for each in history.open
    ]


def headline(history: History) -> str:
    """Return in one sentence what was measured, and how much of it changed."""
    measured = [
        version
        for version, session in zip(history.versions, history.sessions, strict=True)
        if session is not None
    ]
    ends = " to ".join(dict.fromkeys((measured[0], measured[-1]))) if measured else "none"
    many = f"{len(measured)} version{'' if len(measured) == 1 else 's'}"
    changes = history.changes
    at = len({change.after for change in changes})
    said = f"{len(changes)} change{'' if len(changes) == 1 else 's'}"
    said += f" in {at} of them" if at > 1 else ""
    if not changes:
        said = f"no change of more than {history.rules.threshold * 100:.4g} %"
    return f"{history.package} {ends}, {many}: {said}."


def versions_table(history: History, asked: Asked) -> Table:
    """Return a row for each version and mode: runs, net peak, and what changed."""
    several = len(history.modes) > 1
    rows: list[tuple[str | Cell, ...]] = []
    for place, version in enumerate(history.versions):
        session = history.sessions[place]
        if session is None:
            reason = asked.skipped.get(version) or "was not measured"
            cells = [version, *([NOTHING] * (3 if several else 2))]
            short = textwrap.shorten(one_line(reason), _MOST_REASON, placeholder=" ...")
            rows.append((*cells, f"skipped: {short}"))
            continue
        for number, mode in enumerate(history.modes):
            went, runs = history.runs(place, mode), [r for r in session.runs if r.mode == mode]
            many = str(went) if went == len(runs) else f"{went} of {len(runs)}"
            said = [
                change_words(history, change).replace(f" in {mode}", "")
                for change in history.changes
                if change.after == place and change.line.mode == mode
            ]
            bad = next((run for run in runs if not run.measured), None)
            said += [f"{bad.run_id}: {bad.outcome}: {bad.reason}"] if bad is not None else []
            first = "" if number else version
            cells = [first, mode] if several else [first]
            rows.append((*cells, many, _net_peak(history, place, mode), "\n".join(said)))
    header = ("version", *(("mode",) if several else ()), " n", " net peak", "change")
    return Table("history", f"Versions of {history.package}", header, tuple(rows), asked.left_out)


def _net_peak(history: History, place: int, mode: str) -> Cell:
    line = next(
        (
            each
            for each in history.lines
            if (each.metric.name, each.scope, each.mode) == (SHOWN[0], TOPOLOGY, mode)
        ),
        None,
    )
    point = line.points[place] if line is not None else None
    if line is None or point is None:
        return Cell(NOTHING)
    unit = line.metric.unit
    between = f"{quantity(point.low, unit)} .. {quantity(point.high, unit)}"
    return Cell(quantity(point.median, unit), between if point.low < point.high else "")


def terminal(history: History, asked: Asked) -> str:
    """Return table, headline and open questions, no wider than 80 columns."""
    table = versions_table(history, asked)
    # Tabulate leaves room beside a title, too.
    titles = [title.strip() + " " * _GAP for title in table.header[:-1]]
    columns = zip(titles, *(row[:-1] for row in table.rows), strict=True)
    used = sum(max(len(str(cell)) for cell in column) + _GAP for column in columns)
    width = max(_WIDTH - used, _NARROWEST)
    rows = tuple((*row[:-1], _wrapped(str(row[-1]), width)) for row in table.rows)
    shown = Table(table.name, table.title, table.header, rows)
    lines = [table.note, *open_lines(history), headline(history)]
    return "\n".join([as_text(shown), "", *(_filled(x, _WIDTH) for x in lines if x)])


def _wrapped(text: str, width: int) -> str:
    lines = text.split("\n")
    shown = lines[:_MOST_CHANGES]
    more = len(lines) - len(shown)
    shown += [f"and {more} more in {PAGE}"] if more else []
    return "\n".join(_filled(line, width, subsequent_indent="  ") for line in shown)


def _filled(text: str, width: int, **more: Any) -> str:
    """Return text in lines that do not part a number from its percent."""
    whole = text.replace(" %", "\N{NO-BREAK SPACE}%")
    return textwrap.fill(whole, width, **more).replace("\N{NO-BREAK SPACE}", " ")


def metric_chart(history: History, metric: Metric) -> Chart | None:
    """Return one metric over the versions: a line for each service and mode, changes marked."""
    lines = [line for line in history.lines if line.metric.name == metric.name]
    if not lines:
        return None
    several = len(history.modes) > 1
    modes = mode_looks([(mode, mode) for mode in history.modes])
    traces = [_trace(history, line, modes[line.mode], several=several) for line in lines]
    changes = [change for change in history.changes if change.line in lines]
    unit: dict[str, Any] = {"ticksuffix": " s", "rangemode": "tozero"}
    layout = {
        "xaxis": {
            "type": "category",
            "title": {"text": history.package},
            "categoryorder": "array",
            "categoryarray": list(history.versions),
            # So that versions without a figure have their place, too.
            "range": [-0.5, len(history.versions) - 0.5],
        },
        "yaxis": {"title": {"text": metric.label}, **(BYTES if _is_bytes(metric) else unit)},
        "shapes": [_mark(place) for place in sorted({c.after for c in changes})],
        "annotations": _labels(history, changes, _apart(lines)),
    }
    return {"data": traces, "layout": layout}


def _is_bytes(metric: Metric) -> bool:
    return metric.unit is Unit.BYTES


def _trace(history: History, line: Line, mode: Look, *, several: bool) -> dict[str, Any]:
    color = service_look(line.scope).color
    if line.scope == TOPOLOGY:
        color = mode.color if several else INK
    name = f"{line.scope}, {line.mode}" if several else line.scope
    there = [(history.versions[n], p) for n, p in enumerate(line.points) if p is not None]
    shown = "%{y:.3s}B" if _is_bytes(line.metric) else "%{y:.3r} s"
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": [version for version, _ in there],
        "y": [point.median for _, point in there],
        "error_y": whiskers([point for _, point in there]),
        "text": [_runs(len(point.values)) for _, point in there],
        "line": {"color": color, "dash": mode.dash if several else "solid", "width": 2},
        "marker": {"color": color, "symbol": mode.symbol, "size": 7},
        "hovertemplate": "%{x}: " + shown + "<br>%{text}<extra>" + name + "</extra>",
    }


def _runs(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"


def _mark(place: int) -> dict[str, Any]:
    """Return a line before a version."""
    at = place - 0.5
    ends = {"x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper"}
    return ends | {"type": "line", "line": {"color": _MARK, "width": 1.5, "dash": "dot"}}


def _apart(lines: Sequence[Line]) -> float:
    """Return how far points of a figure must be apart for words beside both to be read."""
    points = [point.median for line in lines for point in line.points if point is not None]
    return _APART * max(map(abs, points), default=0.0)


def _labels(history: History, changes: Sequence[Change], apart: float) -> list[dict[str, Any]]:
    """Return the version beside each mark, and words at the first point of each line after it.

    Words of a service's modes, and of points that are less than ``apart`` from the next one, stand
    below each other.
    """
    found: list[dict[str, Any]] = [
        {
            "x": place - 0.5,
            "y": 1,
            "yref": "paper",
            "text": history.versions[place],
            "textangle": -90,
            "xanchor": "right",
            "xshift": -3,
            "yanchor": "top",
            "showarrow": False,
        }
        for place in sorted({change.after for change in changes})
    ]
    for each in _together(changes, apart):
        place = each[0].after
        words = [
            f"{change.line.scope}{f', {change.line.mode}' if len(history.modes) > 1 else ''}"
            f" {_share(change)}"
            for change in each
        ]
        last = place == len(history.versions) - 1
        found.append(
            {
                "x": place,
                "y": max(map(_height, each)),
                "text": "<br>".join(words),
                "align": "left",
                "showarrow": True,
                "arrowcolor": _MARK,
                "arrowhead": 2,
                "ax": -24 if last else 24,
                "ay": -28,
                "xanchor": "right" if last else "left",
                "yanchor": "bottom",
            }
        )
    return found


def _height(change: Change) -> float:
    """Return where the first point after a change is."""
    point = change.line.points[change.after]
    return point.median if point is not None else 0.0


def _together(changes: Sequence[Change], apart: float) -> list[list[Change]]:
    """Return the changes of each version, highest first, those that are close in one group.

    Modes of a service stay beside each other: they mostly change together.
    """
    found: list[list[Change]] = []
    highest: dict[tuple[int, str], float] = {}
    for change in changes:
        key = change.after, change.line.scope
        highest[key] = max(highest.get(key, -math.inf), _height(change))

    def order(change: Change) -> tuple[int, float, str]:
        key = change.after, change.line.scope
        return change.after, -highest[key], change.line.scope

    for change in sorted(changes, key=order):
        last = found[-1][-1] if found else None
        if last is not None and last.after == change.after:
            same = last.line.scope == change.line.scope
            if same or _height(last) - _height(change) < apart:
                found[-1].append(change)
                continue
        found.append([change])
    return found


def write_history(directory: Path, history: History, asked: Asked) -> Path:
    """Write page, JSON and CSV into a directory; return the page.

    Raises:
        UsageError: if it cannot be written there.
    """
    page = directory / PAGE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / DOCUMENT, document(history, asked))
        write_whole(directory / CSV, as_csv(history))
        write_whole(page, _page(history, asked))
    except OSError as error:
        raise UsageError(
            f"{error.filename or directory}: cannot be written ({error.strerror}); name another"
            " directory with --run-dir"
        ) from None
    return page


def _page(history: History, asked: Asked) -> str:
    metrics = list({line.metric.name: line.metric for line in history.lines}.values())
    found = {metric.name: metric_chart(history, metric) for metric in metrics}
    rows = [(history.versions[change.after], change.row) for change in history.changes]
    tables = [
        versions_table(history, asked),
        comparisons("Changes, each beside the version before it", rows, NOTE) if rows else None,
    ]
    sessions = history.measured
    whens = dict.fromkeys(circumstances(sessions))
    return rendered(
        "history.html.j2",
        {name: chart for name, chart in found.items() if chart is not None},
        title=f"{history.package} over its versions",
        story=headline(history),
        changes=[*change_lines(history), *open_lines(history)],
        lead=lead(sessions),
        circumstances=list(whens)[:1],
        metrics=metrics,
        captions={
            metric.name: of_points(metric.label, f"versions of {history.package}", sessions)
            for metric in metrics
        },
        versions=tables[0],
        comparisons=tables[1],
        problems=warnings(sessions),
        contents=[
            *((metric.name, metric.label.capitalize()) for metric in metrics),
            ("history", "Versions"),
            *([("comparisons", "Changes")] if rows else []),
        ],
    )


def document(history: History, asked: Asked) -> dict[str, Any]:
    """Return all of it as plain data."""
    return {
        "schema_version": SCHEMA_VERSION,
        "package": history.package,
        **asked.facts,
        "skipped": dict(asked.skipped),
        "threshold": history.rules.threshold,
        "headline": headline(history),
        "versions": [
            {
                "version": version,
                "directory": None if session is None else session.path.name,
                "runs": {} if session is None else _went(history, place),
            }
            for place, (version, session) in enumerate(
                zip(history.versions, history.sessions, strict=True)
            )
        ],
        "changes": [_change_json(history, change) for change in history.changes],
        "undecided": [
            _change_json(history, change) | {"needs": change.needs} for change in history.open
        ],
    }


def _went(history: History, place: int) -> dict[str, int]:
    return {mode: history.runs(place, mode) for mode in history.modes}


def _change_json(history: History, change: Change) -> dict[str, Any]:
    return {
        "version": history.versions[change.after],
        "before": history.versions[change.before],
        "said": change_words(history, change),
        **comparison_json(change.row),
    }


def as_csv(history: History) -> str:
    """Return every point of every line, with the change that stands before it, as CSV."""
    changes = {(id(change.line), change.after): change for change in history.changes}
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for line in history.lines:
        for place, point in enumerate(line.points):
            if point is None:
                continue
            change = changes.get((id(line), place))
            found = change.row.comparison if change is not None else None
            rows.writerow(
                (
                    *(history.versions[place], line.mode, line.scope, line.metric.name),
                    *(line.metric.unit.value, len(point.values)),
                    *_numbers(point.median, point.low, point.high, point.confidence),
                    *_numbers(found.change if found is not None else None),
                    change.row.verdict.value if change is not None else "",
                )
            )
    return text.getvalue()


def _numbers(*values: float | None) -> Sequence[str]:
    return ["" if value is None else f"{value:.10g}" for value in values]
