"""What the environment may decide and what not: where modules are searched, where home is.

Python searches PYTHONPATH, and with ``-m`` the working directory, before its own library. A file
of any name there (``random.py``, ``docker.py``, another ``harness``) would end a command with a
traceback, or be executed by root. This module imports nothing that Python has not by itself.
"""

from __future__ import annotations

import os
import sys

_OWN_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120  # pathlib would be searched for


def put_foreign_last() -> None:
    """Search PYTHONPATH and the working directory last; not where this package itself lies."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    last = {os.path.abspath(path) for path in (*given, os.curdir)} - {_OWN_ROOT}  # noqa: PTH100
    foreign = [path for path in sys.path if os.path.abspath(path) in last]  # noqa: PTH100
    sys.path[:] = [path for path in sys.path if path not in foreign] + foreign
    # `-c` and `-m` of what is started from here do not search the working directory at all.
    os.environ["PYTHONSAFEPATH"] = "1"


def child_environment() -> dict[str, str] | None:
    """Return the environment in which a Python of ours searches as this one; None: as it is."""
    if not os.environ.get("PYTHONPATH"):
        return None
    path = [each for each in sys.path if os.pathsep not in each]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}


def home_directory() -> str:
    """Return the user's home.

    Raises:
        FileNotFoundError: if neither HOME nor the user database names one.
    """
    home = os.path.expanduser("~")  # noqa: PTH111
    if not os.path.isabs(home):  # noqa: PTH117
        raise FileNotFoundError("there is no home directory: name one with HOME")
    return home
