"""Which process a bench's containers belong to, and whether it still runs.

A process number alone says little: numbers are used again, machines start again, and an engine may
serve several machines and process namespaces. So containers carry all that tells processes apart,
and what cannot be decided from here is never called dead.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

_PROC = Path("/proc")
_UNKNOWN = "-"


class State(StrEnum):
    """Whether a bench's process still runs."""

    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class BenchProcess:
    """A process, for good.

    Attributes:
        host: the machine's name.
        boot: the kernel's id of this start of the machine.
        namespace: of the process number.
        pid: process number.
        started: clock ticks between the start of the machine and that of the process.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    started: int

    @classmethod
    def current(cls) -> Self:
        """Return this process."""
        pid = os.getpid()
        return cls(socket.gethostname(), _boot(), _namespace(), pid, _started(pid) or 0)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return what ``str`` made a text of; None for anything else."""
        cells = text.split("/")
        if len(cells) != 5 or not all(_is_number(cell) for cell in cells[3:]):
            return None
        return cls(cells[0], cells[1], cells[2], int(cells[3]), int(cells[4]))

    def __str__(self) -> str:
        """Return it as the value of a label."""
        cells = (self.host, self.boot, self.namespace, self.pid, self.started)
        return "/".join(str(cell).replace("/", "_") for cell in cells)

    def state(self) -> State:
        """Say whether it still runs; unknown if that cannot be told from here."""
        if self.host != socket.gethostname().replace("/", "_") or _UNKNOWN in (self.boot, _boot()):
            return State.UNKNOWN
        if self.boot != _boot():
            return State.ENDED  # this machine has started again since
        if self.namespace != _namespace():
            return State.UNKNOWN
        return State.RUNNING if _started(self.pid) == self.started else State.ENDED


def parse_started(stat: str) -> int | None:
    """Return field 22 of ``/proc/<pid>/stat`` (proc(5)); None for a zombie and for other texts.

    The second field is the program's name in parentheses, which may hold anything.
    """
    fields = stat.rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in "ZX" or not _is_number(fields[19]):
        return None
    return int(fields[19])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _started(pid: int) -> int | None:
    try:
        return parse_started(
            (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        )
    except OSError:
        return None


def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return _UNKNOWN


def _namespace() -> str:
    try:
        return str((_PROC / "self/ns/pid").stat().st_ino)
    except OSError:
        return _UNKNOWN
