from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.csvfile import INTEGER, REAL, WORD, ColumnType, Table, read_csv
from harness.results.rows import column, read_table

COLUMNS: dict[str, ColumnType] = {"name": WORD, "t": INTEGER, "size": INTEGER, "share": REAL}
REQUIRED = ("name", "t")
WHOLE = "name,t,size,share\na,1,10,0.5\nb,2,,\n"


def file(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "rows.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _rows(table: Table) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in table.rows.to_dicts()]


def test_whole_rows_are_read_and_empty_cells_are_null(tmp_path: Path) -> None:
    table = read_csv(file(tmp_path, WHOLE), COLUMNS, REQUIRED)
    assert table.problems == ()
    assert _rows(table) == [("a", 1, 10, 0.5), ("b", 2, None, None)]


@pytest.mark.parametrize("content", [WHOLE.replace("\n", "\r\n"), "\ufeff" + WHOLE])
def test_line_ends_and_marks_of_other_systems_do_not_matter(tmp_path: Path, content: str) -> None:
    table = read_csv(file(tmp_path, content), COLUMNS, REQUIRED)
    assert (table.problems, len(table.rows)) == ((), 2)
    assert table.rows["name"].to_list() == ["a", "b"]


def test_other_columns_are_allowed_in_any_order(tmp_path: Path) -> None:
    table = read_csv(file(tmp_path, "more,t,name\nx,1,a\n"), COLUMNS, REQUIRED)
    assert table.problems == ()
    assert table.rows.to_dicts() == [{"name": "a", "t": 1}]


@pytest.mark.parametrize("cut", ["c,3,30", "c,3", "c,", "c", "c,3,30,0."])
def test_a_row_cut_short_is_left_out_even_if_it_looks_whole(tmp_path: Path, cut: str) -> None:
    table = read_csv(file(tmp_path, WHOLE + cut), COLUMNS, REQUIRED)
    assert table.rows["name"].to_list() == ["a", "b"]
    (line,) = table.problems
    assert line.endswith("rows.csv: row 4: cut short; the 2 rows before it are used")


def test_a_bad_row_is_named_and_the_others_are_used(tmp_path: Path) -> None:
    content = "name,t,size,share\na,1,1,1\nb,oops,1,1\nc,3,1,1\nd,,1,1\n"
    table = read_csv(file(tmp_path, content), COLUMNS, REQUIRED)
    assert table.rows["name"].to_list() == ["a", "c"]
    (line,) = table.problems
    assert "row 3 (and 1 more): a cell is missing" in line
    assert line.endswith("the other 2 rows are used")


def test_a_foreign_file_says_what_it_lacks(tmp_path: Path) -> None:
    table = read_csv(file(tmp_path, "x,y\n1,2\n"), COLUMNS, REQUIRED)
    assert len(table.rows) == 0
    (line,) = table.problems
    assert "row 1: no column name, t" in line


@pytest.mark.parametrize("content", [b"", b"\n", bytes(range(128, 256)) * 10, b"\0" * 100])
def test_what_is_no_csv_is_one_line(tmp_path: Path, content: bytes) -> None:
    table = read_csv(file(tmp_path, content), COLUMNS, REQUIRED)
    assert len(table.rows) == 0
    (line,) = table.problems
    assert "\n" not in line
    assert "rows.csv" in line


def test_zeros_that_a_crash_of_the_machine_left_are_no_row(tmp_path: Path) -> None:
    table = read_csv(file(tmp_path, WHOLE.encode() + b"\0" * 64), COLUMNS, REQUIRED)
    assert table.rows["name"].to_list() == ["a", "b"]
    assert len(table.problems) == 1


def test_a_file_with_everything_in_quotes_is_read(tmp_path: Path) -> None:
    table = read_csv(file(tmp_path, '"name","t"\n"a","1"\n'), COLUMNS, REQUIRED)
    assert _rows(table) == [("a", 1)]


def test_a_stray_quote_swallows_no_rows(tmp_path: Path) -> None:
    content = 'name,t\na,1\n"b,2\nc,3\n'
    table = read_csv(file(tmp_path, content), COLUMNS, REQUIRED)
    assert table.rows["name"].to_list() == ["a", '"b', "c"]


def test_quoted_text_may_have_commas(tmp_path: Path) -> None:
    table = read_csv(file(tmp_path, 'name,t\n"a, b",1\n'), COLUMNS, REQUIRED)
    assert table.rows["name"].to_list() == ["a, b"]


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    table = read_csv(tmp_path / "none.csv", COLUMNS, REQUIRED)
    assert len(table.rows) == 0
    assert table.problems == (
        f"{tmp_path}/none.csv: cannot be read (No such file or directory); what it says is missing"
        " below",
    )


def test_a_header_alone_is_said(tmp_path: Path) -> None:
    table = read_csv(file(tmp_path, "name,t\n"), COLUMNS, REQUIRED)
    assert table.problems == (f"{tmp_path}/rows.csv: a header and no rows",)


def test_words_are_held_as_numbers(tmp_path: Path) -> None:
    table = read_csv(file(tmp_path, WHOLE), COLUMNS | {"name": WORD}, REQUIRED)
    assert table.rows["name"].to_list() == ["a", "b"]
    assert table.rows["name"].values.tolist() == [0, 1]


@dataclass(frozen=True)
class Sample:
    """A schema that both readers can read."""

    name: str = column("who", filled=True)
    t: float = column("when")
    size_bytes: int = column("how much")


NUMBERS = ("1", "7.0", "-1", "2.5", "nan", "1e999", "9" * 25, str(2**60), "1e3", "+3", "1_0", "٣")
WORDS = ("a", "b ", "", "name", "t", "size_bytes", '"', '"a,1"', "\0", "\x1b[m", "é", ".", "1-2")
PARTS = st.sampled_from([*NUMBERS, *WORDS])
LINES = st.lists(PARTS, max_size=5).map(",".join)


@settings(deadline=None, max_examples=300)
@given(
    lines=st.lists(LINES | st.just("a,1.5,10") | st.just("name,t,size_bytes"), max_size=8),
    header=st.permutations(["name", "t", "size_bytes", "more"]),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
)
def test_samples_are_read_by_the_rules_of_all_other_files(
    lines: list[str], header: list[str], end: str, last: bool
) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "rows.csv"
        text = end.join([",".join(header), *lines]) + (end if last else "")
        path.write_bytes(text.encode())
        names = ("name", "t", "size_bytes")
        columns = dict(zip(names, (WORD, REAL, INTEGER), strict=True))
        fast, slow = read_csv(path, columns, names), read_table(path, Sample)
        assert fast.rows.to_dicts() == [vars(row) for row in slow.rows]
        told = [line for line in fast.problems if "a header and no rows" not in line]
        assert tuple(told) == slow.problems
