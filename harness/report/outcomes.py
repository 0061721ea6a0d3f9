"""How the runs ended that did not end well, for people."""

from __future__ import annotations

from harness.core.text import one_line
from harness.results.directory import RunDirectory
from harness.results.outcomes import Outcome
from harness.results.rows import OutcomeRow, read_rows

_SHOWN = 10


def outcome_lines(directory: RunDirectory) -> list[str]:
    """Return one line for each of the first runs that are not ok, and where the rest is."""
    if not directory.outcomes.exists():
        return []
    bad = [r for r in read_rows(directory.outcomes, OutcomeRow) if r.outcome != Outcome.OK]
    lines = [
        one_line(f"{row.run_id}: {row.outcome}{f' ({row.service})' if row.service else ''}:")
        + f" {one_line(row.reason)}"
        for row in bad[:_SHOWN]
    ]
    if len(bad) > _SHOWN:
        lines.append(f"and {len(bad) - _SHOWN} more: {directory.outcomes.name}")
    return lines
