from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.results.memory import PeakRow
from harness.results.rows import OutcomeRow, RowWriter, read_rows


def test_rows_are_on_disk_as_soon_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    with RowWriter(path, OutcomeRow) as writer:
        writer.write(OutcomeRow("0001-none-1", "none", 1, "failed", 'a, "b"\nc'))
        assert read_rows(path, OutcomeRow) == [
            OutcomeRow("0001-none-1", "none", 1, "failed", 'a, "b" c')
        ]
    assert path.read_text().count("\n") == 2


def test_a_file_with_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match=r"outcomes\.csv: has the columns a,b"):
        RowWriter(path, OutcomeRow)
    assert path.read_text() == "a,b\n1,2\n"


def test_an_empty_cell_is_not_zero(tmp_path: Path) -> None:
    path = tmp_path / "peaks.csv"
    row = PeakRow("r", "container", "worker-1", None, "sampled", 5, None, 20_000_000, 0)
    with RowWriter(path, PeakRow) as writer:
        writer.write(row)
    assert read_rows(path, PeakRow) == [row]


def test_a_broken_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    with RowWriter(path, OutcomeRow) as writer:
        writer.write(OutcomeRow("0001-none-1", "none", 1, "ok", ""))
    with path.open("a") as file:
        file.write("0002-none-2,no")
    with pytest.raises(UsageError, match=r"outcomes\.csv: row 3: cut short"):
        read_rows(path, OutcomeRow)
