"""A sweep: tables for the terminal, one page of figures over a parameter, and JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.analysis.compare import Metric, Unit
from harness.analysis.series import TOPOLOGY
from harness.analysis.statistics import Spread
from harness.analysis.sweep import Contest, Panel, Point, Stretch, shown_metrics
from harness.analysis.verdicts import Verdict
from harness.core.errors import UsageError
from harness.core.files import write_whole
from harness.core.sizes import format_size
from harness.report.captions import of_points
from harness.report.charts import BYTES, Chart, whiskers
from harness.report.comparison import comparison_json, quantity
from harness.report.page import rendered, warnings
from harness.report.palette import Look, mode_looks
from harness.report.story import circumstances
from harness.report.tables import NOTHING, Cell, Table, as_text, between
from harness.results.documents import write_json

PAGE = "sweep.html"
FIGURES = "figures.json"
CSV = "sweep.csv"
SCHEMA_VERSION = 1
# A page of more panels than this is read by nobody; the files hold all.
_MOST_PANELS = 12
# From here on values lie too unevenly for a straight axis.
_LOGARITHMIC = 20
_SAID = {
    Verdict.BETTER: "less",
    Verdict.WORSE: "more",
    Verdict.EQUIVALENT: "as much",
    Verdict.UNDECIDED: "undecided",
}


@dataclass(frozen=True)
class Swept:
    """What is shown.

    Attributes:
        panels: cells that differ in one parameter only, together.
        skipped: cells without runs, by name, and why.
    """

    panels: Sequence[Panel]
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def points(self) -> list[Point]:
        """All cells."""
        return [point for panel in self.panels for point in panel.points]


def contest_lines(panel: Panel) -> list[str]:
    """Return a sentence for each mode beside the first: where it needs less, where more."""
    return [_contest_line(panel, contest) for contest in panel.contests]


def _contest_line(panel: Panel, contest: Contest) -> str:
    said = ", ".join(_stretch_words(panel, stretch) for stretch in contest.stretches)
    if contest.crossing is not None:
        said += f"; the medians cross near {_on_axis(panel, contest.crossing)}"
    label = contest.metric.label.capitalize()
    return f"{label}, {contest.mode_b} beside {contest.mode_a}: {said}."


def _stretch_words(panel: Panel, stretch: Stretch) -> str:
    where = _where(panel, stretch.first, stretch.last)
    words = f"{_SAID[stretch.verdict]} {where}"
    if stretch.verdict not in (Verdict.BETTER, Verdict.WORSE):
        return words
    # The furthest from no difference says how much it can be.
    shares = [
        (abs(row.comparison.change), row.comparison.change, place)
        for place, row in zip(range(stretch.first, stretch.last + 1), stretch.rows, strict=False)
        if row.comparison is not None and row.comparison.change is not None
    ]
    if not shares:
        return words
    _, change, place = max(shares)
    at = f" at {panel.labels[place]}" if stretch.first != stretch.last else ""
    return f"{words} ({change:+.0%}{at})".replace("%", " %")


def _where(panel: Panel, first: int, last: int) -> str:
    labels = panel.labels
    if first == last:
        return f"at {labels[first]}"
    if panel.numbers is None:
        return f"at {', '.join(labels[first : last + 1])}"
    return f"from {labels[first]} to {labels[last]}"


def _on_axis(panel: Panel, number: float) -> str:
    plain = all(label.replace(".", "", 1).isdigit() for label in panel.labels)
    return f"{number:.3g}" if plain else format_size(number)


def headline(swept: Swept) -> str:
    """Return in one sentence where a mode needs less at the peak than the first one."""
    axis = swept.panels[0].axis
    best: tuple[float, str] | None = None
    for panel in swept.panels:
        for contest in panel.contests:
            last = contest.stretches[-1]
            change = last.rows[-1].comparison.change if last.rows[-1].comparison else None
            if contest.metric.name != "net_peak" or last.verdict is not Verdict.BETTER:
                continue
            whole = len(contest.stretches) == 1
            first = (
                f"at every value of {axis}"
                if whole
                else f"from {axis} {panel.labels[last.first]} on"
            )
            others = f" ({_of(panel)})" if len(swept.panels) > 1 else ""
            said = (
                f"{contest.mode_b} needs less memory at the peak than {contest.mode_a}"
                f" {first}{others}"
            )
            if change is not None:
                said += f"; {-change:.0%} less at {panel.labels[last.last]}".replace("%", " %")
            if best is None or (change or 0.0) < best[0]:
                best = (change or 0.0, said)
    if best is not None:
        return f"{best[1]}."
    many = len(swept.points)
    modes = {mode for panel in swept.panels for mode in panel.modes}
    if len(modes) > 1:
        end = swept.panels[0].labels[-1]
        return f"At {axis} {end} the runs name no mode that needs less memory at the peak."
    return f"{many} cells over {axis}."


def _of(panel: Panel) -> str:
    return ", ".join(f"{name} {value}" for name, value in panel.others.items())


def metric_table(swept: Swept, metric: Metric) -> Table:
    """Return a row for each cell and a column for each mode: median and interval."""
    modes = list(dict.fromkeys(mode for panel in swept.panels for mode in panel.modes))
    names = list(swept.points[0].values)
    rows: list[tuple[str | Cell, ...]] = []
    for panel in swept.panels:
        lines = {mode: panel.line(metric, TOPOLOGY, mode) for mode in modes}
        for place, point in enumerate(panel.points):
            cells = [_cell(lines[mode][place], metric) for mode in modes]
            rows.append((*(point.values[name] for name in names), *cells))
    header = (*names, *(f" {mode}" for mode in modes))
    return Table(f"table-{metric.name}", metric.label.capitalize(), header, tuple(rows))


def _cell(point: Spread | None, metric: Metric) -> Cell:
    if point is None:
        return Cell(NOTHING)
    small = ""
    if point.low < point.high:
        small = between(quantity(point.low, metric.unit), quantity(point.high, metric.unit))
    return Cell(quantity(point.median, metric.unit), small)


def terminal(swept: Swept) -> str:
    """Return tables of net peak and makespan, what modes are beside each other, and a sentence."""
    judged = [metric for metric in shown_metrics() if metric.name in ("net_peak", "makespan")]
    parts = [as_text(metric_table(swept, metric)) + "\n" for metric in judged]
    for panel in swept.panels:
        lines = contest_lines(panel)
        if lines and len(swept.panels) > 1:
            parts.append(f"{_of(panel)}:")
        parts += lines
    parts += [f"{name}: {why}" for name, why in swept.skipped.items()]
    return "\n".join([*parts, "", headline(swept)])


def metric_chart(panel: Panel, metric: Metric) -> Chart | None:
    """Return one metric over the axis: a line for each mode, with an interval at each point."""
    looks = mode_looks([(mode, mode) for mode in panel.modes])
    numbers = panel.numbers
    x: Sequence[Any] = numbers if numbers is not None else panel.labels
    traces = []
    for mode in panel.modes:
        line = panel.line(metric, TOPOLOGY, mode)
        there = [(x[n], panel.labels[n], point) for n, point in enumerate(line) if point]
        if there:
            traces.append(_trace(there, mode, looks[mode], metric))
    if not traces:
        return None
    axis: dict[str, Any] = {"title": {"text": panel.axis}}
    if numbers is None:
        axis |= {"type": "category"}
    else:
        axis |= {"tickvals": list(numbers), "ticktext": panel.labels}
        uneven = min(numbers) > 0 and max(numbers) / min(numbers) >= _LOGARITHMIC
        axis |= {"type": "log"} if uneven else {}
    unit: dict[str, Any] = {"rangemode": "tozero"}
    if metric.unit is Unit.BYTES:
        unit = dict(BYTES)
    elif metric.unit is Unit.SECONDS:
        unit |= {"ticksuffix": " s"}
    marks = [
        _mark(contest.crossing)
        for contest in panel.contests
        if contest.crossing is not None and contest.metric.name == metric.name
    ]
    y_axis = {"title": {"text": metric.label}, **unit}
    return {"data": traces, "layout": {"xaxis": axis, "yaxis": y_axis, "shapes": marks}}


def _trace(
    there: Sequence[tuple[Any, str, Spread]], name: str, look: Look, metric: Metric
) -> dict[str, Any]:
    shown = {Unit.BYTES: "%{y:.3s}B", Unit.SECONDS: "%{y:.3r} s"}.get(metric.unit, "%{y:.3r}")
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": [x for x, _, _ in there],
        "y": [point.median for _, _, point in there],
        "error_y": whiskers([point for _, _, point in there]),
        "text": [f"{label}: {len(point.values)} runs" for _, label, point in there],
        "line": {"color": look.color, "dash": look.dash, "width": 2},
        "marker": {"color": look.color, "symbol": look.symbol, "size": 7},
        "hovertemplate": "%{text}<br>" + shown + "<extra>" + name + "</extra>",
    }


def _mark(crossing: float) -> dict[str, Any]:
    """Return a line where medians cross."""
    ends = {"x0": crossing, "x1": crossing, "y0": 0, "y1": 1, "yref": "paper"}
    return ends | {"type": "line", "line": {"color": "#7A7A7A", "width": 1.5, "dash": "dot"}}


def write_sweep(directory: Path, swept: Swept) -> Path:
    """Write page, JSON and CSV into a directory; return the page.

    Raises:
        UsageError: if it cannot be written there.
    """
    page = directory / PAGE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / FIGURES, document(swept))
        write_whole(directory / CSV, as_csv(swept))
        write_whole(page, _page(swept))
    except OSError as error:
        raise UsageError(
            f"{error.filename or directory}: cannot be written ({error.strerror}); name another"
            " directory with --output"
        ) from None
    return page


def _page(swept: Swept) -> str:
    sessions = [point.session for point in swept.points if point.session is not None]
    found: dict[str, Chart] = {}
    texts: dict[str, str] = {}
    shown: list[tuple[Metric, list[tuple[str, str, list[str]]]]] = []
    for metric in shown_metrics():
        charts = []
        for number, panel in enumerate(swept.panels[:_MOST_PANELS]):
            chart = metric_chart(panel, metric)
            if chart is not None:
                key = f"{metric.name}-{number}"
                found[key] = chart
                texts[key] = of_points(f"{metric.label} {_of(panel)}".strip(), panel.axis, sessions)
                said = [
                    _contest_line(panel, contest)
                    for contest in panel.contests
                    if contest.metric.name == metric.name
                ]
                charts.append((key, _of(panel), said))
        if charts:
            shown.append((metric, charts))
    left = len(swept.panels) - _MOST_PANELS
    return rendered(
        "sweep.html.j2",
        found,
        title=f"A sweep over {', '.join(swept.points[0].values)}",
        story=headline(swept),
        lead=_lead(swept),
        circumstances=list(dict.fromkeys(circumstances(sessions)))[:1],
        shown=shown,
        captions=texts,
        more=f"{left} more panels are in {CSV}." if left > 0 else "",
        tables=[metric_table(swept, metric) for metric, _ in shown],
        skipped=[f"{name}: {why}" for name, why in swept.skipped.items()],
        problems=warnings(sessions),
        contents=[(metric.name, metric.label.capitalize()) for metric, _ in shown]
        + [("tables", "Tables")],
    )


def _lead(swept: Swept) -> str:
    """Return in one line what varied."""
    values: dict[str, dict[str, None]] = {}
    for point in swept.points:
        for name, value in point.values.items():
            values.setdefault(name, {})[value] = None
    said = "; ".join(f"{name} {', '.join(each)}" for name, each in values.items())
    return f"{len(swept.points)} cells: {said}."


def document(swept: Swept) -> dict[str, Any]:
    """Return all of it as plain data."""
    return {
        "schema_version": SCHEMA_VERSION,
        "headline": headline(swept),
        "skipped": dict(swept.skipped),
        "panels": [
            {
                "axis": panel.axis,
                "others": dict(panel.others),
                "cells": [
                    {
                        "directory": point.name,
                        "values": dict(point.values),
                        "runs": {mode: panel.runs(place, mode) for mode in panel.modes},
                    }
                    for place, point in enumerate(panel.points)
                ],
                "contests": [
                    {
                        "metric": contest.metric.name,
                        "a": contest.mode_a,
                        "b": contest.mode_b,
                        "said": _contest_line(panel, contest),
                        "crossing": contest.crossing,
                        "points": [
                            {"value": panel.labels[place], **comparison_json(row)}
                            for stretch in contest.stretches
                            for place, row in zip(
                                range(stretch.first, stretch.last + 1), stretch.rows, strict=False
                            )
                        ],
                    }
                    for contest in panel.contests
                ],
            }
            for panel in swept.panels
        ],
    }


def as_csv(swept: Swept) -> str:
    """Return every point of every mode, service and metric as CSV."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    names = list(swept.points[0].values)
    columns = ("mode", "service", "metric", "unit", "runs", "median", "low", "high", "confidence")
    rows.writerow(("cell", *names, *columns))
    for panel in swept.panels:
        for metric in shown_metrics():
            for scope in (TOPOLOGY, *(panel.services if metric.per_service else [])):
                for mode in panel.modes:
                    line = panel.line(metric, scope, mode)
                    for point, found in zip(panel.points, line, strict=True):
                        if found is None:
                            continue
                        ends = (found.median, found.low, found.high, found.confidence)
                        rows.writerow(
                            (
                                *(point.name, *(point.values[name] for name in names)),
                                *(mode, scope, metric.name, metric.unit.value, len(found.values)),
                                *("" if end is None else f"{end:.10g}" for end in ends),
                            )
                        )
    return text.getvalue()
