"""Errors a user can act on.

Each message is one line that names the flag or file and says what would be right. The
command line prints it without a traceback and exits with the class's code. Whatever else is raised
is a fault of the harness itself: :func:`own_fault` keeps the traceback in a file.
"""

from __future__ import annotations

import os
import tempfile
import traceback
from typing import ClassVar

OWN_FAULT = 4
"""Exit code of a fault of the harness itself: 1 is for what was measured, and nothing else."""

UNDECIDED = 5
"""Exit code of a question that the runs do not answer."""


class HarnessError(Exception):
    """Base of all errors with a message meant for the user."""

    exit_code: ClassVar[int] = OWN_FAULT


class MeasuredFailure(HarnessError):  # noqa: N818
    """The benchmark ran and its answer is a failure (exit code 1)."""

    exit_code: ClassVar[int] = 1


class UsageError(HarnessError):
    """A flag or an input file is wrong (exit code 2)."""

    exit_code: ClassVar[int] = 2


class InfrastructureError(HarnessError):
    """The engine, an image, a service or the machine is at fault (exit code 3)."""

    exit_code: ClassVar[int] = 3


def missing_package(what: str, package: str, extra: str) -> InfrastructureError:
    """Return the error for a package of an extra that is not installed.

    Args:
        what: what was asked for: a flag with its value; empty for the whole command.
        package: what the package index calls it.
        extra: which of our extras has it.
    """
    return InfrastructureError(
        f"{what + ': ' if what else ''}needs the Python package {package}:"
        f" pip install 'workflow-memory-harness[{extra}]' (in a checkout: scripts/venv full)"
    )


def own_fault(error: BaseException) -> str:
    """Return one line on a fault of the harness itself; its traceback is kept in a new file.

    HARNESS_DEBUG in the environment puts the traceback into the message instead.
    """
    text = "".join(traceback.format_exception(error)).rstrip()
    summary = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    where = f"\n{text}" if os.environ.get("HARNESS_DEBUG") else _kept(text)
    return f"a fault of the harness itself ({summary}); {where}"


def _kept(text: str) -> str:
    """Keep a traceback in a new file; say where, or how to see it where no file can be made."""
    try:
        number, path = tempfile.mkstemp(prefix="harness-fault-", suffix=".txt")
        with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return "HARNESS_DEBUG=1 in the environment prints the traceback"
    return f"please report it with the traceback in {path}"
