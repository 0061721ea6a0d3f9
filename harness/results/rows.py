"""The rows of the run directory's CSV files: a dataclass is the schema.

Field order is column order; ``None`` is written as an empty field and means "not read".
"""

from __future__ import annotations

import csv
import dataclasses
import errno
import io
import math
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, NamedTuple, Self, TypeVar

from harness.core.errors import UsageError
from harness.core.text import one_line

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")

_LONGEST_LINE = 1 << 20
_LONGEST_TEXT = 1000
_SPACE = re.compile(r"\s")
_RULES = ("signed", "filled", "missing", "most")
_INTEGER = re.compile(r"([+-]?[0-9]{1,19})(?:\.0*)?")
_REAL = re.compile(r"[+-]?(?:[0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,3})?")

_MOST_INTEGER = 2**63 - 1
# A machine with more memory than this is a slip of a digit.
_MOST_BYTES = 2**60
# Far beyond any time in seconds; the year 5138.
_MOST_REAL = 1e11


def column(
    doc: str, *, signed: bool = False, filled: bool = False, missing: Any = None, most: float = 0
) -> Any:
    """Return a dataclass field that carries its own line of the documentation.

    Args:
        doc: the line.
        signed: whether a number may be below zero.
        filled: whether text must not be empty.
        missing: what stands for a cell that is empty or a column that was added later.
        most: the largest number, if another than for all columns of its kind.
    """
    rules = {"signed": signed, "filled": filled, "missing": missing, "most": most}
    return dataclasses.field(metadata={"doc": doc} | rules)


def optional_column(doc: str) -> Any:
    """Return the same for a cell that may be empty, or a column that was added later."""
    return dataclasses.field(default=None, metadata={"doc": doc})


@dataclasses.dataclass(frozen=True)
class ResultRow:
    """A row of ``results.csv``: a finished run, in psbench's columns, to the letter."""

    executor: str = column("class name of the executor", filled=True)
    connector: str = column("class name of the connector, the word None for mode none")
    data_management: str = column("the mode", filled=True)
    stage_task_counts: str = column("joined by -", filled=True)
    stage_bytes_sizes: str = column("bytes, joined by -", filled=True)
    stage_repeat: int = column("times the stages were run within the workflow", missing=1)
    task_sleep: float = column("seconds each task slept")
    workflow_start_timestamp: float = column("UNIX time in seconds")
    workflow_end_timestamp: float = column("UNIX time in seconds")
    workflow_makespan_s: float = column("seconds, from the monotonic clock")


@dataclasses.dataclass(frozen=True)
class ObjectsRow:
    """A row of ``objects.csv``: what the connector's storage held around one run.

    Counted in the storage itself, on top of what was there before the run; a connector may store
    more than one thing for an object, only objects count. Bytes at the end and left are of
    serialised objects, a few bytes more than their payloads.
    """

    run_id: str = column("the run")
    data_management: str = column("its mode")
    objects_predicted: int = column("at the end of the run, from the flags alone")
    bytes_predicted: int = column("payload bytes at the end of the run, from the flags alone")
    objects_at_end: int = column("when the clock had stopped, before any clean-up", signed=True)
    bytes_at_end: int = column("their bytes", signed=True)
    objects_left: int = column("after the mode's clean-up; must be 0", signed=True)
    bytes_left: int = column("their bytes", signed=True)


@dataclasses.dataclass(frozen=True)
class OutcomeRow:
    """A row of ``outcomes.csv``: how one run ended."""

    run_id: str = column("the run; the number in it is its place in the plan", filled=True)
    data_management: str = column("its mode")
    repetition: int = column("which of the mode's runs, from 1")
    outcome: str = column(
        "ok, failed, timeout, memory, killed, leak, infrastructure or interrupted", filled=True
    )
    reason: str = column("one line, empty when ok")
    service: str | None = optional_column(
        "container or part of the harness at fault; empty if none was, or the workload itself"
    )


