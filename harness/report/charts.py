"""The page's interactive charts, as plotly.js takes them: plain data, no drawing here."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from harness.analysis.curves import Band, band, baseline_of, run_curve, thin_together
from harness.analysis.digits import three
from harness.analysis.figures import Group, Range, RunFigures
from harness.analysis.series import TOPOLOGY, Levels
from harness.analysis.statistics import Spread
from harness.analysis.timeline import Boundary, Step, TaskBar, boundaries, steps, task_bars
from harness.core.sizes import format_size
from harness.report.palette import INK, Look, service_looks, stage_color

Chart = dict[str, Any]

_BAND_POINTS = 2400
BYTES = {"tickformat": "~s", "ticksuffix": "B", "rangemode": "tozero"}
SECONDS_TITLE = "seconds since the start of the run"
_FAINT = 0.18
# Words above the stages while there are few; numbers while they can be read.
_FEW_LABELS = 10
_MOST_LABELS = 24


def whiskers(points: Sequence[Range | Spread]) -> dict[str, Any]:
    """Return a whisker for each point, from its low to its high."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [point.high - point.median for point in points],
        "arrayminus": [point.median - point.low for point in points],
        "thickness": 1,
        "width": 3,
    }


def memory_chart(groups: Sequence[Group], looks: Mapping[str, Look]) -> Chart | None:
    """Return memory over time, a line and a band for each group, net and absolute.

    Each trace says in ``meta`` which of the two it belongs to; the page shows one at a time.
    """
    traces: list[dict[str, Any]] = []
    for net in (True, False):
        for group in groups:
            found = band(group, net=net)
            if found is not None:
                traces += _band_traces(group, found, looks[group.label], net=net)
    if not traces:
        return None
    payload = max((_kept_bytes(group) for group in groups), default=0)
    if payload:
        longest = [g.makespan.high for g in groups if g.makespan]
        traces += [_must_hold(payload, max(longest))] if longest else []
    return {
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": SECONDS_TITLE}},
            "yaxis": {"title": {"text": "memory, less its baseline"}, **BYTES},
            "hovermode": "x unified",
        },
        "switch": {"net": "memory, less its baseline", "absolute": "memory in use"},
    }


def _kept_bytes(group: Group) -> int:
    """Return the payload bytes that the group's runs still hold when they end."""
    workload = group.session.workload
    return workload.payload_bytes if workload and group.mode == "default-proxy" else 0


def _must_hold(payload: int, until_s: float) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"all payload, {format_size(payload)}",
        "x": [0, until_s],
        "y": [payload, payload],
        "line": {"color": "#808080", "dash": "dot", "width": 1.5},
        "hovertemplate": "%{y:.3s}B<extra>all payload</extra>",
        "meta": "net",
    }


def _band_traces(group: Group, found: Band, style: Look, *, net: bool) -> list[dict[str, Any]]:
    kept = thin_together([found.median, found.low, found.high], _BAND_POINTS)
    t_s = floats(found.t_s[kept])
    shared = {
        "type": "scatter",
        "mode": "lines",
        "x": t_s,
        "legendgroup": group.label,
        "meta": "net" if net else "absolute",
        "visible": net,
    }
    runs = len(group.figures or group.runs)
    went = "" if group.figures else ", none went through"
    median = shared | {
        "name": f"{group.label} ({runs} run{'s' if runs > 1 else ''}{went})",
        "y": floats(found.median[kept]),
        "line": {"color": style.color, "dash": style.dash, "width": 2},
        "hovertemplate": "%{y:.3s}B" + f"<extra>{group.label}</extra>",
    }
    if runs == 1:
        return [median]
    spread = np.stack([found.low[kept], found.high[kept]], axis=1)
    median["customdata"] = floats(spread)
    median["hovertemplate"] = (
        "%{y:.3s}B  (%{customdata[0]:.3s}B to %{customdata[1]:.3s}B)"
        f"<extra>{group.label}</extra>"
    )
    edge = {"line": {"width": 0, "color": style.color}, "hoverinfo": "skip", "showlegend": False}
    low = shared | edge | {"y": floats(found.low[kept]), "name": f"{group.label}, lowest"}
    high = shared | edge | {"y": floats(found.high[kept]), "name": f"{group.label}, highest"}
    high |= {"fill": "tonexty", "fillcolor": style.faint(_FAINT)}
    return [low, high, median]


