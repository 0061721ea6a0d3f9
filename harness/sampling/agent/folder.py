"""A topology's folders on the engine's machine, where home cannot see them.

The agent makes them in a volume of its own: ``shared/NAME``, which the topology's containers may
write, ``replies/NAME``, by which the agent answers its runner, and ``inputs/NAME``, what home hands
to the containers. What the containers write is sent home as it grows, byte for byte; it is read as
what it is, hostile.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.results.directory import RunDirectory
from harness.results.shared import SharedFolder
from harness.results.traces import trace_files
from harness.sampling.cgroup.scopes import acting_as

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PIECE_BYTES = 1 << 20
# Home takes no rows of a larger file.
_MOST_BYTES = 16 << 30
# Reports of samplers: as many as containers, none longer than this.
_MOST_REPORTS = 2_000
_WHOLE_BYTES = 4 << 20
_REPORT = re.compile(r"[\w.@-]{1,200}\.json", re.ASCII)


class TopologyFolder:
    """The folders of one topology.

    Args:
        root: of the volume, as the agent sees it.
        name: of the topology.
        uid, gid: whom its containers run as.
        rows: names of the files in the shared folder that only grow, the runner's outcomes first.
        wholes: names of those that are written anew.
        send: takes a message and its bytes.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        user: tuple[int, int],
        files: tuple[Sequence[str], Sequence[str]],
        send: Callable[[dict[str, Any], bytes], None],
    ) -> None:
        self._name = name
        self._user = user
        self._rows, self._wholes = files
        self._send = send
        self._sent: dict[str, int] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self.shared = SharedFolder(root / "shared" / name)
        self._replies = RunDirectory(root / "replies" / name)
        self._inputs = root / "inputs" / name

    def make(self, inputs: Mapping[str, bytes]) -> None:
        """Make them, and write what home hands over. Raises OSError."""
        above = self.shared.path.parent
        above.mkdir(exist_ok=True)
        above.chmod(0o777)  # the volume's own directory lets nobody in
        with acting_as(*self._user):
            self.shared.path.mkdir(mode=0o755)
            self.shared.path.chmod(0o755)
        for path in (self._replies.path, self._inputs):
            path.mkdir(parents=True)
        for reply in (self._replies.marks_ack, self._replies.settled):
            _write(reply, b"")
        for name, data in inputs.items():
            path = self._inputs / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, data)

    def append(self, name: str, text: str) -> None:
        """Add a line to a file of the shared folder that is there."""
        with acting_as(*self._user), suppress(OSError):
            self.shared.append(name, text.encode())

    def mark(self, line: str) -> None:
        """Write down a mark of a runner on another node."""
        with acting_as(*self._user), suppress(OSError):
            self.shared.append(RunDirectory(Path()).marks.name, line.encode(), create=True)

    def send_new(self) -> None:
        """Send home what is new.

        The outcome of a run is its last row: how far outcomes go is looked up first, so that home
        has all rows of a run of which it has the outcome.
        """
        sizes = {self._rows[0]: self.shared.size(self._rows[0])} if self._rows else {}
        for name in (*self._rows[1:], *self._rows[:1]):
            self._send_rows(name, sizes.get(name))
        for name in (*self._wholes, *self._reports(), *trace_files(self.shared)):
            self._send_whole(name)

    def _reports(self) -> list[str]:
        folder = RunDirectory(Path()).fragments.name
        try:
            names = os.listdir(self.shared.path / folder)  # noqa: PTH208  # no objects for each
        except OSError:
            return []
        names = [name for name in names if _REPORT.fullmatch(name)]
        return [f"{folder}/{name}" for name in sorted(names)[:_MOST_REPORTS]]

    def _send_rows(self, name: str, size: int | None) -> None:
        sent = self._sent.get(name, 0)
        end = self.shared.size(name) if size is None else size
        if not sent < end <= _MOST_BYTES:
            return
        try:
            descriptor = self.shared.open(name)
        except OSError:
            return
        with os.fdopen(descriptor, "rb") as file:
            file.seek(sent)
            while sent < end:
                piece = file.read(min(_PIECE_BYTES, end - sent))
                if not piece:
                    break
                self._send({"file": self._name, "name": name, "at": sent}, piece)
                sent += len(piece)
                if len(piece) == _PIECE_BYTES and b"\n" not in piece:
                    # No row is that long: home takes nothing more of this file.
                    sent = _MOST_BYTES
        self._sent[name] = sent

    def _send_whole(self, name: str) -> None:
        try:
            descriptor = self.shared.open(name)
        except OSError:
            return
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            stamp = (found.st_mtime_ns, found.st_size)
            if self._seen.get(name) == stamp or found.st_size > _WHOLE_BYTES:
                return
            self._seen[name] = stamp
            self._send({"file": self._name, "name": name, "at": None}, file.read(_WHOLE_BYTES))

    def remove(self) -> None:
        """Remove them."""
        with acting_as(*self._user):
            shutil.rmtree(self.shared.path, ignore_errors=True)
        for path in (self.shared.path, self._replies.path, self._inputs):
            shutil.rmtree(path, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    """Write a file that its container's user can read and nobody outside reaches."""
    path.write_bytes(data)
    path.chmod(0o644)
