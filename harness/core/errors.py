"""Errors a user can act on.

Each message is one line that names the flag or file and says what would be right. The
command line prints it without a traceback and exits with the class's code.
"""

from __future__ import annotations

from typing import ClassVar


class HarnessError(Exception):
    """Base of all errors with a message meant for the user."""

    exit_code: ClassVar[int] = 1


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
