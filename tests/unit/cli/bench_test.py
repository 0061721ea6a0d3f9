"""What ``harness bench`` says without starting anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.cli import demo
from harness.cli.bench import main
from harness.core.errors import UsageError

SNAPSHOTS = Path(__file__).parent / "snapshots"
EXAMPLE = [
    *("--executor", "dask", "--dask-workers", "4", "--ps-connector", "redis"),
    *("--stage-task-counts", "1", "3", "1", "1", "--stage-repeat", "2", "--task-sleep", "1.0"),
    *("--stage-bytes-sizes", "100MB", "50MB", "50MB", "50MB", "1KB"),
]


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("dry-run", ["--repeat", "2"]),
        ("dry-run-long", ["--repeat", "300", "--isolate", "run", "--run-timeout", "0"]),
    ],
)
def test_a_dry_run_says_what_would_be_started(
    name: str, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Set UPDATE_SNAPSHOTS=1 to write the files anew."""
    assert main(["--dry-run", *EXAMPLE, *flags]) == 0
    printed = capsys.readouterr().out
    snapshot = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        snapshot.write_text(printed)
    assert printed == snapshot.read_text()


def test_a_payload_that_redis_cannot_hold_is_refused_with_the_reason() -> None:
    sizes = ["--stage-bytes-sizes", "1GB", "1KB", "1KB", "1KB", "1KB"]
    with pytest.raises(UsageError, match=r"512 MiB.*--ps-connector file"):
        main(["--dry-run", *EXAMPLE, *sizes])
    assert main(["--dry-run", *EXAMPLE, *sizes, "--data-management", "none"]) == 0
    assert main(["--dry-run", *EXAMPLE, *sizes, "--ps-connector", "file"]) == 0


def test_only_a_benchs_directory_can_be_resumed(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match=f"--resume {directory}"):
            main(["--resume", str(directory)])
    (tmp_path / "bench.json").write_text('{"plan": {}, "images": []}')
    with pytest.raises(UsageError, match=r"bench\.json is not what a bench writes"):
        main(["--resume", str(tmp_path)])
    with pytest.raises(UsageError, match="leave out --repeat"):
        main(["--resume", str(tmp_path), "--repeat", "2"])


def test_the_demo_is_a_bench_of_all_modes_and_takes_its_flags(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert demo.main(["--dry-run", "--repeat", "2"]) == 0
    printed = capsys.readouterr().out
    assert "Runs: 8\n" in printed
    assert "worker x 4" in printed
    for mode in ("none", "default-proxy", "manual-proxy", "owned-proxy"):
        assert f"-{mode}-2 in topology" in printed
