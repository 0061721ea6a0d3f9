"""The rows of the run directory's CSV files: a dataclass is the schema.

Field order is column order; ``None`` is written as an empty field and means "not read".
"""

from __future__ import annotations

import csv
import dataclasses
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from harness.core.errors import UsageError
from harness.core.text import one_line

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")


def column(doc: str) -> Any:
    """Return a dataclass field that carries its own line of the documentation."""
    return dataclasses.field(metadata={"doc": doc})


def optional_column(doc: str) -> Any:
    """Return the same for a cell that may be empty, or a column that was added later."""
    return dataclasses.field(default=None, metadata={"doc": doc})


@dataclasses.dataclass(frozen=True)
class ResultRow:
    """A row of ``results.csv``: a finished run, in psbench's columns, to the letter."""

    executor: str = column("class name of the executor")
    connector: str = column("class name of the connector, the word None for mode none")
    data_management: str = column("the mode")
    stage_task_counts: str = column("joined by -")
    stage_bytes_sizes: str = column("bytes, joined by -")
    stage_repeat: int = column("times the stages were run within the workflow")
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
    objects_at_end: int = column("when the clock had stopped, before any clean-up")
    bytes_at_end: int = column("their bytes")
    objects_left: int = column("after the mode's clean-up; must be 0")
    bytes_left: int = column("their bytes")


@dataclasses.dataclass(frozen=True)
class OutcomeRow:
    """A row of ``outcomes.csv``: how one run ended."""

    run_id: str = column("the run; the number in it is its place in the plan")
    data_management: str = column("its mode")
    repetition: int = column("which of the mode's runs, from 1")
    outcome: str = column(
        "ok, failed, timeout, memory, killed, leak, infrastructure or interrupted"
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
            with path.open(newline="") as old:
                found = next(csv.reader(old), [])
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


def read_rows(path: Path, row_type: type[R]) -> list[R]:
    """Read a file this project wrote, converting cells by the dataclass's annotations.

    A column that may be empty may also be missing: files written before it was added have none.

    Raises:
        UsageError: one line that names the file and the row that does not fit.
    """
    cells = {f.name: _cell(str(f.type)) for f in dataclasses.fields(row_type)}
    optional = {f.name: "" for f in dataclasses.fields(row_type) if " | None" in str(f.type)}
    rows = []
    with path.open(newline="") as file:
        for number, found in enumerate(csv.DictReader(file), 2):
            row = optional | found
            try:
                rows.append(row_type(**{name: cell(row[name]) for name, cell in cells.items()}))
            except (KeyError, TypeError, ValueError):
                raise UsageError(
                    f"{path}: line {number} is not a row of {','.join(cells)}"
                ) from None
    return rows


def _cell(annotation: str) -> Callable[[str], Any]:
    kind, _, optional = annotation.partition(" | ")
    convert = {"int": int, "float": float}.get(kind, str)
    if optional:
        return lambda text: convert(text) if text else None
    return convert
