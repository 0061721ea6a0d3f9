"""Whose a topology is: the process that started it, and a note about it on disk.

Which process a bench's containers belong to, and whether it still runs.

A process number alone says little: numbers are used again, machines start again, and an engine may
serve several machines and process namespaces. So containers carry all that tells processes apart,
and what cannot be decided from here is never called dead.

A note on disk for each launched topology, from before its first container to after its last.

After the harness was killed or the machine started again, the note says what there may be: cgroups
carry no labels, and a run directory does not know that nobody writes to it any more.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from harness.core.environment import home_directory
from harness.core.files import write_whole

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


_APPLICATION = "workflow-memory-harness"


@dataclass(frozen=True)
class Record:
    """One launched topology.

    Attributes:
        project: its compose project.
        process: whose it is, as a label.
        run_dir: where its rows go.
        kept: whether it was left in place on purpose (``--keep``).
        engines: where else than at this machine's engine there may be something of it: each as
            DOCKER_HOST has it, and the folder of its TLS files.
    """

    project: str
    process: str
    run_dir: str
    kept: bool = False
    engines: tuple[tuple[str, str], ...] = ()

    def state(self) -> State:
        """Say whether its bench still runs."""
        process = BenchProcess.parse(self.process)
        return State.UNKNOWN if process is None else process.state()


def directory() -> Path:
    """Return where the notes are: the user's own state, which survives a restart.

    Raises:
        OSError: if the user has no home.
    """
    home = os.environ.get("XDG_STATE_HOME") or Path(home_directory(), ".local", "state")
    return Path(home) / _APPLICATION / "topologies"


def write(record: Record) -> None:
    """Write a note. A machine where that is impossible still has the labels."""
    try:
        path = directory() / f"{record.project}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(record)) + "\n")
    except OSError:
        return


def remove(project: str) -> None:
    """Remove a project's note, if there is one."""
    try:
        (directory() / f"{project}.json").unlink(missing_ok=True)
    except OSError:
        return


def parse(text: str) -> Record | None:
    """Return a note's content; None if it is none of ours."""
    try:
        found = json.loads(text)
        engines = tuple((host, folder) for host, folder in found.pop("engines", ()))
        record = Record(**found, engines=engines)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    strings = (record.project, record.process, record.run_dir, *(w for e in engines for w in e))
    if not all(isinstance(cell, str) for cell in strings) or not isinstance(record.kept, bool):
        return None
    return record


def all_records() -> list[Record]:
    """Return all notes of this user, by project."""
    found = []
    try:
        paths = sorted(directory().glob("*.json"))
    except OSError:
        return []
    for path in paths:
        try:
            record = parse(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        # A note's name must be its project's: what it says is going to be removed.
        if record is not None and record.project == path.stem:
            found.append(record)
    return found


def noted() -> list[Record]:
    """Return the notes of benches that are gone, without asking an engine."""
    return [record for record in all_records() if record.state() == State.ENDED]


def notice(found: Sequence[Record]) -> str:
    """Return one line about benches that are gone and did not clean up; empty without any."""
    if not found:
        return ""
    names = ", ".join(record.project for record in found[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    kept = " (kept)" if all(record.kept for record in found) else ""
    return (
        f"left by a bench that has ended{kept}: {names}{more}, last in {found[-1].run_dir};"
        " 'harness clean --dry-run' lists it, 'harness clean' removes it"
    )
