"""CSV files as columns: what is whole is read, the rest is said in one line each.

A run that was killed leaves files that end in the middle of a row; others' have other columns.
A file is read in blocks, and its cells become numbers a block at a time, not one by one: a day of
samples is tens of millions of cells.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_Bytes = npt.NDArray[np.uint8]
_Cells = npt.NDArray[np.bytes_]
_Bools = npt.NDArray[np.bool_]

_BLOCK_BYTES = 1 << 20
# No number is longer. Rows with a longer cell are taken apart one by one.
_WIDEST_CELL = 256


class ColumnType(Enum):
    """What the cells of a column are."""

    INTEGER = "int64"
    REAL = "float64"
    TEXT = "text"
    WORD = "word"
    """Text of few different values, such as names: held as numbers."""


INTEGER, REAL, TEXT, WORD = ColumnType
_ALLOWED = {INTEGER: b"+-0123456789", REAL: b"+-.0123456789eE"}


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        values: a number or text for each row; of words, their places in ``words``.
        there: for each row whether its cell is not empty and of its type.
        words: the different values of a column of words.
    """

    values: npt.NDArray[Any]
    there: _Bools
    words: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def to_list(self) -> list[Any]:
        """Return the cells as Python objects, None where there is nothing."""
        plain = self.values.tolist()
        if self.words:
            plain = [self.words[code] for code in plain]
        return [cell if there else None for cell, there in zip(plain, self.there, strict=True)]

    def where(self, chosen: npt.NDArray[Any]) -> Column:
        """Return some of the rows, chosen by a mask or by their places."""
        return Column(self.values[chosen], self.there[chosen], self.words)


class Rows:
    """The rows of a file, as columns of equal length."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = dict(columns)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()))) if self._columns else 0

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    @property
    def columns(self) -> list[str]:
        """The names of the columns that the file has."""
        return list(self._columns)

    def where(self, chosen: npt.NDArray[Any]) -> Rows:
        """Return some of the rows, chosen by a mask or by their places."""
        return Rows({name: column.where(chosen) for name, column in self._columns.items()})

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return each row as its cells by name, None where there is nothing."""
        lists = [column.to_list() for column in self._columns.values()]
        return [dict(zip(self._columns, row, strict=True)) for row in zip(*lists, strict=True)]


