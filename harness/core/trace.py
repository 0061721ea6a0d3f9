"""Tracing a process's allocations, started and stopped from within.

Any process may import this: memray itself is imported only when a trace is started.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

INTERVAL_MS = 10
"""Milliseconds between two of a trace's own readings of the clock."""

SUFFIX = ".bin"
FAILED = ".failed"

# The trace of this process, and which process that is: a forked child has its parent's.
_running: tuple[int, Any] | None = None


def start(folder: str) -> None:
    """Trace every allocation of this process from now on; children that fork are followed.

    It raises nothing: where it cannot be done, a file in the folder says why.

    Args:
        folder: gets one file for each process, named by host and process number.
    """
    global _running  # noqa: PLW0603  # there is one trace in a process
    pid = os.getpid()
    if _running is not None and _running[0] == pid:  # pools may ask one worker twice
        return
    path = Path(folder, f"{socket.gethostname()}-{pid}{SUFFIX}")
    try:
        from memray import FileDestination, Tracker  # noqa: PLC0415

        tracker = Tracker(
            destination=FileDestination(path, overwrite=True),
            follow_fork=True,
            memory_interval_ms=INTERVAL_MS,
        )
        tracker.__enter__()
    except Exception as error:  # noqa: BLE001  # the run goes on without, and says so
        with suppress(OSError):
            text = f"{type(error).__name__}: {error}"
            path.with_suffix(FAILED).write_text(text[:500], encoding="utf-8", errors="replace")
        return
    _running = (pid, tracker)


def stop() -> None:
    """End the trace of this process, if there is one; its file is whole then."""
    global _running
    if _running is None or _running[0] != os.getpid():
        return
    tracker, _running = _running[1], None
    with suppress(Exception):  # its file then says so by not being readable
        tracker.__exit__(None, None, None)
