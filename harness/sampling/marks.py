"""Following ``marks.csv`` while the runner appends to it, and acknowledging what was handled."""

from __future__ import annotations

import os

from harness.results.marks import RUN_END, RUN_START
from harness.results.memory import MarkRow

_READ_BYTES = 64 * 1024


def parse_marks(data: bytes) -> tuple[list[MarkRow], int]:
    """Return the marks in ``data`` and how many bytes they took.

    Only whole lines are taken; what follows the last newline is left for the next call. The
    header, empty lines and lines of another shape are skipped.
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
    try:
        return MarkRow(run_id, mark, int(t_mono_ns), int(t_unix_ns))
    except ValueError:
        return None


class MarksTail:
    """Reads new marks through one kept descriptor; the file may come into being later.

    Marks before ``offset``, in bytes, are other topologies'. ``current_run`` is the run in progress
    after the marks returned so far, empty between runs.
    """

    def __init__(self, path: str, offset: int = 0) -> None:
        self._path = path
        self._fd = -1
        self._offset = offset
        self.current_run = ""

    def poll(self) -> list[MarkRow]:
        """Return the marks appended since the last call. Raises OSError if unreadable."""
        if self._fd < 0:
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
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
