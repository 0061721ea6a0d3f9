"""Ctrl-C, SIGTERM and a lost terminal end a command alike: orderly, everything taken down.

All raise KeyboardInterrupt where the main thread is. If that is inside a destructor or a garbage
collector callback, Python prints the exception and forgets it; so it is also remembered here, and
long loops ask.
"""

from __future__ import annotations

import signal
from typing import NoReturn

_received: list[int] = []


def _interrupt(number: int, _frame: object) -> NoReturn:
    _received.append(number)
    raise KeyboardInterrupt


def install() -> None:
    """Let the signals raise KeyboardInterrupt, and remember that they came.

    SIGHUP stays ignored where it was, as under nohup.
    """
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)


def check() -> None:
    """Raise KeyboardInterrupt if a signal came, even if its exception was lost."""
    if _received:
        raise KeyboardInterrupt
