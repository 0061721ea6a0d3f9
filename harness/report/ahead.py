"""The report at the end of a bench, by a process that is ready when it is wanted.

What a report needs takes longer to import than the report takes to write. So its process starts
when the last run is done, and imports while the topology is taken down.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_COMMAND = (sys.executable, "-m", "harness.report.ahead_process")
_LONGEST_S = 600


class ReportAhead:
    """Writes the report of one run directory."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Let the process get ready; it ends by itself if nothing is asked of it."""
        if self._process is None:
            self._process = subprocess.Popen(
                _COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                # Ctrl-C is for the bench; without it, this process reads the end of its input.
                start_new_session=True,
            )

    def write(self, directory: Path) -> str:
        """Write the report, and return one line: where it is, or why there is none.

        A bench is not at fault if its report is: nothing is raised.
        """
        self.start()
        assert self._process is not None
        try:
            said, _ = self._process.communicate(f"{directory}\n", timeout=_LONGEST_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            said = f"took longer than {_LONGEST_S} s"
        lines = said.strip().splitlines() or ["its process said nothing"]
        if self._process.returncode == 0:
            return lines[-1]
        return f"No report ({lines[-1]}): 'harness report {directory}' makes one"
