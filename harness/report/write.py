"""All that a report is, into one directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.analysis.compare import METRICS, Measured, Question, Row, compare_groups
from harness.analysis.figures import Group, RunFigures, ScopeFigures, reference
from harness.analysis.grades import findings, worst
from harness.analysis.identity import other_work, packages
from harness.analysis.session import Session, WorkloadFacts
from harness.analysis.statistics import spread
from harness.analysis.verdicts import Rules
from harness.core.errors import UsageError
from harness.report.comparison import (
    NOTE,
    comparison_json,
    comparisons,
    left_out,
    open_questions,
    package_words,
    packages_json,
    step_lines,
    worth_showing,
)
from harness.report.export import write_tables
from harness.report.page import write_page
from harness.report.palette import mode_looks
from harness.report.plots import figures_aside
from harness.report.tables import Table, tables
from harness.results.directory import RunDirectory
from harness.results.documents import write_json

FIGURES = "figures"
TABLES = "tables"
SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Written:
    """What was written: the page, and the comparisons of modes in it."""

    page: Path
    comparisons: Table | None


def write_report(
    directory: Path,
    sessions: Sequence[Session],
    groups: Sequence[Group],
    rules: Rules | None = None,
) -> Written:
    """Write page, figures, tables and summary.json.

    Args:
        directory: where to; made if it is not there.
        sessions: what is reported.
        groups: their runs by mode.
        rules: when a difference between modes counts.

    Raises:
        UsageError: if it cannot be written there.
    """
    looks = mode_looks([(group.label, group.mode) for group in groups])
    rules = rules or Rules()
    rows = _against_reference(groups, rules)
    table = None
    if rows:
        shown = worth_showing(rows)
        different = package_words(packages(sessions), [session.name for session in sessions])
        decide = [each for each in rows if each[1].primary]
        notes = (
            NOTE,
            *(f"{line}." for line in (*open_questions(decide), *step_lines(decide))),
            left_out(rows),
            f"Different: {different}." if different else "",
        )
        first = reference(groups)
        title = f"Comparisons with {first.label}" if first else "Comparisons"
        table = comparisons(title, shown, " ".join(filter(None, notes)))
    names = RunDirectory(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with figures_aside(directory / FIGURES, groups, looks):
            write_page(names.page, sessions, groups, table, looks)
            write_summary(names.summary, sessions, groups, rows)
            write_tables(directory / TABLES, [*tables(groups), *([table] if table else [])])
    except OSError as error:
        raise UsageError(
            f"{error.filename or directory}: cannot be written ({error.strerror}); name another"
            " directory with --output"
        ) from None
    return Written(names.page, table)


def _against_reference(groups: Sequence[Group], rules: Rules) -> list[tuple[str, Row]]:
    """Return each mode beside the first that did the same work; other work stands side by side."""
    pairs = []
    for group in groups:
        same = [other for other in groups if _did_same_work(other, group)]
        first = reference(same)
        if first is not None and group is not first and group.figures:
            pairs.append((first, group))
    found, first = compare_groups(pairs, Question(rules)), reference(groups)
    return [
        (b.label if a is first else f"{b.label} beside {a.label}", row)
        for (a, b), rows in zip(pairs, found, strict=True)
        for row in rows
    ]


def _did_same_work(a: Group, b: Group) -> bool:
    return a.session is b.session or not other_work(a.session, b.session)


def write_summary(
    path: Path,
    sessions: Sequence[Session],
    groups: Sequence[Group],
    comparisons: Sequence[tuple[str, Row]],
) -> None:
    """Write all figures for programs, whole or not at all."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "sessions": [_session(session) for session in sessions],
        "packages": packages_json(packages(sessions)),
        "modes": [_group(group) for group in groups],
        "comparisons": [
            {"mode": row.mode_b, "label": label} | comparison_json(row)
            for label, row in comparisons
        ],
    }
    write_json(path, document)


def _workload(facts: WorkloadFacts) -> dict[str, Any]:
    found = asdict(facts)
    if not facts.total_bytes:  # only a graph has these
        del found["total_bytes"]
    return found | {"payload_bytes": facts.payload_bytes, "ideal_s": facts.ideal_s}


def _session(session: Session) -> dict[str, Any]:
    return {
        "directory": session.name,
        "source": session.source,
        "view": session.memory.view if session.memory else None,
        "workload": _workload(session.workload) if session.workload else None,
        "runs": len(session.runs),
        "problems": list(session.problems),
        "grade": worst(findings(session)).value,
        "warnings": [found.as_dict() for found in findings(session)],
    }


def _group(group: Group) -> dict[str, Any]:
    workload = group.session.workload
    metrics: dict[str, Any] = {}
    for metric in METRICS:
        values = [metric.value(Measured(f, f.topology, workload)) for f in group.figures]
        known = [value for value in values if value is not None]
        if known:
            found = spread(known)
            metrics[metric.name] = {
                "unit": metric.unit.value,
                "median": found.median,
                "low": found.low,
                "high": found.high,
                "confidence": found.confidence,
                "least": min(known),
                "most": max(known),
            }
    return {
        "mode": group.label,
        "directory": group.session.name,
        "metrics": metrics,
        "runs": [_run(figures) for figures in group.runs],
    }


def _run(figures: RunFigures) -> dict[str, Any]:
    return {
        "run_id": figures.run.run_id,
        "outcome": figures.run.outcome,
        "reason": figures.run.reason,
        "makespan_s": figures.run.makespan_s,
        "coverage": figures.coverage,
        "memory_absent": figures.absent,
        "memory": {name: _scope(scope) for name, scope in figures.scopes.items()},
    }


def _scope(figures: ScopeFigures) -> dict[str, Any]:
    return asdict(figures) | {
        "net_peak_bytes": figures.net_peak_bytes,
        "net_mean_bytes": figures.net_mean_bytes,
        "net_after_bytes": figures.net_after_bytes,
        "leftover_bytes": figures.leftover_bytes,
    }
