"""The rows of the run directory's CSV files: a dataclass is the schema.

Field order is column order; ``None`` is written as an empty field and means "not read".
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from harness.core.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")


@dataclasses.dataclass(frozen=True)
class ResultRow:
    """A finished run: psbench's ``results.csv``, to the letter.

    Attributes:
        executor, connector: class names, ``None`` (the word) for a mode without a store.
        data_management: the mode.
        stage_task_counts, stage_bytes_sizes: joined by ``-``; bytes.
        workflow_start_timestamp, workflow_end_timestamp: UNIX time in seconds.
        workflow_makespan_s, task_sleep: seconds.
    """

    executor: str
    connector: str
    data_management: str
    stage_task_counts: str
    stage_bytes_sizes: str
    stage_repeat: int
    task_sleep: float
    workflow_start_timestamp: float
    workflow_end_timestamp: float
    workflow_makespan_s: float


@dataclasses.dataclass(frozen=True)
class ObjectsRow:
    """What the connector held around a run, counted in its storage.

    All counts and bytes (of serialised objects) are on top of what was there before the run.

    Attributes:
        objects_predicted, bytes_predicted: what the flags say about the end; payload bytes.
        objects_at_end, bytes_at_end: when the clock stopped, before any clean-up.
        objects_left, bytes_left: after the mode's clean-up; both must be 0.
    """

    run_id: str
    data_management: str
    objects_predicted: int
    bytes_predicted: int
    objects_at_end: int
    bytes_at_end: int
    objects_left: int
    bytes_left: int


@dataclasses.dataclass(frozen=True)
class OutcomeRow:
    """How a run ended.

    Attributes:
        run_id: the run; the number in it is its place in the plan.
        outcome: ``ok``, ``failed``, ``leak`` or ``interrupted``.
        reason: one line, empty when ``ok``.
    """

    run_id: str
    data_management: str
    repetition: int
    outcome: str
    reason: str


def columns(row_type: type[Any]) -> list[str]:
    """Return the column names of a row type."""
    return [field.name for field in dataclasses.fields(row_type)]


def csv_line(values: list[Any]) -> str:
    """Return one CSV line; line ends inside values become spaces so that a row is a line."""
    out = io.StringIO()
    csv.writer(out).writerow(
        " ".join(value.splitlines()) if isinstance(value, str) else value for value in values
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
        """Append one row; it survives any later crash of this process."""
        values = [getattr(row, name) for name in columns(self._row_type)]
        os.write(self._fd, csv_line(values).encode())

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

    Raises:
        UsageError: one line that names the file and the row that does not fit.
    """
    cells = {f.name: _cell(str(f.type)) for f in dataclasses.fields(row_type)}
    rows = []
    with path.open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
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
