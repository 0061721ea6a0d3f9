"""The page's first picture: what each mode needs at its peak, and how long it takes, side by side.

Rows are modes, the least on top in both charts. Colours are services, patterns kinds of memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.figures import Group, Range
from harness.analysis.kinds import KINDS
from harness.analysis.series import HOST
from harness.core.sizes import format_size
from harness.report.charts import BYTES, Chart, whiskers
from harness.report.palette import Look, dark_of, service_look
from harness.report.tables import between

KIND_PATTERNS: Mapping[str, str] = dict(zip(KINDS, ("", "/", ".", "x"), strict=True)) | {"": ""}
"""The pattern of each kind of memory, as plotly spells it; what is not known has none."""

# Beyond the longest bar there is room for its size.
_ROOM = 1.2
# Less than this share of the longest bar is thinner than a pixel.
_VISIBLE = 0.002


@dataclass(frozen=True)
class Key:
    """One entry of the legend.

    Attributes:
        label: what it stands for.
        color, dark: on a light and on a dark page; empty: any.
        pattern: of :data:`KIND_PATTERNS`.
    """

    label: str
    color: str = ""
    dark: str = ""
    pattern: str = ""


def ranked(groups: Sequence[Group]) -> list[Group]:
    """Return the groups with figures of memory, the one that needs least at its peak first."""
    found = [group for group in groups if group.figures and group.topology]
    return sorted(found, key=_net_peak)


def _net_peak(group: Group) -> float:
    return group.topology.net_peak.median if group.topology else 0.0


def ranked_chart(groups: Sequence[Group]) -> Chart | None:
    """Return a bar for each mode, made of services and, within these, kinds of memory.

    None without memory.
    """
    shown = ranked(groups)
    parts = _parts(shown)
    if not parts:
        return None
    labels = [group.label for group in shown]
    traces: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": f"{service}, {kind}" if kind else service,
            "y": labels,
            "x": sizes,
            "marker": {
                "color": service_look(service).color,
                "pattern": {"shape": KIND_PATTERNS[kind], "fillmode": "overlay", "size": 6},
            },
            "hovertemplate": "%{x:.3s}B<extra>%{y}: "
            + (f"{service}, {kind}" if kind else service)
            + "</extra>",
        }
        for (service, kind), sizes in parts.items()
    ]
    peaks = [group.topology.net_peak for group in shown if group.topology]
    traces += _ends(labels, peaks)
    longest = max(peak.high for peak in peaks)
    axis = {"title": {"text": "memory at the peak, above the baseline"}, **BYTES}
    layout = {
        "barmode": "stack",
        "showlegend": False,
        "xaxis": {**axis, "range": [0, longest * _ROOM]},
        "yaxis": _rows(labels),
    }
    return {"data": traces, "layout": layout}


def _ends(labels: Sequence[str], peaks: Sequence[Range]) -> list[dict[str, Any]]:
    """Return a whisker from the lowest to the highest run, and the median's size beyond it."""
    shared: dict[str, Any] = {"type": "scatter", "y": labels, "cliponaxis": False}
    whisker = whiskers(peaks) | {"color": "#808080"}
    sizes = [format_size(peak.median) for peak in peaks]
    return [
        shared
        | {
            "mode": "markers",
            "x": [peak.median for peak in peaks],
            "marker": {"size": 1, "color": "#808080"},
            "error_x": whisker,
            "text": [
                f"{size} ({between(format_size(peak.low), format_size(peak.high))})"
                for size, peak in zip(sizes, peaks, strict=True)
            ],
            "hovertemplate": "%{text}<extra>%{y}: all together</extra>",
        },
        shared
        | {
            "mode": "text",
            "x": [peak.high for peak in peaks],
            "text": [f"  {size}" for size in sizes],
            "textposition": "middle right",
            "hoverinfo": "skip",
        },
    ]


def _rows(labels: Sequence[str]) -> dict[str, Any]:
    """Return the axis of the modes, the same in both charts: the first on top."""
    # Beside each other, the rows must lie at the same heights.
    return {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": list(labels),
        "range": [len(labels) - 0.5, -0.5],
        "automargin": True,
    }


def _parts(shown: Sequence[Group]) -> dict[tuple[str, str], list[float]]:
    """Return the bytes of each service and kind in each group, the largest service first."""
    # Of the host there is one scope, and nothing tells its parts.
    kinds = [group.kinds_at_peak or {HOST: {"": _net_peak(group)}} for group in shown]
    services = dict.fromkeys(name for each in kinds for name in each)
    largest = {s: max(sum(each.get(s, {}).values()) for each in kinds) for s in services}
    least = max(map(_net_peak, shown), default=0.0) * _VISIBLE
    found = {
        (service, kind): [each.get(service, {}).get(kind, 0.0) for each in kinds]
        for service in sorted(services, key=lambda name: -largest[name])
        for kind in KIND_PATTERNS
    }
    return {part: sizes for part, sizes in found.items() if max(sizes) > least}


def legend(groups: Sequence[Group]) -> tuple[list[Key], list[Key]]:
    """Return what stands for the services of :func:`ranked_chart`, and for the kinds of memory."""
    parts = _parts(ranked(groups))
    services = dict.fromkeys(service for service, _ in parts)
    kinds = [kind for kind in KIND_PATTERNS if kind and any(k == kind for _, k in parts)]
    colors = [(name, service_look(name).color) for name in services]
    return (
        [Key(name, color, dark_of(color)) for name, color in colors],
        [Key(kind, pattern=KIND_PATTERNS[kind] or "solid") for kind in kinds],
    )


def makespan_chart(groups: Sequence[Group], looks: Mapping[str, Look]) -> Chart | None:
    """Return each run's makespan as a point, and the time of the tasks' sleep alone.

    Rows are in the order of :func:`ranked_chart`; without that, in the order of the groups. None if
    no run went through.
    """
    if not any(group.figures for group in groups):
        return None
    shown = ranked(groups)
    shown += [group for group in groups if group.figures and group not in shown]
    traces = []
    for group in shown:
        style, runs = looks[group.label], group.figures
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": group.label,
                "y": [group.label for _ in runs],
                "x": [figures.run.makespan_s for figures in runs],
                "text": [figures.run.run_id for figures in runs],
                "marker": {"color": style.color, "symbol": style.symbol, "size": 9},
                "hovertemplate": "%{text}: %{x:.3r} s<extra></extra>",
            }
        )
    ideal = {g.session.workload.ideal_s for g in groups if g.session.workload}
    shapes = [
        {
            "type": "line",
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "x0": t_s,
            "x1": t_s,
            "line": {"color": "#808080", "dash": "dot", "width": 1.5},
        }
        for t_s in sorted(ideal)
    ]
    said = ", ".join(f"{t_s:g}" for t_s in sorted(ideal))
    title = f"makespan (dotted: sleep alone, {said} s)" if ideal else "makespan"
    layout = {
        "shapes": shapes,
        "showlegend": False,
        "xaxis": {"title": {"text": title}, "ticksuffix": " s", "rangemode": "tozero"},
        "yaxis": _rows([group.label for group in shown]),
    }
    return {"data": traces, "layout": layout}