def columns(row_type: type[Any]) -> list[str]:
    """Return the column names of a row type."""
    return [field.name for field in dataclasses.fields(row_type)]


def csv_line(values: list[Any]) -> str:
    """Return one CSV line; what a terminal or a line-wise reader would act on becomes a space."""
    out = io.StringIO()
    csv.writer(out).writerow(
        one_line(value) if isinstance(value, str) else value for value in values
    )
    return out.getvalue()


class RowWriter(Generic[R]):
    """Appends rows to a CSV file, one ``write`` per row: a row is there or it is not.

    Args:
        path: the file; its header is written when it is new.
        row_type: dataclass of the rows.

    Raises:
        UsageError: if the file exists with other columns.
    """

    def __init__(self, path: Path, row_type: type[R]) -> None:
        self._path = path
        self._row_type = row_type
        header = columns(row_type)
        if path.exists() and path.stat().st_size:
            with open_regular(path) as old:
                found = parse_header(old.readline(_LONGEST_LINE).decode("utf-8", "replace"))
            if found != header:
                raise UsageError(f"{path}: has the columns {','.join(found)}; name another file")
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        if os.fstat(self._fd).st_size == 0:
            os.write(self._fd, csv_line(list(header)).encode())

    def write(self, row: R) -> None:
        """Append one row, whole or not at all; it survives any later crash of this process.

        Raises:
            OSError: if the file system refuses it.
        """
        values = [getattr(row, name) for name in columns(self._row_type)]
        data = csv_line(values).encode()
        size = os.fstat(self._fd).st_size
        if os.write(self._fd, data) < len(data):
            # A full disk takes a part. Nobody else writes to this file.
            os.ftruncate(self._fd, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@dataclasses.dataclass(frozen=True)
class Table(Generic[R]):
    """What could be read of one file.

    Attributes:
        rows: all rows that are whole.
        numbers: of their lines in the file, from 1.
        problems: one line if anything is wrong, with the file and the row; else none.
    """

    rows: tuple[R, ...] = ()
    numbers: tuple[int, ...] = ()
    problems: tuple[str, ...] = ()


def read_table(path: Path, row_type: type[R]) -> Table[R]:
    """Read a file of a schema; what is no row of it is left out and said in one line.

    A byte order mark, line ends of other systems, spaces around cells, quotes, other columns,
    columns in another order and a header that comes again (files put together) do not matter. Nor
    does a last line without its end, unless a number could have lost digits there.
    """
    rows: list[R] = []
    numbers: list[int] = []
    bad: list[int] = []
    cut = False
    try:
        for line in csv_lines(path, required_columns(row_type)):
            row = parse_row(row_type, line.header, line.cells)
            if row is None or not (line.ended or _survives_a_cut(row, line)):
                bad.append(line.number)
                cut = not line.ended
            else:
                rows.append(row)
                numbers.append(line.number)
    except OSError as error:
        return Table(problems=(unreadable(path, error),))
    except ForeignFileError as error:
        return Table(problems=(str(error),))
    return Table(tuple(rows), tuple(numbers), left_out(path, bad, len(rows), cut=cut))


def read_rows(path: Path, row_type: type[R]) -> list[R]:
    """Read a file that must be whole, as :func:`read_table` does.

    Raises:
        UsageError: one line that names the file and the row that does not fit.
    """
    table = read_table(path, row_type)
    if table.problems:
        raise UsageError(table.problems[0])
    return list(table.rows)


class ForeignFileError(Exception):
    """A file that is not what its name says; the message is one line."""


class CsvLine(NamedTuple):
    """One line of a file.

    Attributes:
        number: in the file, from 1.
        header: names of the columns, in their order.
        cells: without spaces around them; empty if the line is longer than any row.
        ended: whether the line has its end.
    """

    number: int
    header: list[str]
    cells: list[str]
    ended: bool


def csv_lines(path: Path, required: Collection[str]) -> Iterator[CsvLine]:
    """Yield the lines of a CSV file below its header; empty ones, and headers, are left out.

    Args:
        path: the file.
        required: the columns that it must have, or it is another file.

    Raises:
        OSError: if it cannot be read.
        ForeignFileError: if it has no header, or another.
    """
    header: list[str] = []
    names: frozenset[str] = frozenset()
    with open_regular(path) as file:
        for number, text, ended in _lines(file):
            if number == 1:
                header = parse_header(text)
                names = frozenset(header)
                if lacks := missing_columns(header, required):
                    raise ForeignFileError(foreign(path, text, lacks))
                continue
            if not text or text.isspace():
                continue
            cells = split_line(text)
            if cells[0] in names and not missing_columns(cells, required):
                header, names = cells, frozenset(cells)
                continue
            yield CsvLine(number, header, cells, ended)
    if not header:
        raise ForeignFileError(foreign(path, "", list(required)))


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it, but no pipe or device, which may never end. Raises OSError."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is not a file", str(path))
    return path.open("rb")


