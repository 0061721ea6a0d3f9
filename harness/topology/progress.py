"""How far the runner of a topology is, by the files it writes."""

from __future__ import annotations

import time

from harness.results.directory import RunDirectory
from harness.results.intake import Intake
from harness.results.marks import STOP
from harness.results.shared import SharedFolder
from harness.sampling.marks import parse_marks

_TAIL_BYTES = 4096


class RunProgress:
    """Follows outcomes and marks of a topology, and takes its rows in as they come.

    Args:
        directory: the run directory.
        intake: of the topology.

    Attributes:
        rows: number of outcomes in the run directory.
        run_id: run of the last mark since the beginning; empty before the first.
    """

    def __init__(self, directory: RunDirectory, intake: Intake) -> None:
        self._directory = directory
        self._intake = intake
        self._marks_size = 0
        self._outcomes_size = -1
        self._changed = time.monotonic()
        self.rows = 0
        self.run_id = ""

    def idle_s(self) -> float:
        """Return for how many seconds the same run, or its absence, has been going on."""
        return time.monotonic() - self._changed

    def look(self) -> bool:
        """Look at the files; return whether there are more outcomes than at the last look."""
        shared = self._intake.shared
        size = shared.size(self._directory.outcomes.name)
        more = size != self._outcomes_size
        marks_size = shared.size(self._directory.marks.name)
        if more or marks_size != self._marks_size:
            self._intake.take()
        if more:
            self._outcomes_size = size
            self.rows = self.count()
            self._changed = time.monotonic()
        if marks_size != self._marks_size:
            self._marks_size = marks_size
            run_id = last_run(shared, self._directory)
            if run_id and run_id != self.run_id:
                self.run_id = run_id
                self._changed = time.monotonic()
        return more

    def count(self) -> int:
        """Return the number of outcomes on disk."""
        try:
            return max(0, self._directory.outcomes.read_bytes().count(b"\n") - 1)
        except FileNotFoundError:
            return 0


def last_run(shared: SharedFolder, directory: RunDirectory) -> str:
    """Return the run of the last complete mark of a topology, empty without one."""
    text = shared.read_end(directory.marks.name, _TAIL_BYTES)
    marks, _ = parse_marks(text)
    return next((mark.run_id for mark in reversed(marks) if mark.run_id and mark.mark != STOP), "")
