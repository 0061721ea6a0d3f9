"""Following ``marks.csv`` while the runner appends to it, and acknowledging what was handled."""

from __future__ import annotations

import os
import re

from harness.results.marks import MARKS, RUN_END, RUN_START
from harness.results.memory import MarkRow
from harness.results.shared import open_plain

_READ_BYTES = 64 * 1024
# A run's id is part of rows on the host, so it is a plain word.
_RUN_ID = re.compile(r"[\w.-]{0,100}", re.ASCII)


def parse_marks(data: bytes) -> tuple[list[MarkRow], int]:
    """Return the marks in ``data`` and how many bytes they took.

    Only whole lines are taken; what follows the last newline is left for the next call. The
    header, empty lines and lines of another shape are skipped: containers write the file.
    """
    end = data.rfind(b"\n") + 1
    marks = []
    for line in data[:end].decode("utf-8", "replace").splitlines():
        mark = _parse_line(line)
        if mark is not None:
            marks.append(mark)
    return marks, end


def _parse_line(line: str) -> MarkRow | None:
    cells = line.split(",")
    if len(cells) != 4:
        return None
    run_id, mark, t_mono_ns, t_unix_ns = cells
    if mark not in MARKS or _RUN_ID.fullmatch(run_id) is None:
        return None
    try:
        return MarkRow(run_id, mark, int(t_mono_ns), int(t_unix_ns))
    except ValueError:
        return None


class MarksTail:
    """Reads new marks through one kept descriptor; the file may come into being later.

    ``current_run`` is the run in progress after the marks returned so far, empty between runs.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._offset = 0
        self.current_run = ""

    def poll(self) -> list[MarkRow]:
        """Return the marks appended since the last call. Raises OSError if unreadable."""
        if self._fd < 0:
            try:
                self._fd = open_plain(self._path)
            except FileNotFoundError:
                return []
        data = os.pread(self._fd, _READ_BYTES, self._offset)
        if not data:
            return []
        marks, consumed = parse_marks(data)
        self._offset += consumed
        for mark in marks:
            if mark.mark == RUN_START:
                self.current_run = mark.run_id
            elif mark.mark == RUN_END:
                self.current_run = ""
        return marks

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class AckWriter:
    """Appends one byte to a file for each mark that was fully handled."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def ack(self) -> None:
        """Acknowledge one mark."""
        os.write(self._fd, b".")

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)
