"""Run a Python program whose forks wait until none of its threads writes a log.

    python -m harness.globus_service.forks PROGRAM [ARGUMENT...]

Globus Compute's endpoint forks, to start a user's endpoint, while its threads log. A thread that
is writing at that moment holds the lock of its stream. Nobody gives that lock back in the child,
which waits for it for ever as soon as it logs, and no task is ever executed.

In the endpoint's container: the standard library only.
"""

from __future__ import annotations

import logging
import os
import runpy
import sys
from collections.abc import Iterator


def _handlers() -> Iterator[logging.Handler]:
    for logger in (logging.root, *list(logging.root.manager.loggerDict.values())):
        if isinstance(logger, logging.Logger):
            yield from list(logger.handlers)


def hold_logs_in_forks() -> None:
    """Take the locks of all log handlers before each fork of this process, in all threads.

    A child needs none to be released: logging itself gives a child new locks of handlers.
    """
    held: list[logging.Handler] = []

    def hold() -> None:
        taken = list(dict.fromkeys(_handlers()))
        for handler in taken:
            handler.acquire()
        held.extend(taken)

    def release() -> None:
        while held:
            held.pop().release()

    os.register_at_fork(before=hold, after_in_parent=release, after_in_child=held.clear)


def main() -> None:
    """Become the program that the command line names."""
    del sys.argv[0]
    hold_logs_in_forks()
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
