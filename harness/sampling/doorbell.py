"""Sleeping until the next tick, but waking at once for a new mark or a request to stop.

The runner waits for every mark to be acknowledged. Looking for marks once per tick would make it
wait half an interval on average; inotify(7) on the marks file, sent on as SIGIO, ends the sleep
the moment a mark is written, at no cost while none is. Kernels without it only lose that: marks
are then seen at the next tick.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
from pathlib import Path

# From <sys/inotify.h>: Python's standard library has no binding.
_IN_MODIFY = 0x002
_IN_CREATE = 0x100
_IN_ONESHOT = 0x80000000
# The file is in a folder that containers write to: a link there is not followed.
_IN_DONT_FOLLOW = 0x02000000
_EVENTS_BYTES = 4096


class Doorbell:
    """Waits by ``sigtimedwait``: its signals stay blocked and no handler ever runs.

    ``path`` is the marks file, which may come into being later. ``stop`` is true after SIGTERM.
    SIGINT is ignored: a Ctrl-C reaches the whole process group, and the parent says when sampling
    ends.
    """

    def __init__(self, path: str) -> None:
        self.stop = False
        self._path = path
        self._fd = -1
        self._watched = False
        self._wanted = {signal.SIGTERM, signal.SIGIO}
        signal.pthread_sigmask(signal.SIG_BLOCK, self._wanted)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._libc = ctypes.CDLL(None, use_errno=True)
        try:
            self._open()
        except (OSError, AttributeError):
            self.close()

    @property
    def rings(self) -> bool:
        """Whether a new mark ends a sleep."""
        return self._fd >= 0

    def _open(self) -> None:
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        fcntl.fcntl(self._fd, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | os.O_ASYNC)
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
                self.close()
        if self.rings and not self._watched:
            try:
                self._watch()
            except OSError:
                self.close()
        return True

    def close(self) -> None:
        """Stop listening."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
