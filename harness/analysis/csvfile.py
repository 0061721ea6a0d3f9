"""CSV files as columns: what is whole is read, the rest is said in one line each.

A run that was killed leaves files that end in the middle of a row; others' have other columns.
Nothing here makes a Python object for each row.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

INTEGER = pl.Int64
REAL = pl.Float64
TEXT = pl.String
WORD = pl.Categorical
"""Text of few different values, such as names: held as numbers."""

ColumnType = type[pl.Int64] | type[pl.Float64] | type[pl.String] | type[pl.Categorical]

_ROW = "row_number_in_file"


@dataclass(frozen=True)
class Table:
    """What could be read of one file.

    Attributes:
        rows: the columns asked for that the file has, of all rows that are whole.
        problems: one line for each thing that is wrong, with the file and the row.
    """

    rows: pl.DataFrame
    problems: tuple[str, ...] = ()


def read_csv(
    path: Path,
    columns: Mapping[str, ColumnType],
    required: Collection[str] = (),
    named: Collection[str] = (),
    *,
    quoted: bool = False,
) -> Table:
    """Read some columns of a CSV file; other columns are allowed and never parsed.

    A row is whole if its required cells are there and of their type. An empty cell of the other
    columns is null. A last line without its end was cut short (writers end every row): it is left
    out, because a number that lost digits still looks like one.

    Args:
        path: the file. One that is missing is an empty table with its problem.
        columns: names and types.
        required: columns without which the file is of no use, and their cells the row.
        named: columns without which the file is of no use; their cells may be empty.
        quoted: whether cells may be in quotes; they may too where the header is. Where none is, a
            stray quote swallows no rows.
    """
    nothing = pl.DataFrame(schema=dict(columns))
    line, problem = _header(path)
    in_quotes = '"' in line
    header = [name.strip().strip('"') for name in line.split(",")]
    missing = [name for name in (*required, *named) if name not in header]
    if not problem and missing:
        problem = (
            f"row 1: no column {', '.join(missing)}; not the file its name says, nothing of it used"
        )
    if problem:
        return Table(nothing, (f"{path}: {problem}",))
    found = {name: kind for name, kind in columns.items() if name in header}
    rows = pl.scan_csv(
        path,
        infer_schema=False,
        schema_overrides={n: k for n, k in found.items() if k in (INTEGER, REAL)},
        ignore_errors=True,
        truncate_ragged_lines=True,
        encoding="utf8-lossy",
        quote_char='"' if quoted or in_quotes else None,
        row_index_name=_ROW,
        row_index_offset=2,
    ).select(_ROW, *(pl.col(n).cast(WORD) if k is WORD else n for n, k in found.items()))
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            table = rows.collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        return Table(nothing, (f"{path}: cannot be read as CSV ({reason}); nothing of it used",))
    odd = [f"{path}: quotes that do not end; rows after them are missing"] if warned else []
    return _whole_rows(path, table, [name for name in required if name in found], odd)


def _header(path: Path) -> tuple[str, str]:
    try:
        with path.open("rb") as file:
            line = file.readline()
    except OSError as error:
        return "", f"cannot be read ({error.strerror}); what it says is missing below"
    if not line.strip():
        return "", "empty; what it says is missing below"
    return line.decode("utf-8-sig", errors="replace").strip(), ""


def _whole_rows(path: Path, table: pl.DataFrame, required: list[str], problems: list[str]) -> Table:
    cut = bool(len(table)) and not _ends_its_last_line(path)
    if cut:
        number, before = table[_ROW][-1], len(table) - 1
        problems.append(f"{path}: row {number}: cut short; the {before} rows before it are used")
        table = table[:-1]
    whole = pl.all_horizontal(pl.col(name).is_not_null() for name in required)
    bad = table.filter(~whole)[_ROW] if required else pl.Series(_ROW, [], pl.UInt32)
    if len(bad):
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        problems.append(
            f"{path}: row {bad[0]}{more}: not {', '.join(required)} as they should be; the other"
            f" {len(table) - len(bad)} rows are used"
        )
        table = table.filter(whole)
    elif not len(table) and not cut:
        problems.append(f"{path}: a header and no rows")
    return Table(table.drop(_ROW), tuple(problems))


def _ends_its_last_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