def peaks_chart(groups: Sequence[Group], looks: Mapping[str, Look]) -> Chart | None:
    """Return the net peak of each service as bars, the runs' extremes as whiskers."""
    traces = []
    for group in groups:
        scopes = group.scopes
        if not scopes:
            continue
        style = looks[group.label]
        peaks = [scope.net_peak for scope in scopes]
        traces.append(
            {
                "type": "bar",
                "name": group.label,
                "x": [scope.scope for scope in scopes],
                "y": [peak.median for peak in peaks],
                "error_y": whiskers(peaks),
                "text": [", ".join(scope.peak_kinds) for scope in scopes],
                "textposition": "none",
                "marker": {
                    "color": style.color,
                    "pattern": {"shape": style.hatch, "fillmode": "overlay", "size": 6},
                },
                "hovertemplate": "%{x}: %{y:.3s}B<br>%{text}<extra>" + group.label + "</extra>",
            }
        )
    if not traces:
        return None
    layout = {
        "barmode": "group",
        "yaxis": {"title": {"text": "net peak"}, **BYTES},
        "xaxis": {"type": "category"},
    }
    return {"data": traces, "layout": layout}


def floats(values: Levels) -> dict[str, str]:
    """Return an array in plotly's binary form: five characters a value, of seven digits."""
    shape = {"shape": ",".join(map(str, values.shape))} if values.ndim > 1 else {}
    data = np.ascontiguousarray(values, dtype="<f4").tobytes()
    return {"dtype": "f4", "bdata": base64.b64encode(data).decode(), **shape}


def run_chart(group: Group, figures: RunFigures, points: int, tasks: int) -> Chart | None:
    """Return one run's memory stacked by service, and its tasks, on one time axis.

    Args:
        group: whose run it is.
        figures: the run.
        points: about how many to keep of each line.
        tasks: how many to show at most; of more, the first.
    """
    memory = group.session.memory
    if memory is None or figures.topology is None:
        return None
    curve = run_curve(memory, figures)
    looks = service_looks(memory)
    names = list(looks)
    kept = thin_together([curve.total, *(curve.services[n] for n in names)], points)
    t_s = floats(curve.t_s[kept])
    traces = [
        _area(name, t_s, curve.services[name][kept], looks[name], memory.containers[name])
        for name in names
    ]
    if len(names) > 1:
        traces.append(_line("all together", t_s, floats(curve.total[kept]), "#808080", "solid"))
    bars = task_bars(group.session, figures.run)
    ends = boundaries(bars)
    must = steps(group.session, figures.run, ends)
    if must:
        traces += _predicted(must, baseline_of(figures, TOPOLOGY))
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": SECONDS_TITLE}},
        "yaxis": {"title": {"text": "memory in use"}, **BYTES},
        "hovermode": "x unified",
        "shapes": _edges(ends),
        "annotations": _stage_labels(ends) if bars else [],
    }
    if bars:
        traces += _task_traces(bars[:tasks])
        if len(bars) > tasks:
            layout["xaxis"]["title"]["text"] += f" (the first {tasks} of {len(bars)} tasks)"
        layout["yaxis"]["domain"] = [0.36, 1]
        rows = _workers(bars, memory.containers)
        layout["yaxis2"] = {
            "domain": [0, 0.28],
            "type": "category",
            "categoryorder": "array",
            "categoryarray": rows,
            # Rows of workers that did nothing are rows all the same.
            "range": [len(rows) - 0.5, -0.5],
        }
        layout["xaxis"]["anchor"] = "y2"
        layout["barmode"] = "overlay"
    return {"data": traces, "layout": layout}


def _area(name: str, t_s: Any, levels: Levels, style: Look, containers: int) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"{name} x {containers}" if containers > 1 else name,
        "stackgroup": "services",
        "x": t_s,
        "y": floats(np.nan_to_num(levels)),
        "line": {"width": 1, "color": style.color},
        "fillcolor": style.faint(0.45),
        "fillpattern": {"shape": style.hatch, "fgcolor": style.color, "size": 6, "solidity": 0.3},
        "hovertemplate": "%{y:.3s}B" + f"<extra>{name}</extra>",
    }


def _line(name: str, x: Any, y: Any, color: str, dash: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x,
        "y": y,
        "line": {"color": color, "dash": dash, "width": 2.5},
        "hovertemplate": "%{y:.3s}B" + f"<extra>{name}</extra>",
    }