def _lines(file: BinaryIO) -> Iterator[tuple[int, str, bool]]:
    """Yield number and text of each line, and whether it has an end."""
    number = 0
    while data := file.readline(_LONGEST_LINE):
        number += 1
        ended = data.endswith(b"\n")
        if not ended and len(data) == _LONGEST_LINE:
            while (rest := file.readline(_LONGEST_LINE)) and not ended:
                ended = rest.endswith(b"\n")
            data = b"?"
        yield number, data.decode("utf-8", "replace").rstrip("\r\n"), ended


def parse_header(line: str) -> list[str]:
    """Return the names in the first line of a file."""
    return split_line(line.removeprefix("\ufeff"))


def split_line(line: str) -> list[str]:
    """Return the cells of one line. A stray quote is a letter like any other."""
    if '"' in line:
        with suppress(csv.Error):
            rows = list(csv.reader([line], strict=True, skipinitialspace=True))
            return [cell.strip() for cell in rows[0]]
    cells = line.split(",")
    # Nearly all lines are the harness's own, which have no spaces.
    return cells if _SPACE.search(line) is None else [cell.strip() for cell in cells]


def required_columns(row_type: type[Any]) -> list[str]:
    """Return the columns without which a file is not one of a schema."""
    return [cell.name for cell in _schema(row_type) if not cell.optional and cell.missing is None]


def missing_columns(header: Collection[str], required: Collection[str]) -> list[str]:
    """Return the required columns that a header lacks."""
    return [name for name in required if name not in header]


def foreign(path: Path, header: str, lacks: Collection[str]) -> str:
    """Return one line on a file that has not the columns it must have."""
    if not header.strip():
        return f"{path}: empty; what it says is missing below"
    names = ", ".join(lacks)
    return f"{path}: row 1: no column {names}; not the file its name says, nothing of it used"


def unreadable(path: Path, error: OSError) -> str:
    """Return one line on a file that cannot be read."""
    return f"{path}: cannot be read ({error.strerror}); what it says is missing below"


def left_out(path: Path, bad: Sequence[int], used: int, *, cut: bool) -> tuple[str, ...]:
    """Return one line on the rows that were left out; none if there are none.

    Args:
        path: their file.
        bad: their numbers.
        used: how many other rows there are.
        cut: whether the last of them has no end.
    """
    if not bad:
        return ()
    if cut and len(bad) == 1:
        return (f"{path}: row {bad[0]}: cut short; the {used} rows before it are used",)
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    return (
        f"{path}: row {bad[0]}{more}: a cell is missing, or is not what its column wants; left out,"
        f" the other {used} rows are used",
    )


