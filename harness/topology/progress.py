"""How far the runner of a topology is, by the files it writes."""

from __future__ import annotations

import os
import time
from pathlib import Path

from harness.results.directory import RunDirectory
from harness.results.marks import STOP

_TAIL_BYTES = 4096


class RunProgress:
    """Follows outcomes and marks of a run directory, from what is in them at the beginning.

    Attributes:
        rows: number of outcomes.
        run_id: run of the last mark since the beginning; empty before the first.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._marks_offset = _size(directory.marks)
        self._marks_size = self._marks_offset
        self._outcomes_size = -1
        self._changed = time.monotonic()
        self.rows = 0
        self.run_id = ""

    def idle_s(self) -> float:
        """Return for how many seconds the same run, or its absence, has been going on."""
        return time.monotonic() - self._changed

    def look(self) -> bool:
        """Look at the files; return whether there are more outcomes than at the last look."""
        size = _size(self._directory.outcomes)
        more = size != self._outcomes_size
        if more:
            self._outcomes_size = size
            self.rows = self.count()
            self._changed = time.monotonic()
        size = _size(self._directory.marks)
        if size != self._marks_size:
            self._marks_size = size
            run_id = last_run(tail(self._directory.marks, self._marks_offset))
            if run_id and run_id != self.run_id:
                self.run_id = run_id
                self._changed = time.monotonic()
        return more

    def count(self) -> int:
        """Return the number of outcomes on disk."""
        try:
            return max(0, self._directory.outcomes.read_bytes().count(b"\n") - 1)
        except FileNotFoundError:
            return 0


def last_run(text: str) -> str:
    """Return the run of the last complete mark in the end of a marks file, empty without one."""
    for line in reversed(text[: text.rfind("\n") + 1].splitlines()):
        cells = line.split(",")
        if len(cells) == 4 and cells[0] and cells[1] != STOP and cells[2].isdigit():
            return cells[0]
    return ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def tail(path: Path, offset: int) -> str:
    """Return the end of a file, but nothing from before ``offset``."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(offset, end - _TAIL_BYTES))
        return file.read().decode("ascii", "replace")
