"""Following ``marks.csv``: waking for a new mark, reading it, acknowledging it.

Sleeping until the next tick, but waking at once for a new mark or a request to stop.

The runner waits for every mark to be acknowledged. Looking for marks once per tick would make it
wait half an interval on average; inotify(7) on the marks file, sent on as SIGIO, ends the sleep
the moment a mark is written, at no cost while none is. Kernels without it only lose that: marks
are then seen at the next tick.

Following ``marks.csv`` while the runner appends to it, and acknowledging what was handled.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import signal
from contextlib import suppress
from pathlib import Path

from harness.results.conversation import MARKS, RUN_END, RUN_START
from harness.results.schema import MarkRow
from harness.results.shared import open_plain

# From <sys/inotify.h>: Python's standard library has no binding.
_IN_MODIFY = 0x002
_IN_CREATE = 0x100
_IN_ONESHOT = 0x80000000
# The file is in a folder that containers write to: a link there is not followed.
_IN_DONT_FOLLOW = 0x02000000
_EVENTS_BYTES = 4096


class Doorbell:
    """Waits by ``sigtimedwait``: its signals are blocked until ``close``, no handler ever runs.

    ``path`` is the marks file, which may come into being later; ``listen`` a descriptor that ends
    a sleep, too, when it becomes readable. ``stop`` is true after SIGTERM.
    """

    def __init__(self, path: str, listen: int) -> None:
        self.stop = False
        self._path = path
        self._listen = listen
        self._fd = -1
        self._watched = False
        self._wanted = {signal.SIGTERM, signal.SIGIO}
        signal.pthread_sigmask(signal.SIG_BLOCK, self._wanted)
        self._libc = ctypes.CDLL(None, use_errno=True)
        with suppress(OSError):  # what comes there is then seen at the next look
            _signal_input(listen)
        try:
            self._open()
        except (OSError, AttributeError):
            self._stop_ringing()

    @property
    def rings(self) -> bool:
        """Whether a new mark ends a sleep."""
        return self._fd >= 0

    def _open(self) -> None:
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        _signal_input(self._fd)
        self._watch()

    def _watch(self) -> None:
        # Only this file: others of its directory are written to all the time. Until it exists,
        # its directory tells of it.
        try:
            self._add(self._path, _IN_MODIFY)
            self._watched = True
        except FileNotFoundError:
            self._add(str(Path(self._path).parent), _IN_CREATE | _IN_ONESHOT)

    def _add(self, path: str, events: int) -> None:
        if self._libc.inotify_add_watch(self._fd, os.fsencode(path), events | _IN_DONT_FOLLOW) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)

    def sleep(self, seconds: float) -> bool:
        """Sleep at most ``seconds``; return whether there may be a new mark."""
        got = signal.sigtimedwait(self._wanted, seconds)
        if got is None:
            return False
        if got.si_signo == signal.SIGTERM:
            self.stop = True
            return False
        return self._answer()

    def _answer(self) -> bool:
        try:
            os.read(self._fd, _EVENTS_BYTES)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                self._stop_ringing()
        if self.rings and not self._watched:
            try:
                self._watch()
            except OSError:
                self._stop_ringing()
        return True

    def _stop_ringing(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def close(self) -> None:
        """Stop listening, and let signals through again."""
        self._stop_ringing()
        with suppress(OSError):
            flags = fcntl.fcntl(self._listen, fcntl.F_GETFL)
            fcntl.fcntl(self._listen, fcntl.F_SETFL, flags & ~os.O_ASYNC)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._wanted)


def _signal_input(descriptor: int) -> None:
    """Have the kernel send SIGIO when there is something to read."""
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)


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
