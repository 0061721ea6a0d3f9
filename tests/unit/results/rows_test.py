from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.results.rows import (
    OutcomeRow,
    RowWriter,
    columns,
    parse_integer,
    parse_row,
    read_rows,
    read_table,
)
from harness.results.schema import MarkRow, PeakRow


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


HEADER = columns(OutcomeRow)


@pytest.mark.parametrize(
    ("cells", "row"),
    [
        (["r", "m", "1", "ok", "", ""], OutcomeRow("r", "m", 1, "ok", "")),
        (["r", "m", "1.0", "ok", ""], OutcomeRow("r", "m", 1, "ok", "")),
        (["r", "m", "1", "ok", "a\x1bb", "s", "", ""], OutcomeRow("r", "m", 1, "ok", "a b", "s")),
        (["r", "m", "1", "ok"], None),
        (["r", "m", "1", "ok", "", "", "x"], None),
        (["", "m", "1", "ok", "", ""], None),
        (["r", "m", "1", "", "", ""], None),
        *[
            (["r", "m", number, "ok", "", ""], None)
            for number in ("", "-1", "1.5", "nan", "inf", "1_0", "٣", "1e999", "9" * 19, "x")
        ],
    ],
)
def test_one_line_is_a_row_or_none(cells: list[str], row: OutcomeRow | None) -> None:
    assert parse_row(OutcomeRow, HEADER, cells) == row


def test_columns_are_found_by_name() -> None:
    header = ["more", *reversed(HEADER)]
    cells = ["x", "", "why", "failed", "2", "m", "r"]
    assert parse_row(OutcomeRow, header, cells) == OutcomeRow("r", "m", 2, "failed", "why")


@pytest.mark.parametrize(
    ("text", "value"),
    [("540332150784.0", 540332150784), ("1e3", 1000), ("1700000000000000000.0", 17 * 10**17)],
)
def test_a_whole_number_is_one_however_it_is_written(text: str, value: int) -> None:
    assert parse_integer(text) == value


@pytest.mark.parametrize("text", ["0.5", "1e30", "nan", "", "1 0", "--1", "0x10"])
def test_what_is_no_whole_number_is_none(text: str) -> None:
    assert parse_integer(text) is None


def test_a_table_keeps_what_is_whole_and_says_the_rest_once(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    rows = ["a,m,1,ok,,", "b,m,x,ok,,", "", "c,m,2,ok,,", "d", ",".join(HEADER), "e,m,3,ok,,"]
    path.write_text("\ufeff" + "\r\n".join([",".join(HEADER), *rows]) + "\r\n", newline="")
    table = read_table(path, OutcomeRow)
    assert [row.run_id for row in table.rows] == ["a", "c", "e"]
    assert table.numbers == (2, 5, 8)
    (line,) = table.problems
    assert "outcomes.csv: row 3 (and 1 more): " in line
    assert line.endswith("left out, the other 3 rows are used")


def test_a_number_at_the_end_of_a_file_without_its_end_may_have_lost_digits(tmp_path: Path) -> None:
    path = tmp_path / "marks.csv"
    path.write_text("run_id,mark,t_mono_ns,t_unix_ns\nr,run_start,1,1700\nr,run_end,2,17")
    table = read_table(path, MarkRow)
    assert [row.mark for row in table.rows] == ["run_start"]
    assert table.problems == (f"{path}: row 3: cut short; the 1 rows before it are used",)


def test_a_line_without_end_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    with path.open("wb") as file:
        file.write((",".join(HEADER) + "\na,m,1,ok,,\n").encode())
        file.truncate(3 << 20)
    table = read_table(path, OutcomeRow)
    assert len(table.rows) == 1
    assert len(table.problems) == 1
