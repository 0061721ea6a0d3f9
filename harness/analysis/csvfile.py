"""The samples' files as columns: read as :mod:`harness.results.rows` reads, for millions of rows.

A file is read in blocks, and its cells become numbers a block at a time, not one by one: a day of
samples is tens of millions of cells. Where the lines of a block are not alike, they are taken apart
one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.core.text import one_line
from harness.results.rows import (
    foreign,
    left_out,
    missing_columns,
    most_of,
    open_regular,
    parse_header,
    parse_integer,
    parse_real,
    plausible,
    split_line,
    unreadable,
)

_Bytes = npt.NDArray[np.uint8]
_Cells = npt.NDArray[np.bytes_]
_Bools = npt.NDArray[np.bool_]

_BLOCK_BYTES = 1 << 20
# No number is longer. Rows with a longer cell are taken apart one by one.
_WIDEST_CELL = 256
# A row is shorter. What is longer has no line ends, and is no file of rows.
_LONGEST_ROW = 1 << 20
# What makes lines of one width something else than cells between commas.
_UNEVEN = (b'"', b" ", b"\t", b"\0")


class ColumnType(Enum):
    """What the cells of a column are."""

    INTEGER = "int64"
    REAL = "float64"
    WORD = "word"
    """Text of few different values, such as names: held as numbers."""


INTEGER, REAL, WORD = ColumnType


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
    path: Path, columns: Mapping[str, ColumnType], required: Collection[str] = ()
) -> Table:
    """Read some columns of a CSV file; other columns are allowed and never parsed.

    A row is whole if it has as many cells as the header, and its required cells are of their type
    and plausible. An empty cell of the other columns is nothing, and so is one that is not of its
    type. A last line without its end is left out if its last number may have lost digits.

    Args:
        path: the file. One that is missing is an empty table with its problem.
        columns: names and types.
        required: columns without which the file is of no use, and their cells the row.
    """
    nothing = Rows({name: _column(kind, []) for name, kind in columns.items()})
    reader = _Reader(path, list(columns), required)
    blocks: dict[str, list[Column]] = {name: [] for name in columns}
    wholes: list[_Bools] = []
    try:
        for cells, wide in reader.blocks():
            parsed = {n: _parsed(columns[n], n, c) for n, c in zip(columns, cells, strict=True)}
            for name, column in parsed.items():
                blocks[name].append(column)
            wholes.append(np.logical_and.reduce([wide, *(parsed[n].there for n in required)]))
    except OSError as error:
        return Table(nothing, (unreadable(path, error),))
    if reader.problem:
        return Table(nothing, (reader.problem,))
    there = [name for name in columns if name in reader.found]
    # One column after the other, so that never all of them are there twice.
    rows = Rows({name: _column(columns[name], blocks.pop(name)) for name in there})
    whole = np.concatenate([np.zeros(0, bool), *wholes])
    cut = reader.cut_number and bool(len(whole)) and bool(whole[-1])
    if cut:
        whole[-1] = False
    numbers = np.concatenate(reader.numbers)
    bad = numbers[~whole].tolist()
    last = not reader.ended and bool(bad) and bad[-1] == numbers[-1]
    problems = left_out(path, bad, int(whole.sum()), cut=last)
    if not len(whole):
        problems = (f"{path}: a header and no rows",)
    return Table(rows.where(whole) if bad else rows, problems)


class _Reader:
    """The cells of some columns of a file, in blocks of rows.

    Attributes:
        problem: why the file is of no use; empty if it is.
        found: the columns that it has.
        numbers: of the lines that were read, in the file, from 1.
        ended: whether the last line has its end.
        cut_number: whether it has none, and its last cell is a number that was asked for.
    """

    def __init__(self, path: Path, names: Sequence[str], required: Collection[str]) -> None:
        self.problem = ""
        self.found: set[str] = set()
        self.numbers: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
        self.ended = True
        self.cut_number = False
        self._path = path
        self._names = names
        self._required = required
        self._header: list[str] = []
        self._next = 2

    def blocks(self) -> Iterator[tuple[list[_Cells], _Bools]]:
        """Yield the cells of each column asked for, and which rows are as wide as the header."""
        with open_regular(self._path) as file:
            line = file.readline(_LONGEST_ROW).decode("utf-8", "replace").rstrip("\r\n")
            self._header = parse_header(line)
            if not line.strip() or (lacks := missing_columns(self._header, self._required)):
                self.problem = foreign(self._path, line, lacks if line.strip() else ())
                return
            self.found.update(self._header)
            rest = b""
            while block := file.read(_BLOCK_BYTES):
                whole, end, rest = (rest + block).rpartition(b"\n")
                if end:
                    yield self._cells(whole + end)
                if len(rest) > _LONGEST_ROW:
                    rest = b"?"  # no row; what follows in this line is none either
            cells, wide = self._cells(rest + b"\n")
            if len(wide):
                self.ended = False
                self.cut_number = self._header[-1] in self._names
                yield cells, wide

    def _cells(self, block: bytes) -> tuple[list[_Cells], _Bools]:
        """Return the cells of whole lines; those of each row at once if the rows are alike."""
        width = len(self._header)
        padded = np.frombuffer(block + bytes(_WIDEST_CELL), np.uint8)
        letters = padded[: len(block)]
        breaks = letters == ord("\n")
        ends, lines = np.flatnonzero(breaks | (letters == ord(","))), np.flatnonzero(breaks)
        # A header that comes again may have other columns: lines are looked at one by one.
        uneven = any(sign in block for sign in (*_UNEVEN, self._header[0].encode()))
        regular = not uneven and len(ends) == len(lines) * width
        if regular and (ends[width - 1 :: width] == lines).all():
            table = ends.reshape(-1, width)
            starts = np.concatenate(([0], ends[:-1] + 1)).reshape(-1, width)
            sizes = table - starts
            sizes[:, -1] -= (letters[table[:, -1] - 1] == ord("\r")) & (sizes[:, -1] > 0)
            if sizes.max(initial=0) <= _WIDEST_CELL and not (width == 1 and not sizes.all()):
                self.numbers.append(np.arange(self._next, self._next + len(table)))
                self._next += len(table)
                places = [self._place(name) for name in self._names]
                empty: _Cells = np.zeros(len(table), "S1")
                cells = [
                    empty if n is None else _cut_out(padded, starts[:, n], sizes[:, n])
                    for n in places
                ]
                return cells, np.ones(len(table), bool)
        return self._of_lines(block)

    def _place(self, name: str) -> int | None:
        return self._header.index(name) if name in self._header else None

    def _of_lines(self, block: bytes) -> tuple[list[_Cells], _Bools]:
        found: list[list[bytes]] = [[] for _ in self._names]
        wide: list[bool] = []
        numbers: list[int] = []
        for line in block.split(b"\n")[:-1]:
            self._next += 1
            if not line.strip():
                continue
            cells = split_line(line.decode("utf-8", "replace").rstrip("\r"))
            if cells[0] in self._header and not missing_columns(cells, self._required):
                self._header = cells
                self.found.update(cells)
                continue
            numbers.append(self._next - 1)
            width = len(self._header)
            wide.append(len(cells) >= width and not any(cells[width:]))
            for name, column in zip(self._names, found, strict=True):
                place = self._place(name)
                cell = cells[place] if place is not None and place < len(cells) else ""
                # Bytes of zero at the end of a cell would be lost.
                column.append(cell[:_WIDEST_CELL].replace("\0", "?").encode())
        self.numbers.append(np.array(numbers, np.int64))
        return [np.array(column, np.bytes_) for column in found], np.array(wide, bool)


def _cut_out(
    letters: _Bytes, starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> _Cells:
    """Return cells of different sizes as an array, filled up with bytes of zero.

    Args:
        letters: of the block, and as many more as the widest cell may have.
        starts: place of each cell's first letter.
        sizes: number of its letters.
    """
    widest = max(int(sizes.max(initial=0)), 1)
    found = np.lib.stride_tricks.sliding_window_view(letters, widest)[starts]
    # Beyond a short cell there are letters of the next one, until they are wiped.
    if int(sizes.min(initial=widest)) < widest:
        found *= np.arange(widest) < sizes[:, None]
    return found.view(f"S{widest}").ravel()


def _parsed(kind: ColumnType, name: str, cells: _Cells) -> Column:
    """Return the cells of a block as what they should be."""
    there: _Bools = cells != b""
    if kind is WORD:
        words, codes = _unique(cells)
        return Column(
            codes.astype(np.uint16 if len(words) < 1 << 16 else np.uint32),
            there,
            tuple(one_line(word.decode(errors="replace")).strip() for word in words.tolist()),
        )
    values, plain = _integers(cells) if kind is INTEGER else _reals(cells)
    for place in np.flatnonzero(there & ~plain).tolist():
        text = cells[place].decode(errors="replace")
        value = parse_integer(text) if kind is INTEGER else parse_real(text)
        there[place] = value is not None and plausible(name, value)
        values[place] = 0 if value is None or not there[place] else value
    # As `plausible` has it, of all at once; a value that is not finite is none of these.
    there &= (values >= 0) & (values < most_of(name, integer=kind is INTEGER))
    return Column(values, there)


def _letters(cells: _Cells) -> _Bytes:
    """Return the letters of each cell, a row for each cell."""
    return np.ascontiguousarray(cells).view(np.uint8).reshape(len(cells), cells.itemsize)


def _integers(cells: _Cells) -> tuple[npt.NDArray[np.int64], _Bools]:
    """Return the values of cells that are digits and nothing else, and which these are."""
    columns = np.ascontiguousarray(_letters(cells).T)
    # Any number of 18 digits fits into 64 bits.
    fitting = columns[:18]
    digits, empty = fitting - ord("0"), fitting == 0
    plain: _Bools = ((digits <= 9) | empty).all(axis=0) & ~columns[18:].any(axis=0)
    digits[empty] = 0
    values = np.zeros(len(cells), np.int64)
    for digit in digits:
        values *= 10
        values += digit
    missing = empty.sum(axis=0)
    if missing.any():
        values //= 10**missing
    return values, plain


def _reals(cells: _Cells) -> tuple[npt.NDArray[np.float64], _Bools]:
    """Return the values of cells that are written plainly, and which these are."""
    allowed = np.zeros(256, bool)
    allowed[[0, *b"+-.0123456789eE"]] = True
    plain: _Bools = (cells != b"") & allowed[_letters(cells)].all(axis=1)
    try:
        return np.where(plain, cells, b"0").astype(np.float64), plain
    except (ValueError, OverflowError):
        return np.zeros(len(cells)), np.zeros(len(cells), bool)


def _unique(cells: _Cells) -> tuple[_Cells, npt.NDArray[np.intp]]:
    """Return the different cells in order, and for each cell its place among them.

    They are told apart by one number each, which sorts ten times as fast as text. Where two of
    them share a number, they are sorted as text after all.
    """
    letters = _letters(cells)
    wide = np.zeros((len(cells), -(-letters.shape[1] // 8) * 8), np.uint8)
    wide[:, : letters.shape[1]] = letters
    parts = wide.view(np.uint64)
    numbers = np.zeros(len(cells), np.uint64)
    for part in parts.T:
        # Knuth's multiplier for hashing, 2**64 divided by the golden ratio.
        numbers = (numbers + part) * np.uint64(0x9E3779B97F4A7C15)
    _, first, codes = np.unique(numbers, return_index=True, return_inverse=True)
    words = cells[first]
    if (words[codes] != cells).any():
        return np.unique(cells, return_inverse=True)
    order = np.argsort(words)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return words[order], rank[codes]


def _column(kind: ColumnType, blocks: Sequence[Column]) -> Column:
    """Put the blocks of one column together."""
    there = np.concatenate([np.zeros(0, bool), *(block.there for block in blocks)])
    if kind is not WORD:
        none = np.zeros(0, kind.value)
        return Column(np.concatenate([none, *(block.values for block in blocks)]), there)
    place: dict[str, int] = {}
    values = [np.zeros(0, np.uint16)]
    for block in blocks:
        new = [place.setdefault(word, len(place)) for word in block.words]
        values.append(np.array(new, np.uint16 if len(place) < 1 << 16 else np.uint32)[block.values])
    return Column(np.concatenate(values), there, tuple(place))
