"""Where samplers on a worker's host leave their files until they are collected.

One directory for each host (or container) and invocation, in it one for each sampled process:
its rows, its sampler's report, and ``who.json``, so that whoever can still read the directory
can tell whose rows a dead worker's are. Small enough for any disk: 10 kB for 100 rows.

Rows that a sampler wrote elsewhere, made rows of the run directory.

A sampler on a worker knows neither the run in progress nor the name the worker has here, and its
clock may be another host's. Its lines get all three when they arrive.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from bisect import bisect_right
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.clock import clock_id
from harness.core.files import write_whole
from harness.results.conversation import RUN_END, RUN_START
from harness.sampling.clocks import offset_at
from harness.sampling.inside.sampler import SAMPLES_FILE
from harness.sampling.report import FRAGMENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.results.schema import MarkRow
    from harness.sampling.clocks import Offset


LEASE = "lease"
LEASE_S = 600.0
"""After this many seconds without a sign of whoever collects, samplers end by themselves."""

_WHO = "who.json"
_CHUNK_BYTES = 1 << 20


@dataclass
class Sampled:
    """A sampled process.

    Attributes:
        host: its host's name.
        pid: its number there.
        clock: see ``clock_id``.
        workers: name and address of each worker in it.
        job, node: the Slurm job that it is in, and what Slurm calls the host; empty without.
    """

    host: str
    pid: int
    clock: str
    workers: list[tuple[str, str]] = field(default_factory=list)
    job: str = ""
    node: str = ""

    @classmethod
    def here(cls, pid: int) -> Sampled:
        """Describe a process of this host, which is in the same job as this one."""
        job = os.environ.get("SLURM_JOB_ID", "")
        node = os.environ.get("SLURMD_NODENAME", "")
        return cls(socket.gethostname(), pid, clock_id(), job=job, node=node)


@dataclass(frozen=True)
class Piece:
    """What is new of one process: whole lines of its rows, and its sampler's report at the end."""

    sampled: Sampled
    rows: bytes
    report: dict[str, Any] | None


def spool(token: str) -> Path:
    """Return the directory of an invocation on this host; every user has one of his own."""
    return Path(tempfile.gettempdir()) / f"workflow-memory-harness-{token}-{os.getuid()}"


def open_spool(token: str, process: str, sampled: Sampled) -> Path:
    """Make the directory of one process. Raises OSError if that cannot be."""
    own = spool(token) / process
    own.mkdir(parents=True, mode=0o700, exist_ok=True)
    touch_spool(token)
    write_who(own, sampled)
    return own


def write_who(own: Path, sampled: Sampled) -> None:
    """Say whose rows the directory holds, whole or not at all."""
    write_whole(own / _WHO, json.dumps(asdict(sampled)))


def touch_spool(token: str) -> None:
    """Tell this host's samplers that somebody still collects."""
    if spool(token).is_dir():
        (spool(token) / LEASE).touch()


def spool_place(token: str) -> str:
    """Return what processes share if and only if they share the directory."""
    found = spool(token).stat()
    return f"{clock_id()} {found.st_dev}:{found.st_ino}"


def read_spool(token: str, offsets: dict[str, int]) -> dict[str, Piece]:
    """Return what came after the given offset (bytes) for each process, at most 1 MiB each."""
    touch_spool(token)
    pieces = {}
    for own in sorted(path for path in spool(token).iterdir() if path.is_dir()):
        piece = read_piece(own, offsets.get(own.name, 0))
        if piece is not None:
            pieces[own.name] = piece
    return pieces


def read_piece(own: Path, offset: int) -> Piece | None:
    """Return what came after the offset (bytes) in one process's directory; None without one."""
    try:
        who = json.loads((own / _WHO).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # just being made
    who["workers"] = [tuple(worker) for worker in who["workers"]]
    return Piece(Sampled(**who), _rows(own, offset), _report(own))


def _rows(own: Path, offset: int) -> bytes:
    try:
        with (own / SAMPLES_FILE).open("rb") as file:
            file.seek(offset)
            data = file.read(_CHUNK_BYTES)
    except FileNotFoundError:
        return b""
    return data[: data.rfind(b"\n") + 1]


def _report(own: Path) -> dict[str, Any] | None:
    for path in (own / FRAGMENTS).glob("*.json"):
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    return None


def remove_spool(token: str) -> None:
    """Remove the directory and all in it."""
    shutil.rmtree(spool(token), ignore_errors=True)


def remove_if_empty(directory: Path) -> None:
    """Remove an invocation's directory if no process has one in it any more."""
    with suppress(OSError):
        if not any(path.is_dir() for path in directory.iterdir()):
            shutil.rmtree(directory, ignore_errors=True)


class Runs:
    """Which run was in progress when, by the marks given so far."""

    def __init__(self) -> None:
        self._since: list[int] = []
        self._run_ids: list[str] = []

    def add(self, marks: Iterable[MarkRow]) -> None:
        """Take marks in the order they were set."""
        for mark in marks:
            if mark.mark in {RUN_START, RUN_END}:
                self._since.append(mark.t_mono_ns)
                self._run_ids.append(mark.run_id if mark.mark == RUN_START else "")

    def at(self, t_mono_ns: int) -> str:
        """Return the run in progress at a moment, empty between runs."""
        index = bisect_right(self._since, t_mono_ns)
        return self._run_ids[index - 1] if index else ""


def adopt_rows(
    data: bytes,
    container: str,
    runs: Runs,
    clocks: tuple[Offset, Offset] | None,
    unix_minus_mono_ns: int,
) -> list[str]:
    """Return a sampler's whole lines as lines of ``memory-inside.csv``; its header is dropped.

    Args:
        data: lines of a sampler's file.
        container: the worker's name in the run directory.
        runs: the runs so far.
        clocks: offsets measured before and after these rows, ``None`` where the clock is ours.
        unix_minus_mono_ns: our CLOCK_REALTIME minus our CLOCK_MONOTONIC; used with ``clocks``.
    """
    lines = []
    for line in data.decode("ascii", "replace").splitlines():
        cells = line.split(",", 4)
        if len(cells) < 5 or not cells[2].isdigit():
            continue
        t_mono_ns, t_unix = int(cells[2]), cells[3]
        if clocks is not None:
            t_mono_ns += offset_at(t_mono_ns, *clocks)
            t_unix = str(t_mono_ns + unix_minus_mono_ns)
        lines.append(f"{runs.at(t_mono_ns)},{container},{t_mono_ns},{t_unix},{cells[4]}\n")
    return lines
