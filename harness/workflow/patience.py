"""A time limit for one run in this process: where it was when its time was up, and then its end."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# After a run was given up its executor is shut down, which may hang for the same reason.
_SHUTDOWN_S = 15.0


class RunTimeout(Exception):  # noqa: N818
    """The time of a run was up."""


@contextmanager
def bounded(limit_s: float, stacks: Path) -> Iterator[None]:
    """Raise RunTimeout in the main thread if what is done here takes longer than ``limit_s``.

    Args:
        limit_s: seconds; 0 is no limit.
        stacks: gets the stacks of all threads of this process first.
    """
    if limit_s <= 0 or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(_number: int, _frame: object) -> None:
        stacks.parent.mkdir(exist_ok=True)
        with stacks.open("w", encoding="utf-8") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        _end_at_last()
        raise RunTimeout(f"took longer than {limit_s:g} s (--run-timeout)")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _end_at_last() -> None:
    """End this process if it has not ended by itself some seconds from now."""

    def end() -> None:
        sys.stderr.write(f"harness: still shutting down after {_SHUTDOWN_S:g} s: ended\n")
        sys.stderr.flush()
        os._exit(1)

    timer = threading.Timer(_SHUTDOWN_S, end)
    timer.daemon = True
    timer.start()
