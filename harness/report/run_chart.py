"""The chart of one run: services stacked, its tasks and what had to be alive, on one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from harness.analysis.curves import baseline_of, run_curve
from harness.analysis.groups import Group
from harness.analysis.metrics import RunFigures
from harness.analysis.series import TOPOLOGY, Levels
from harness.analysis.thin import thin_together
from harness.analysis.timeline import Boundary, Step, TaskBar, boundaries, steps, task_bars
from harness.report.charts import BYTES, SECONDS_TITLE, Chart, floats
from harness.report.palette import INK, Look, look, service_looks

# Words above the stages while there are few; numbers while they can be read.
_FEW_LABELS = 10
_MOST_LABELS = 24


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
        "shapes": [_edge(end) for end in ends],
        "annotations": _stage_labels(ends) if bars else [],
    }
    if bars:
        traces += _task_traces(bars[:tasks])
        if len(bars) > tasks:
            layout["xaxis"]["title"]["text"] += f" (the first {tasks} of {len(bars)} tasks)"
        layout["yaxis"]["domain"] = [0.36, 1]
        layout["yaxis2"] = {"domain": [0, 0.28], "type": "category"}
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
        "hovertemplate": "%{y:.4s}B" + f"<extra>{name}</extra>",
    }


def _line(name: str, x: Any, y: Any, color: str, dash: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x,
        "y": y,
        "line": {"color": color, "dash": dash, "width": 2.5},
        "hovertemplate": "%{y:.4s}B" + f"<extra>{name}</extra>",
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


def _edge(end: Boundary) -> dict[str, Any]:
    line = {"color": "rgba(128,128,128,0.6)", "width": 1, "dash": "dot"}
    position = {"x0": end.t_s, "x1": end.t_s, "y0": 0, "y1": 1, "yref": "paper"}
    return {"type": "line", "line": line, "layer": "below", **position}


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
            "x": [
                _rounded(end - start) if start is not None and end is not None else None
                for start, end in times
            ],
            "text": text,
            "textposition": "none",
            "marker": {
                "color": [look(bar.stage).color for bar in shown],
                "pattern": {"shape": hatch, "fillmode": "overlay", "size": 4},
                "line": {"width": 0.5, "color": "rgba(128,128,128,0.9)"},
            },
            "hovertemplate": "%{text}<br>%{x:.3f} s<extra>" + name + "</extra>",
            "yaxis": "y2",
            "showlegend": False,
        }
        for name, hatch, times in parts
    ]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def _size(size_bytes: int | None) -> str:
    return "?" if size_bytes is None else f"{size_bytes / 1e6:g} MB"
