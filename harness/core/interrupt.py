"""Ctrl-C and SIGTERM end a command alike: orderly, with everything taken down.

Both raise KeyboardInterrupt where the main thread is. If that is inside a destructor or a garbage
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
    """Let SIGINT and SIGTERM raise KeyboardInterrupt, and remember that they came."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)


def check() -> None:
    """Raise KeyboardInterrupt if a signal came, even if its exception was lost."""
    if _received:
        raise KeyboardInterrupt
