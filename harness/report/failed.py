"""Runs that did not go through, drawn to their end: what was in use, what was allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.analysis.curves import thin
from harness.analysis.failures import Failure, is_limited
from harness.analysis.series import service_of
from harness.core.sizes import format_size
from harness.report.charts import BYTES, SECONDS_TITLE, Chart, floats
from harness.report.palette import INK, service_look

MOST = 6
"""So many are drawn; the table of outcomes has all."""
_POINTS = 1200
_DASHES = ("solid", "dash", "dot", "dashdot")


def failure_chart(failure: Failure) -> Chart | None:
    """Return each container's memory until the run's end, and the limit; None without samples."""
    if not failure.memory or failure.end_s is None:
        return None
    traces: list[dict[str, Any]] = []
    for name, (t_s, levels) in sorted(failure.memory.items()):
        style, number = service_look(service_of(name)), name.rpartition("-")[2]
        kept = thin(levels, _POINTS)
        fault = name == failure.service
        dash = _DASHES[(int(number) - 1) % len(_DASHES)] if number.isdigit() else "solid"
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"<b>{name}</b>" if fault else name,
                "x": floats(t_s[kept]),
                "y": floats(levels[kept]),
                "line": {
                    "color": style.color,
                    "width": 3.5 if fault else 1.5,
                    "dash": "solid" if fault else dash,
                },
                "hovertemplate": "%{y:.4s}B" + f"<extra>{name}</extra>",
            }
        )
    first = min(float(t_s[0]) for t_s, _ in failure.memory.values())
    shapes = [_vertical(failure.end_s)]
    limited = [name for name in failure.memory if is_limited(name)]
    if failure.limit_bytes and limited:
        size = format_size(failure.limit_bytes)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"limit of each worker, {size}",
                "x": [first, failure.end_s],
                "y": [failure.limit_bytes] * 2,
                "line": {"color": INK, "dash": "dot", "width": 2},
                "hovertemplate": f"{size}<extra>limit of each worker</extra>",
            }
        )
    layout = {
        "xaxis": {"title": {"text": SECONDS_TITLE}},
        "yaxis": {"title": {"text": "memory in use"}, **BYTES},
        "hovermode": "x unified",
        "shapes": shapes,
        "annotations": [
            {
                "x": failure.end_s,
                "y": 1,
                "yref": "paper",
                "yanchor": "top",
                "xanchor": "right",
                "showarrow": False,
                "text": f"{_ended(failure)} ",
            }
        ],
    }
    return {"data": traces, "layout": layout}


_WORDS = {"memory": "out of memory", "timeout": "out of time"}


def _ended(failure: Failure) -> str:
    outcome = failure.figures.run.outcome
    return _WORDS.get(outcome, outcome)


def _vertical(t_s: float) -> dict[str, Any]:
    line = {"color": "#808080", "width": 2}
    return {"type": "line", "x0": t_s, "x1": t_s, "y0": 0, "y1": 1, "yref": "paper", "line": line}


def said(failure: Failure) -> str:
    """Return in one sentence how a run ended, when, and against which limit."""
    run = failure.figures.run
    found = f"{run.run_id} ended: {_ended(failure)}"
    if failure.end_s is not None:
        found += f" after {failure.end_s:.3g} s"
    found += f". The reason: {run.reason}." if run.reason else "."
    if failure.limit_bytes and is_limited(failure.service):
        levels = failure.memory.get(failure.service)
        if levels is not None:
            found += (
                f" It used {format_size(float(levels[1].max()))} of the"
                f" {format_size(failure.limit_bytes)} that it may use."
            )
    return found


def left_out(found: Sequence[Failure]) -> str:
    """Return a line about those that are not drawn; empty if all are."""
    more = len(found) - MOST
    return f"{more} more are in the table of outcomes." if more > 0 else ""