@dataclass(frozen=True)
class Table:
    """What could be read of one file.

    Attributes:
        rows: the columns asked for that the file has, of all rows that are whole.
        problems: one line for each thing that is wrong, with the file and the row.
    """

    rows: Rows
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

    A row is whole if its required cells are there and of their type; a number is finite. An empty
    cell of the other columns is nothing. A last line without its end was cut short (writers end
    every row): it is left out, because a number that lost digits still looks like one.

    Args:
        path: the file. One that is missing is an empty table with its problem.
        columns: names and types.
        required: columns without which the file is of no use, and their cells the row.
        named: columns without which the file is of no use; their cells may be empty.
        quoted: whether cells may be in quotes; they may too where the header is. Where none is, a
            stray quote swallows no rows.
    """
    nothing = Rows({name: _column(kind, []) for name, kind in columns.items()})
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
    places = {name: header.index(name) for name in columns if name in header}
    reader = _Reader(path, list(places.values()), len(header))
    try:
        blocks = [
            [_parsed(columns[name], cells) for name, cells in zip(places, block, strict=True)]
            for block in (reader.quoted() if quoted or in_quotes else reader.plain())
        ]
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); nothing of it used"
        return Table(nothing, (f"{path}: {reason}",))
    rows = Rows(
        {
            name: _column(columns[name], [block[place] for block in blocks])
            for place, name in enumerate(places)
        }
    )
    return _whole_rows(path, rows, [n for n in required if n in places], reader)


def _header(path: Path) -> tuple[str, str]:
    try:
        with path.open("rb") as file:
            line = file.readline()
    except OSError as error:
        return "", f"cannot be read ({error.strerror}); what it says is missing below"
    if not line.strip():
        return "", "empty; what it says is missing below"
    return line.decode("utf-8-sig", errors="replace").strip(), ""


class _Reader:
    """The cells of some columns of a file, in blocks of rows.

    Attributes:
        cut: whether the last row has no end.
        broken: what ended the reading before the file does, such as a quote without an end.
    """

    def __init__(self, path: Path, places: Sequence[int], width: int) -> None:
        self.cut = False
        self.broken = ""
        self._path = path
        self._places = places
        self._width = width

    def plain(self) -> Iterator[list[_Cells]]:
        """Yield blocks of a file in which a quote is a letter like any other."""
        with self._path.open("rb") as file:
            file.readline()
            rest = b""
            while block := file.read(_BLOCK_BYTES):
                whole, end, rest = (rest + block).rpartition(b"\n")
                if end:
                    yield self._cells(whole + end)
            if rest:
                self.cut = True
                yield self._cells(rest + b"\n")

    def quoted(self) -> Iterator[list[_Cells]]:
        """Yield the rows of a file whose cells may be in quotes; such files are small."""
        with self._path.open("rb") as file:
            if self._path.stat().st_size:
                file.seek(-1, os.SEEK_END)
                self.cut = file.read(1) != b"\n"
        with self._path.open(encoding="utf-8", errors="surrogateescape", newline="") as text:
            lines = csv.reader((line.replace("\0", "\ufffd") for line in text), strict=True)
            rows: list[list[bytes]] = []
            try:
                for row in lines:
                    rows.append([cell.encode("utf-8", "surrogateescape") for cell in row])
            except csv.Error as error:
                self.broken = f"row {len(rows) + 1}: {error}; the rows before it are used"
        yield self._of_lists(rows[1:])

    def _cells(self, block: bytes) -> list[_Cells]:
        """Return the cells of whole lines; those of each row at once if the rows are alike."""
        letters = np.frombuffer(block, np.uint8)
        breaks = letters == ord("\n")
        ends, lines = np.flatnonzero(breaks | (letters == ord(","))), np.flatnonzero(breaks)
        regular = len(ends) == len(lines) * self._width and b"\0" not in block
        if regular and (ends[self._width - 1 :: self._width] == lines).all():
            table = ends.reshape(-1, self._width)
            starts = np.concatenate(([0], ends[:-1] + 1)).reshape(-1, self._width)
            sizes = table - starts
            sizes[:, -1] -= (letters[table[:, -1] - 1] == ord("\r")) & (sizes[:, -1] > 0)
            if sizes[:, self._places].max(initial=0) <= _WIDEST_CELL:
                return [_cut_out(letters, starts[:, n], sizes[:, n]) for n in self._places]
        return self._of_lists([line.rstrip(b"\r").split(b",") for line in block.split(b"\n")[:-1]])

    def _of_lists(self, rows: Iterable[Sequence[bytes]]) -> list[_Cells]:
        # A cell that is not there is empty. Bytes of zero at the end of a cell would be lost.
        kept = list(rows)
        return [
            np.array(
                [row[n].replace(b"\0", b"?") if n < len(row) else b"" for row in kept], np.bytes_
            )
            for n in self._places
        ]


def _cut_out(
    letters: _Bytes, starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> _Cells:
    """Return cells of different sizes as an array, filled up with bytes of zero."""
    widest = max(int(sizes.max(initial=0)), 1)
    places = np.arange(widest)
    # Beyond a short cell there are letters of the next one, until they are wiped.
    found = letters.take(starts[:, None] + places, mode="clip")
    if int(sizes.min(initial=widest)) < widest:
        found[places >= sizes[:, None]] = 0
    return found.view(f"S{widest}").ravel()


def _parsed(kind: ColumnType, cells: _Cells) -> Column:
    """Return the cells of a block as what they should be."""
    there: _Bools = cells != b""
    if kind is TEXT:
        text = np.array([cell.decode(errors="replace") for cell in cells.tolist()], object)
        return Column(text, there)
    if kind is WORD:
        words, codes = np.unique(cells, return_inverse=True)
        return Column(
            codes.astype(np.uint16 if len(words) < 1 << 16 else np.uint32),
            there,
            tuple(word.decode(errors="replace") for word in words.tolist()),
        )
    letters = np.ascontiguousarray(cells).view(np.uint8).reshape(len(cells), cells.itemsize)
    allowed = np.zeros(256, bool)
    allowed[[0, *_ALLOWED[kind]]] = True
    there = there & allowed[letters].all(axis=1)
    numbers = np.where(there, cells, b"0")
    try:
        values = numbers.astype(kind.value)
    except (ValueError, OverflowError):
        values, right = _one_by_one(kind, numbers)
        there &= right
    if kind is REAL:
        there = there & np.isfinite(values)
    return Column(values, there)


def _one_by_one(kind: ColumnType, cells: _Cells) -> tuple[npt.NDArray[Any], _Bools]:
    values, right = np.zeros(len(cells), kind.value), np.ones(len(cells), bool)
    for place, cell in enumerate(cells.tolist()):
        try:
            values[place] = int(cell) if kind is INTEGER else float(cell)
        except (ValueError, OverflowError):
            right[place] = False
    return values, right


def _column(kind: ColumnType, blocks: Sequence[Column]) -> Column:
    """Put the blocks of one column together."""
    there = np.concatenate([np.zeros(0, bool), *(block.there for block in blocks)])
    if kind is not WORD:
        none = np.zeros(0, object if kind is TEXT else kind.value)
        return Column(np.concatenate([none, *(block.values for block in blocks)]), there)
    place: dict[str, int] = {}
    values = [np.zeros(0, np.uint16)]
    for block in blocks:
        new = [place.setdefault(word, len(place)) for word in block.words]
        values.append(np.array(new, np.uint16 if len(place) < 1 << 16 else np.uint32)[block.values])
    return Column(np.concatenate(values), there, tuple(place))


def _whole_rows(path: Path, rows: Rows, required: list[str], reader: _Reader) -> Table:
    problems = [f"{path}: {reader.broken}"] if reader.broken else []
    numbers = np.arange(2, len(rows) + 2)
    cut = reader.cut and bool(len(rows)) and not reader.broken
    if cut:
        before = len(rows) - 1
        problems.append(
            f"{path}: row {before + 2}: cut short; the {before} rows before it are used"
        )
        rows, numbers = rows.where(np.arange(before)), numbers[:-1]
    whole = np.ones(len(rows), bool)
    for name in required:
        whole &= rows[name].there
    bad = numbers[~whole]
    if len(bad):
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        problems.append(
            f"{path}: row {bad[0]}{more}: not {', '.join(required)} as they should be; the other"
            f" {len(rows) - len(bad)} rows are used"
        )
        rows = rows.where(whole)
    elif not len(rows) and not problems:
        problems.append(f"{path}: a header and no rows")
    return Table(rows, tuple(problems))
