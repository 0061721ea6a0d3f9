"""Memory use of each run and container from one view's samples, in a single pass."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import UsageError


@dataclass
class Usage:
    """Samples of one container in one run, summed up.

    Attributes:
        samples: number of samples with a value.
        sum_bytes: their sum; ``sum_bytes / samples`` is the mean over the clock grid.
        max_bytes: the largest.
        first_bytes: the first, where no better baseline is known.
    """

    samples: int = 0
    sum_bytes: int = 0
    max_bytes: int = 0
    first_bytes: int = 0

    def add(self, value: int) -> None:
        """Take one more sample in."""
        if self.samples == 0:
            self.first_bytes = value
        self.samples += 1
        self.sum_bytes += value
        self.max_bytes = max(self.max_bytes, value)

    @property
    def mean_bytes(self) -> float:
        """Arithmetic mean in bytes."""
        return self.sum_bytes / self.samples if self.samples else 0.0


def read_usage(path: Path, column: str) -> dict[tuple[str, str], Usage]:
    """Sum up a samples file by (run, container).

    Memory does not grow with the file. A last line that a crash cut short is left out, as are
    samples outside of runs and fields that were not read.

    Args:
        path: ``memory-<view>.csv``.
        column: the bytes column to read.

    Raises:
        UsageError: if the file has no such column.
    """
    found: dict[tuple[str, str], Usage] = {}
    with path.open(newline="") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        try:
            run, container, value = (header.index(n) for n in ("run_id", "container", column))
        except ValueError:
            raise UsageError(f"{path}: has no column {column!r}; is it a samples file?") from None
        for row in rows:
            if len(row) == len(header) and row[run] and row[value]:
                found.setdefault((row[run], row[container]), Usage()).add(int(row[value]))
    return found
