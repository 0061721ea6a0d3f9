"""Ctrl-C, SIGTERM and a lost terminal end a command alike: orderly, everything taken down.

All raise KeyboardInterrupt where the main thread is. If that is inside a destructor or a garbage
collector callback, Python prints the exception and forgets it; so it is also remembered here, and
long loops ask. While something is taken down a first signal waits for the end of that; a second
one ends the command at once, if the command has said how.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

_received: list[int] = []
_at_once: list[Callable[[], object]] = []
_shields: list[object] = []


def _interrupt(number: int, _frame: object) -> None:
    _received.append(number)
    if len(_received) > 1 and _at_once:
        _at_once[-1]()
    if not _shields:
        raise KeyboardInterrupt


def install() -> None:
    """Let the signals raise KeyboardInterrupt, and remember that they came.

    SIGHUP stays ignored where it was, as under nohup.
    """
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)
    _leave_children_alone()


@cache
def _leave_children_alone() -> None:
    """Let SIGTERM and SIGHUP end a forked child, such as a worker of a pool, as they end others.

    Whoever terminates a child waits for its end. Python forgets a signal that comes while a child
    starts if there is a handler for it, and that wait would never end: the signals are held back
    until the child has none.
    """
    ending = (signal.SIGTERM, signal.SIGHUP)
    before = threading.local()

    def hold() -> None:
        before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ending)

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before.mask)

    def forget() -> None:
        for number in ending:
            if signal.getsignal(number) is _interrupt:
                signal.signal(number, signal.SIG_DFL)
        release()

    os.register_at_fork(before=hold, after_in_parent=release, after_in_child=forget)


def check() -> None:
    """Raise KeyboardInterrupt if a signal came, even if its exception was lost."""
    if _received:
        raise KeyboardInterrupt


def name() -> str:
    """Return the name of the first signal that came, empty if none did."""
    return signal.Signals(_received[0]).name if _received else ""


@contextmanager
def shielded() -> Iterator[None]:
    """Let a first signal wait: what is done here must be done to its end.

    ``check`` tells of it afterwards.
    """
    token = object()
    _shields.append(token)
    try:
        yield
    finally:
        _shields.remove(token)


@contextmanager
def second_ends(at_once: Callable[[], object]) -> Iterator[None]:
    """Call ``at_once``, which does not return, when a second signal comes."""
    _at_once.append(at_once)
    try:
        yield
    finally:
        _at_once.remove(at_once)
