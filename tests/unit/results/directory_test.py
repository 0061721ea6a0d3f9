from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.results.directory import create, name_refusal

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


@pytest.mark.parametrize(
    ("csv", "log"),
    [
        ("results.csv", "log.txt"),
        ("my results.csv", "run.log"),
    ],
)
def test_a_user_may_choose_other_names(csv: str, log: str) -> None:
    assert name_refusal(csv, log) is None


@pytest.mark.parametrize(
    ("csv", "log", "flag"),
    [
        ("results.csv", "marks.csv", "--log-file"),
        ("results.csv", "Marks.CSV", "--log-file"),
        ("results.csv", "results-memory.csv", "--log-file"),
        ("a.csv", "a-memory.csv", "--log-file"),
        ("results.csv", "manifest.json", "--log-file"),
        ("results.csv", "results.csv", "--log-file"),
        ("results.csv", "RESULTS.csv", "--log-file"),
        ("results.csv", "../log.txt", "--log-file"),
        ("results.csv", ".settled", "--log-file"),
        ("results.csv", "", "--log-file"),
        ("results.csv", "log.txt\n", "--log-file"),
        ("results", "log.txt", "--csv-file"),
        ("results.CSV", "log.txt", "--csv-file"),
        ("r\u00e9sultats.csv", "log.txt", "--csv-file"),
        ("memory-cgroup.csv", "log.txt", "--csv-file"),
        ("outcomes.csv", "log.txt", "--csv-file"),
        (".csv", "log.txt", "--csv-file"),
        ("a/b.csv", "log.txt", "--csv-file"),
    ],
)
def test_names_of_ours_are_reserved(csv: str, log: str, flag: str) -> None:
    refusal = name_refusal(csv, log)
    assert refusal is not None
    assert refusal.startswith(flag)
