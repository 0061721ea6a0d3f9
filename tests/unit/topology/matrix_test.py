"""The table as this code has it is the table that is expected."""

from __future__ import annotations

import pytest

from harness.cli import doctor
from harness.connectors import connectors
from harness.core.errors import UsageError
from harness.executors import executors
from harness.plan import Mode
from harness.topology.matrix import NEEDS, REFUSED, RUNS, matrix
from tests.matrix import REGENERATE, expected_cells


def test_the_table_is_the_expected_one() -> None:
    assert list(matrix()) == expected_cells(), f"if the change is meant: {REGENERATE}"


def test_every_plug_in_and_mode_is_in_it_and_every_no_has_a_reason() -> None:
    cells = expected_cells()
    rows = {row for name, executor in executors for row in executor.topology.variants(name)}
    assert {cell.executor for cell in cells} == rows
    assert {cell.connector for cell in cells} == set(connectors.names())
    assert len(cells) == len(rows) * len(connectors.names()) * len(Mode)
    for cell in cells:
        assert cell.outcome in {RUNS, REFUSED, NEEDS}
        assert bool(cell.why) == (cell.outcome != RUNS)
        assert "\n" not in cell.why


def test_what_the_project_promises_runs() -> None:
    runs = {(cell.executor, cell.connector) for cell in expected_cells() if cell.outcome == RUNS}
    assert {("dask", "file"), ("dask", "redis")} <= runs


def test_the_doctor_prints_every_pair_and_each_reason_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert doctor.main(["--matrix"]) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    pairs = {(cell.executor, cell.connector) for cell in expected_cells()}
    assert {tuple(line.split()[:2]) for line in lines[2 : 2 + len(pairs)]} == pairs
    for why in {cell.why for cell in expected_cells() if cell.why}:
        assert sum(line.endswith(f": {why}") for line in lines) == 1


def test_a_matrix_takes_no_plan() -> None:
    with pytest.raises(UsageError, match=r"--matrix.*--repeat"):
        doctor.main(["--matrix", "--repeat", "2"])
