"""Buffered CSV rows that several processes may append to one file.

Every write is whole lines, at most 64 KiB, on a descriptor opened with O_APPEND: on one host the
kernel serialises such writes, so lines of different containers never mix. Rows are handed to the
kernel once a second, at marks and at the end; from then on they survive a crash of the writer.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CHUNK_BYTES = 64 * 1024


class LineWriter:
    """Appends lines to a CSV file and creates it with its header if it is new.

    Unlike :class:`harness.results.rows.RowWriter`, which hands each row to the kernel at once and
    has its file for itself, it holds lines back, for thousands a minute, and shares its file.

    Errors of the file system (OSError) surface from the constructor, ``write`` and ``flush``.
    """

    def __init__(
        self,
        path: str,
        header: Sequence[str],
        *,
        flush_interval_ns: int = 1_000_000_000,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._clock = clock
        self._flush_interval_ns = flush_interval_ns
        self._lines: list[str] = []
        self._size = 0
        self._flushed_ns = clock()
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._write_header(",".join(header) + "\n")
        except OSError:
            # The lock goes with the descriptor: nobody may wait for it.
            os.close(self._fd)
            raise

    def _write_header(self, header: str) -> None:
        # Every writer takes this lock before its first row, so whoever finds the file empty
        # writes the header and no row of another process can come before it.
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}:
                raise
        if os.fstat(self._fd).st_size == 0:
            self._put(header.encode())
        try:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        except OSError as error:
            if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}:
                raise

    def write(self, line: str) -> None:
        """Take one line, newline included."""
        if self._size + len(line) > _CHUNK_BYTES:
            self.flush()
        self._lines.append(line)
        self._size += len(line)

    def flush_if_due(self) -> None:
        """Flush if the last flush is an interval ago."""
        if self._clock() - self._flushed_ns >= self._flush_interval_ns:
            self.flush()

    def flush(self) -> None:
        """Hand all lines to the kernel."""
        self._flushed_ns = self._clock()
        if not self._lines:
            return
        data = "".join(self._lines).encode()
        self._lines.clear()
        self._size = 0
        self._put(data)

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def close(self) -> None:
        """Flush and close; further calls do nothing."""
        if self._fd < 0:
            return
        try:
            self.flush()
        finally:
            os.close(self._fd)
            self._fd = -1