def _predicted(must: Sequence[Step], baseline: float) -> list[dict[str, Any]]:
    """Return lines of what must be alive: the connector's, and any implementation's least."""
    t_s: list[float] = []
    held: list[float] = []
    for step in must:
        t_s += [step.t_s, step.t_s]
        held += [baseline + step.before_bytes, baseline + step.held_bytes]
    ideal = [baseline + step.ideal_bytes for step in must]
    traces = [
        _line("baseline + predicted", t_s, held, INK, "dash"),
        _line("baseline + ideal", [step.t_s for step in must], ideal, INK, "dot"),
    ]
    traces[1]["line"]["shape"] = "hv"
    if not any(step.before_bytes for step in must):  # mode none has nothing in a connector
        return traces[1:]
    return traces


def _edges(ends: Sequence[Boundary]) -> list[dict[str, Any]]:
    """Return a dotted line where a stage ends, a solid one where a cycle does."""
    last = {end.cycle: end.stage for end in ends}
    cycles = len(last) > 1
    found = []
    for end in ends:
        dash = "solid" if cycles and end.stage == last[end.cycle] else "dot"
        line = {"color": "rgba(128,128,128,0.6)", "width": 1, "dash": dash}
        position = {"x0": end.t_s, "x1": end.t_s, "y0": 0, "y1": 1, "yref": "paper"}
        found.append({"type": "line", "line": line, "layer": "below", **position})
    return found


def _workers(bars: Sequence[TaskBar], containers: Mapping[str, int]) -> list[str]:
    """Return the rows of tasks in the order of the workers' numbers, those without tasks too."""
    names = {bar.worker for bar in bars}
    if all(name.startswith("worker-") for name in names):
        names |= {f"worker-{n}" for n in range(1, containers.get("worker", 0) + 1)}
    return sorted(names, key=lambda name: [(len(part), part) for part in name.split("-")])


def _stage_labels(ends: Sequence[Boundary]) -> list[dict[str, Any]]:
    """Return a word above each stage, if there are few enough to read."""
    if len(ends) > _MOST_LABELS:
        return []
    found = []
    for before, end in pairwise(ends):
        if end.stage >= 0:
            found.append(
                {
                    "x": (before.t_s + end.t_s) / 2,
                    "y": 1,
                    "yref": "paper",
                    "yanchor": "bottom",
                    "showarrow": False,
                    "text": f"stage {end.stage}" if len(ends) <= _FEW_LABELS else f"{end.stage}",
                    "hovertext": f"cycle {end.cycle}, stage {end.stage}",
                }
            )
    return found


def _task_traces(bars: Sequence[TaskBar]) -> list[dict[str, Any]]:
    """Return each worker's tasks: getting inputs, then working."""
    shown = [bar for bar in bars if bar.started_s is not None]
    parts = (
        ("resolving inputs", "/", [(b.started_s, b.resolved_s) for b in shown]),
        ("working", "", [(b.resolved_s, b.finished_s) for b in shown]),
    )
    text = [
        f"cycle {b.cycle}, stage {b.stage}, task {b.task}<br>"
        f"{_size(b.bytes_in)} in, {_size(b.bytes_out)} out"
        for b in shown
    ]
    return [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": [bar.worker for bar in shown],
            "base": [_rounded(start) for start, _ in times],
            "x": [_length(start, end) for start, end in times],
            "text": text,
            "textposition": "none",
            "marker": {
                "color": [stage_color(bar.stage) for bar in shown],
                # Over single colours, plotly looks for a contrast to all of them, and complains.
                "pattern": {
                    "shape": hatch,
                    "fillmode": "replace",
                    "bgcolor": [stage_color(bar.stage) for bar in shown],
                    "fgcolor": "#000000",
                    "fgopacity": 0.5,
                    "size": 4,
                },
                "line": {"width": 0.5, "color": "rgba(128,128,128,0.9)"},
            },
            # Of a bar, x is where it ends; how long it lasted is told apart.
            "customdata": [_duration(start, end) for start, end in times],
            "hovertemplate": "%{text}<br>%{customdata} s<extra>" + name + "</extra>",
            "yaxis": "y2",
            "showlegend": False,
        }
        for name, hatch, times in parts
    ] + [
        {
            "type": "scatter",
            "mode": "markers",
            "name": f"tasks of stage {stage}",
            "x": [None],
            "y": [shown[0].worker],
            "yaxis": "y2",
            "marker": {"color": stage_color(stage), "symbol": "square", "size": 11},
        }
        for stage in sorted({bar.stage for bar in shown})[:_FEW_LABELS]
    ]


def _length(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else _rounded(end - start)


def _duration(start: float | None, end: float | None) -> str:
    length = _length(start, end)
    return "?" if length is None else three(length)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def _size(size_bytes: int | None) -> str:
    return "?" if size_bytes is None else format_size(size_bytes)
