"""The expected table of executor x connector x mode, as the tests read it."""

from __future__ import annotations

import csv
from pathlib import Path

from harness.topology.matrix import RUNS, Cell

EXPECTED = Path(__file__).parent / "expected-matrix.csv"
REGENERATE = "python -m harness doctor --matrix --csv > tests/expected-matrix.csv"


def expected_cells() -> list[Cell]:
    """Return every cell of the expected table."""
    with EXPECTED.open(newline="") as file:
        return [Cell(**row) for row in csv.DictReader(file)]


def pairs_that_run() -> dict[tuple[str, str], list[str]]:
    """Return (executor, connector) -> the modes that run, for pairs that have any."""
    found: dict[tuple[str, str], list[str]] = {}
    for cell in expected_cells():
        if cell.outcome == RUNS:
            found.setdefault((cell.executor, cell.connector), []).append(cell.mode)
    return found
