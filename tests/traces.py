"""Traces as the runner's container writes them, of processes that never were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.results.directory import RunDirectory
from harness.results.rows import RowWriter
from harness.results.schema import PeakRow
from tests.rundirs import MS, START_NS, TICK_NS, UNIX_OFFSET_NS, write_run_directory


def document(first_ms: int = 1000, size: int = 100_000_000) -> dict[str, Any]:
    """Return two payloads made by the workflow, of which the first goes at the third reading."""
    return {
        "schema_version": 1,
        "command": "python -m harness run",
        "pid": 7,
        "peak_bytes": 2 * size,
        "allocations": 2,
        "first_ms": first_ms,
        "step": 1,
        "readings": 3,
        "times_ms": [0, 10, 20],
        "heap_bytes": [size, 2 * size, size],
        "rss_bytes": [0, 0, 0],
        "frames": [
            ["payload", "/x/harness/workflow/tasks.py", 68],
            ["_run_stages", "/x/harness/workflow/workflow.py", 64],
        ],
        "peak": [[[0, 1], 2, 2 * size]],
        "alive": [[[0, 1], [[0, 2, 1, size], [1, None, 1, size]]]],
    }


# The samples of the topology's peak, as the directories of the tests have them.
PEAK_NS = START_NS + 50 * TICK_NS


def write_traced(path: Path, mode: str, size: int, kernel: int | None = None) -> RunDirectory:
    """Write traced runs into a bench's directory: two inputs in the runner at its peak.

    Args:
        path: of the bench.
        mode: of the one run.
        size: of an input.
        kernel: net peak by the kernel; two inputs by default.
    """
    kernel = 2 * size if kernel is None else kernel
    within = write_run_directory(
        path / "why", {mode: [200_000_000]}, sizes=(size, 500_000, 100_000)
    )
    run = f"0001-{mode}-1"
    trace = document((PEAK_NS + UNIX_OFFSET_NS) // MS - 10, size)
    within.traces.mkdir()
    (within.traces / f"{run}.runner-1.7.json").write_text(json.dumps(trace))
    low = 50_000_000
    row = PeakRow(run, "container", "runner-1", low + kernel, "max_usage", low, None, 0, 0)
    with RowWriter(within.peaks, PeakRow) as rows:
        rows.write(row)
    return within
