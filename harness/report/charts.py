"""The page's interactive charts, as plotly.js takes them: plain data, no drawing here."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.analysis.curves import Band, band
from harness.analysis.groups import Group
from harness.analysis.series import Levels
from harness.analysis.thin import thin_together
from harness.core.sizes import format_size
from harness.report.palette import Look

Chart = dict[str, Any]

_BAND_POINTS = 2400
BYTES = {"tickformat": "~s", "ticksuffix": "B", "rangemode": "tozero"}
SECONDS_TITLE = "seconds since the start of the run"
_FAINT = 0.18


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
        longest = max(g.makespan.high for g in groups if g.makespan)
        traces.append(_must_hold(payload, longest))
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
        "hovertemplate": "%{y:.4s}B<extra>all payload</extra>",
        "meta": "net",
    }


def _band_traces(group: Group, found: Band, style: Look, *, net: bool) -> list[dict[str, Any]]:
    kept = thin_together([found.mean, found.low, found.high], _BAND_POINTS)
    t_s = floats(found.t_s[kept])
    shared = {
        "type": "scatter",
        "mode": "lines",
        "x": t_s,
        "legendgroup": group.label,
        "meta": "net" if net else "absolute",
        "visible": net,
    }
    runs = len(group.figures)
    mean = shared | {
        "name": f"{group.label} ({runs} run{'s' if runs > 1 else ''})",
        "y": floats(found.mean[kept]),
        "line": {"color": style.color, "dash": style.dash, "width": 2},
        "hovertemplate": "%{y:.4s}B" + f"<extra>{group.label}</extra>",
    }
    if runs == 1:
        return [mean]
    spread = np.stack([found.low[kept], found.high[kept]], axis=1)
    mean["customdata"] = floats(spread)
    mean["hovertemplate"] = (
        "%{y:.4s}B  (%{customdata[0]:.4s}B to %{customdata[1]:.4s}B)"
        f"<extra>{group.label}</extra>"
    )
    edge = {"line": {"width": 0, "color": style.color}, "hoverinfo": "skip", "showlegend": False}
    low = shared | edge | {"y": floats(found.low[kept]), "name": f"{group.label}, lowest"}
    high = shared | edge | {"y": floats(found.high[kept]), "name": f"{group.label}, highest"}
    high |= {"fill": "tonexty", "fillcolor": style.faint(_FAINT)}
    return [low, high, mean]


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
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [peak.high - peak.median for peak in peaks],
                    "arrayminus": [peak.median - peak.low for peak in peaks],
                    "thickness": 1,
                    "width": 3,
                },
                "text": [", ".join(scope.peak_kinds) for scope in scopes],
                "textposition": "none",
                "marker": {
                    "color": style.color,
                    "pattern": {"shape": style.hatch, "fillmode": "overlay", "size": 6},
                },
                "hovertemplate": "%{x}: %{y:.4s}B<br>%{text}<extra>" + group.label + "</extra>",
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


def makespan_chart(groups: Sequence[Group], looks: Mapping[str, Look]) -> Chart:
    """Return each run's makespan as a point, and the time of the tasks' sleep alone."""
    traces = []
    for group in groups:
        style = looks[group.label]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": group.label,
                "x": [group.label for _ in group.figures],
                "y": [figures.run.makespan_s for figures in group.figures],
                "text": [figures.run.run_id for figures in group.figures],
                "marker": {"color": style.color, "symbol": style.symbol, "size": 10},
                "hovertemplate": "%{text}: %{y:.3f} s<extra></extra>",
            }
        )
    ideal = {g.session.workload.ideal_s for g in groups if g.session.workload}
    shapes = [
        {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": t_s,
            "y1": t_s,
            "line": {"color": "#808080", "dash": "dot", "width": 1.5},
            "label": {
                "text": f"sleep alone: {t_s:g} s",
                "textposition": "end",
                "yanchor": "bottom",
            },
        }
        for t_s in sorted(ideal)
    ]
    layout = {
        "shapes": shapes,
        "showlegend": False,
        "xaxis": {"type": "category"},
        "yaxis": {"title": {"text": "makespan"}, "ticksuffix": " s", "rangemode": "tozero"},
    }
    return {"data": traces, "layout": layout}


def floats(values: Levels) -> dict[str, str]:
    """Return an array in plotly's binary form: five characters a value, of seven digits."""
    shape = {"shape": ",".join(map(str, values.shape))} if values.ndim > 1 else {}
    data = np.ascontiguousarray(values, dtype="<f4").tobytes()
    return {"dtype": "f4", "bdata": base64.b64encode(data).decode(), **shape}
