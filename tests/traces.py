"""Traces as the runner's container writes them, of processes that never were."""

from __future__ import annotations

from typing import Any


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
