"""Tracing a process's allocations, started and stopped from within.

Any process may import this: memray itself is imported only when a trace is started.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

INTERVAL_MS = 20
"""Milliseconds between two of a trace's own readings of the clock.

The kernel's files are read as often. Each reading takes 80 us in each process.
"""

SUFFIX = ".bin"
FAILED = ".failed"

# The trace of this process, and which process that is: a forked child has its parent's.
_running: tuple[int, Any] | None = None


def start(folder: str, *, native: bool = False) -> None:
    """Trace every allocation of this process from now on; children that fork are followed.

    It raises nothing: where it cannot be done, a file in the folder says why.

    Args:
        folder: gets one file for each process, named by host and process number.
        native: trace frames of compiled code, too.
    """
    if _is_running():  # pools may ask one worker twice
        return
    path = Path(folder, f"{socket.gethostname()}-{os.getpid()}{SUFFIX}")
    _aside(lambda: _start(path, native=native))


def stop() -> None:
    """End the trace of this process, if there is one; its file is whole then."""
    if _is_running():
        _aside(_stop)


def _is_running() -> bool:
    return _running is not None and _running[0] == os.getpid()


def _aside(call: Callable[[], None]) -> None:
    """Call it in a thread of its own.

    Of the thread that starts a trace memray loses the frames that are there by then, and with
    them what runs in the loop of a worker that was asked in a task.
    """
    thread = threading.Thread(target=call, name="harness trace", daemon=True)
    thread.start()
    thread.join()


def _start(path: Path, *, native: bool) -> None:
    global _running  # noqa: PLW0603  # there is one trace in a process
    try:
        from memray import FileDestination, Tracker  # noqa: PLC0415

        tracker = Tracker(
            destination=FileDestination(path, overwrite=True),
            native_traces=native,
            follow_fork=True,
            memory_interval_ms=INTERVAL_MS,
        )
        tracker.__enter__()
    except Exception as error:  # noqa: BLE001  # the run goes on without, and says so
        with suppress(OSError):
            text = f"{type(error).__name__}: {error}"
            path.with_suffix(FAILED).write_text(text[:500], encoding="utf-8", errors="replace")
        return
    _running = (os.getpid(), tracker)


def _stop() -> None:
    global _running
    assert _running is not None
    tracker, _running = _running[1], None
    with suppress(Exception):  # its file then says so by not being readable
        tracker.__exit__(None, None, None)
