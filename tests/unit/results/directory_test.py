from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.results.directory import create

NOW = datetime(2026, 1, 2, 3, 4, 5)


def test_the_references_name_and_two_at_once_never_share(tmp_path: Path) -> None:
    names = [create(str(tmp_path), "results.csv", "log.txt", NOW).path.name for _ in range(3)]
    assert names == [
        "workflow-memory-2026-01-02-03-04-05",
        "workflow-memory-2026-01-02-03-04-05-2",
        "workflow-memory-2026-01-02-03-04-05-3",
    ]


def test_the_memory_file_is_named_after_the_results_file(tmp_path: Path) -> None:
    directory = create(str(tmp_path), "mine.csv", "log.txt")
    assert directory.host_memory.name == "mine-memory.csv"


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.touch()
    with pytest.raises(UsageError, match=r"--run-dir .*file.*cannot write there"):
        create(str(blocker), "results.csv", "log.txt")
    with pytest.raises(UsageError, match="--run-dir /proc/runs"):
        create("/proc/runs", "results.csv", "log.txt")
