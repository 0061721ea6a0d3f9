"""The process of :mod:`harness.report.ahead`: imports, waits for a run directory, reports on it."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.analysis.groups import group_runs
from harness.analysis.readers import read_session
from harness.core.errors import HarnessError
from harness.report.write import write_report


def main() -> int:
    """Read one line, the run directory, and write its report."""
    line = sys.stdin.readline().rstrip("\n")
    if not line:
        return 0
    directory = Path(line)
    try:
        session = read_session(directory)
        written = write_report(directory, [session], group_runs([session]))
    except HarnessError as error:
        print(error)  # noqa: T201
        return error.exit_code
    print(f"Report: {written.page}")  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
