"""All that a report is, into one directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.compare import Row, compare_groups
from harness.analysis.groups import Group, reference
from harness.analysis.session import Session
from harness.analysis.verdicts import Rules
from harness.core.errors import UsageError
from harness.report.comparisons import COMPARISON_NOTE, comparisons, runs_needed
from harness.report.contents import Table
from harness.report.figures import write_figures
from harness.report.page import write_page
from harness.report.palette import mode_looks
from harness.report.summary_json import write_summary

PAGE = "report.html"
SUMMARY = "summary.json"
FIGURES = "figures"


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
    """Write page, figures and summary.json.

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
    first = reference(groups)
    if rows and first is not None:
        notes = (
            f"A: {first.label}. B: the row's mode. {COMPARISON_NOTE}",
            runs_needed([row for _, row in rows], rules.alpha),
        )
        table = comparisons(f"Comparisons with {first.label}", rows, " ".join(filter(None, notes)))
    page = directory / PAGE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_page(page, sessions, groups, table, looks)
        write_summary(directory / SUMMARY, sessions, groups, rows)
        write_figures(directory / FIGURES, groups, looks)
    except OSError as error:
        raise UsageError(
            f"{error.filename or directory}: cannot be written ({error.strerror}); name another"
            " directory with --output"
        ) from None
    return Written(page, table)


def _against_reference(groups: Sequence[Group], rules: Rules) -> list[tuple[str, Row]]:
    first = reference(groups)
    if first is None:
        return []
    return [
        (group.label, row)
        for group in groups
        if group is not first
        for row in compare_groups(first, group, rules)
    ]
