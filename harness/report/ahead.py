"""The tables and the report at the end of a bench, by a process that is ready when it is wanted.

What figures need takes longer to import than figures take to make. So their process starts when
the last run is done, and imports while the topology is taken down. It also keeps the bench safe: a
bench is not at fault if its report is.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness.core.environment import child_environment
from harness.report.terminal import PLAIN, Screen, paragraph, style_of

_COMMAND = (sys.executable, "-m", "harness.report.ahead")
_LONGEST_S = 600
_WITH_PAGE, _TABLES = "report", "tables"


class ReportAhead:
    """Says what one run directory holds, and writes its report.

    Args:
        page: whether to write the report too, and not to say the tables only.
    """

    def __init__(self, *, page: bool) -> None:
        self._page = page
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
                env=child_environment(),
                # Ctrl-C is for the bench; without it, this process reads the end of its input.
                start_new_session=True,
            )

    def write(self, directory: Path, screen: Screen = PLAIN) -> tuple[str, str]:
        """Write the report, and return the tables and one line: where it is, or why there is none.

        The tables are for a screen. Nothing is raised.
        """
        self.start()
        assert self._process is not None
        word = _WITH_PAGE if self._page else _TABLES
        try:
            said, _ = self._process.communicate(
                f"{word} {screen} {directory}\n", timeout=_LONGEST_S
            )
        except subprocess.TimeoutExpired:
            self._process.kill()
            said = f"took longer than {_LONGEST_S} s"
        if self._process.returncode == 0:
            tables, _, place = said.rstrip("\n").rpartition("\n")
            return (tables, place) if self._page else (said.rstrip("\n"), "")
        lines = said.strip().splitlines() or ["its process said nothing"]
        return "", f"No report ({lines[-1]}): 'harness report {directory}' makes one"


def main() -> int:
    """Read one line, what is wanted and the run directory, and do it."""
    from harness.analysis.figures import group_runs  # noqa: PLC0415
    from harness.analysis.grades import findings  # noqa: PLC0415
    from harness.analysis.readers import read_session  # noqa: PLC0415
    from harness.core.errors import HarnessError  # noqa: PLC0415
    from harness.report.story import story  # noqa: PLC0415
    from harness.report.tables import as_text, tables  # noqa: PLC0415
    from harness.report.write import write_report  # noqa: PLC0415

    word, _, rest = sys.stdin.readline().rstrip("\n").partition(" ")
    shown_on, _, name = rest.partition(" ")
    if not name:
        return 0
    screen = Screen.parse(shown_on)
    directory = Path(name)
    try:
        session = read_session(directory)
        groups = group_runs([session])
        for table in tables(groups):
            print(f"{as_text(table, screen)}\n")  # noqa: T201
        for found in findings(session):
            print(paragraph(str(found), screen, style_of(str(found))))  # noqa: T201
        said = story(groups)
        if said:
            print(f"\n{paragraph(said, screen, 'bold')}")  # noqa: T201
        if word == _WITH_PAGE:
            written = write_report(directory, [session], groups)
            print(f"Report: {written.page}")  # noqa: T201
    except HarnessError as error:
        print(error)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
