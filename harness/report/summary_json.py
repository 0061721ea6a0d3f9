"""summary.json: all figures of a report for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.analysis.compare import METRICS, Row
from harness.analysis.groups import Group
from harness.analysis.metrics import RunFigures
from harness.analysis.session import Session
from harness.analysis.statistics import spread
from harness.analysis.verdicts import Comparison

SCHEMA_VERSION = 1


def write_summary(
    path: Path,
    sessions: Sequence[Session],
    groups: Sequence[Group],
    comparisons: Sequence[tuple[str, Row]],
) -> None:
    """Write summary.json, whole or not at all."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "sessions": [_session(session) for session in sessions],
        "modes": [_group(group) for group in groups],
        "comparisons": [{"mode": label} | comparison_json(row) for label, row in comparisons],
    }
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
    draft.replace(path)


def _session(session: Session) -> dict[str, Any]:
    return {
        "directory": session.name,
        "source": session.source,
        "view": session.memory.view if session.memory else None,
        "workload": asdict(session.workload)
        | {
            "payload_bytes": session.workload.payload_bytes,
            "ideal_s": session.workload.ideal_s,
        }
        if session.workload
        else None,
        "runs": len(session.runs),
        "problems": list(session.problems),
    }


def _group(group: Group) -> dict[str, Any]:
    workload = group.session.workload
    metrics: dict[str, Any] = {}
    for metric in METRICS:
        values = [metric.value(figures, workload) for figures in group.figures]
        known = [value for value in values if value is not None]
        if known:
            found = spread(known)
            metrics[metric.name] = {
                "unit": metric.unit.value,
                "median": found.median,
                "low": found.low,
                "high": found.high,
                "least": min(known),
                "most": max(known),
            }
    return {
        "mode": group.label,
        "directory": group.session.name,
        "metrics": metrics,
        "runs": [_run(figures) for figures in group.figures],
    }


def _run(figures: RunFigures) -> dict[str, Any]:
    return {
        "run_id": figures.run.run_id,
        "outcome": figures.run.outcome,
        "makespan_s": figures.run.makespan_s,
        "memory": {name: asdict(scope) for name, scope in figures.scopes.items()},
    }


def comparison_json(row: Row) -> dict[str, Any]:
    """Return one comparison as plain data."""
    found = row.comparison
    return {
        "mode_a": row.mode_a,
        "mode_b": row.mode_b,
        "metric": row.metric.name,
        "unit": row.metric.unit.value,
        "verdict": found.verdict.value if found else "not enough data",
        **(_figures(found) if found else {}),
    }


def _figures(found: Comparison) -> dict[str, Any]:
    return {
        "a": asdict(found.a),
        "b": asdict(found.b),
        "difference": found.difference,
        "change": found.change,
        "low": found.low,
        "high": found.high,
        "test": asdict(found.test),
        "paired": found.paired,
        "detectable": found.detectable,
        "matters": found.matters,
    }