@dataclasses.dataclass(frozen=True)
class _Cell:
    """What a column of a schema takes."""

    name: str
    kind: str
    optional: bool
    signed: bool = False
    filled: bool = False
    missing: Any = None
    most: float = 0

    def parse(self, text: str) -> Any:
        """Return a cell's value; raises ValueError if it is none."""
        if self.kind == "str":
            if not text and (self.filled or self.optional):
                if self.filled:
                    raise ValueError("empty")
                return None
            return one_line(text[:_LONGEST_TEXT]).strip()
        if not text:
            if self.optional or self.missing is not None:
                return self.missing
            raise ValueError("empty")
        value = parse_integer(text) if self.kind == "int" else parse_real(text)
        if value is None or not plausible(self.name, value, signed=self.signed, most=self.most):
            raise ValueError(text)
        return value


_SCHEMAS: dict[type, tuple[_Cell, ...]] = {}


def _schema(row_type: type[Any]) -> tuple[_Cell, ...]:
    """Return what each column of a schema takes."""
    if row_type in _SCHEMAS:
        return _SCHEMAS[row_type]
    found = []
    for field in dataclasses.fields(row_type):
        kind, _, optional = str(field.type).partition(" | ")
        rules = {name: field.metadata[name] for name in _RULES if name in field.metadata}
        found.append(_Cell(field.name, kind, bool(optional), **rules))
    return _SCHEMAS.setdefault(row_type, tuple(found))


def parse_row(row_type: type[R], header: Sequence[str], cells: Sequence[str]) -> R | None:
    """Return the row of a schema that one line's cells are; None if they are none.

    Every number is finite and plausible, every text safe to print.

    Args:
        row_type: dataclass of the schema.
        header: names of the file's columns, in their order; others than the schema's are allowed.
        cells: as many as the header has names; empty ones may be beyond, and optional ones missing
            at the end.
    """
    optional = {cell.name for cell in _schema(row_type)} - set(required_columns(row_type))
    if any(cells[len(header) :]) or not optional.issuperset(header[len(cells) :]):
        return None
    found = dict(zip(header, cells, strict=False))
    try:
        return row_type(
            **{cell.name: cell.parse(found.get(cell.name, "")) for cell in _schema(row_type)}
        )
    except ValueError:
        return None


def parse_integer(text: str) -> int | None:
    """Return a whole number in plain digits, or with a fraction of nothing; None if it is none."""
    whole = _INTEGER.fullmatch(text)
    if whole:
        return int(whole[1])
    value = parse_real(text)
    # Beyond, a floating-point number has lost digits.
    if value is None or not value.is_integer() or abs(value) >= 2**53:
        return None
    return int(value)


def parse_real(text: str) -> float | None:
    """Return a finite number; None if it is none."""
    if not _REAL.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def plausible(name: str, value: float, *, signed: bool = False, most: float = 0) -> bool:
    """Return whether a number can be what its column says.

    Args:
        name: of the column; bytes have their own bound.
        value: the number.
        signed: whether it may be below zero.
        most: the largest, if another than for all of its kind.
    """
    most = most or most_of(name, integer=isinstance(value, int))
    return (-most if signed else 0) <= value < most


def most_of(name: str, *, integer: bool) -> float:
    """Return what the numbers of a column must be below."""
    if not integer:
        return _MOST_REAL
    return _MOST_BYTES if name.endswith("_bytes") else _MOST_INTEGER


def _survives_a_cut(row: Any, line: CsvLine) -> bool:
    """Return whether a row whose line has no end says what it did before, if it was cut."""
    if len(line.cells) < len(line.header):
        return False
    numbers = [cell.name for cell in _schema(type(row)) if cell.kind != "str"]
    if line.header[-1] not in numbers or not line.cells[-1]:
        return True
    if isinstance(row, ResultRow):
        # Its last column is also the difference of two others.
        between = row.workflow_end_timestamp - row.workflow_start_timestamp
        return abs(between - row.workflow_makespan_s) <= 0.01 * max(between, 1.0)
    return False
