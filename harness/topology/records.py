"""A note on disk for each launched topology, from before its first container to after its last.

After the harness was killed or the machine started again, the note says what there may be: cgroups
carry no labels, and a run directory does not know that nobody writes to it any more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.core.environment import home_directory
from harness.core.files import write_whole
from harness.topology.processes import BenchProcess, State

_APPLICATION = "workflow-memory-harness"


@dataclass(frozen=True)
class Record:
    """One launched topology.

    Attributes:
        project: its compose project.
        process: whose it is, as a label.
        run_dir: where its rows go.
        kept: whether it was left in place on purpose (``--keep``).
    """

    project: str
    process: str
    run_dir: str
    kept: bool = False

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
        record = Record(**found)
    except (ValueError, TypeError, RecursionError):
        return None
    strings = (record.project, record.process, record.run_dir)
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
