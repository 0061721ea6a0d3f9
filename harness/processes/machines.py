"""Where processes are started: on the nodes of a job, or on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from harness.core.environment import child_environment
from harness.processes.service import NUMBER_VARIABLE

# Whatever kills this process, what it started ends: 1 is PR_SET_PDEATHSIG.
ENDS_WITH_US = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM);"
    " os.execvp(sys.argv[1], sys.argv[1:])"
)


class Machines(Protocol):
    """The machines of a topology of processes."""

    @property
    def nodes(self) -> Sequence[str]:
        """Their names."""
        ...

    def command(self, node: str, name: str, tasks: int = 1) -> list[str]:
        """Return the beginning of a command line that starts processes on a node.

        Args:
            node: where.
            name: what they are called, for whoever looks at the machine.
            tasks: how many there are.
        """
        ...

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a process that is started so, without its number."""
        ...

    def numbers(self) -> dict[str, str]:
        """Return the variables by which processes that are alone get a number."""
        ...

    def stranger(self, directory: str) -> str:
        """Say why a memory cgroup is not that of one service; empty if it is."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of them."""
        ...


@dataclass(frozen=True)
class ThisMachine:
    """This machine, where an ordinary user has no cgroups to give to processes."""

    @property
    def nodes(self) -> Sequence[str]:
        """One."""
        return ("here",)

    def command(self, node: str, name: str, tasks: int = 1) -> list[str]:  # noqa: ARG002
        """Return what makes a process end with this one."""
        assert tasks == 1
        return [sys.executable, "-S", "-E", "-c", ENDS_WITH_US]

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return this process's environment, and more."""
        return dict(child_environment() or os.environ) | dict(more)

    def numbers(self) -> dict[str, str]:
        """Return the number of a process that is alone."""
        return {NUMBER_VARIABLE: "0"}

    def stranger(self, directory: str) -> str:  # noqa: ARG002
        """Say that there is none."""
        return "without an engine processes have no memory cgroup of their own here"

    def facts(self) -> dict[str, Any]:
        """Return nothing."""
        return {}
