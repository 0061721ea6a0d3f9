"""Of which kinds of memory a peak is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.analysis.figures import group_runs
from harness.analysis.kinds import PartReadings, shares_at
from harness.analysis.readers import read_session
from tests.rundirs import write_run_directory

MB = 1_000_000
MS = 1_000_000


def readings(*rows: tuple[int, int, int]) -> PartReadings:
    """Return readings of (milliseconds, MB of processes, MB of page cache)."""
    times = np.array([t * MS for t, _, _ in rows], np.int64)
    return PartReadings(times, np.array([(a * MB, f * MB, 0, 0) for _, a, f in rows], np.int64))


def test_the_fullest_reading_near_the_peak_counts_less_what_was_there_before() -> None:
    found = readings((0, 50, 10), (200, 80, 10), (400, 130, 30), (600, 50, 90), (5000, 900, 10))
    shares = shares_at([found], 390 * MS, {"anon_bytes": 50.0 * MB, "file_bytes": 10.0 * MB})
    assert shares == pytest.approx({"process memory": 0.8, "page cache": 0.2})


def test_containers_of_a_service_add_up() -> None:
    a = readings((0, 0, 0), (200, 30, 0))
    b = readings((0, 0, 0), (200, 0, 10))
    assert shares_at([a, b], 200 * MS, {}) == {"process memory": 0.75, "page cache": 0.25}


def test_what_was_not_read_near_the_peak_is_not_guessed() -> None:
    far = readings((0, 50, 10), (200, 80, 10))
    assert shares_at([far], 3000 * MS, {}) == {}
    assert shares_at([], 0, {}) == {}
    assert (
        shares_at(
            [readings((0, 1, 1), (200, 1, 1))], 0, {"anon_bytes": 9.0 * MB, "file_bytes": 9.0 * MB}
        )
        == {}
    )


def test_a_report_knows_the_kinds_at_the_peak(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [40 * MB]})
    path = directory.memory("cgroup")
    lines = [f"{line},,," for line in path.read_text().splitlines()]
    lines[0] = "run_id,container,t_mono_ns,t_unix_ns,usage_bytes,anon_bytes,file_bytes,shmem_bytes"
    # Redis at its peak: 30 MB of heap and 10 of page cache beyond its 90 and 10 before.
    peak_at = next(n for n, line in enumerate(lines) if ",50000000,," in line and "redis-1" in line)
    for n, parts in ((peak_at - 30, "90000000,10000000,0"), (peak_at, "120000000,20000000,0")):
        cells = lines[n].split(",")[:5]
        lines[n] = ",".join([*cells, parts])
    path.write_text("\n".join(lines) + "\n")
    (group,) = group_runs([read_session(directory.path)])
    assert group.kinds_at_peak["redis"] == pytest.approx(
        {"process memory": 30 * MB, "page cache": 10 * MB}
    )
    assert group.kinds_at_peak["worker"] == {"": 0.0}
