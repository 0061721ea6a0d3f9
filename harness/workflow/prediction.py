"""What a workload must leave in the connector, from the flags alone (pure)."""

from __future__ import annotations

from harness.connectors import Held
from harness.plan import Mode, Workload


def made(workload: Workload) -> Held:
    """Return how many objects, and how many payload bytes, one workflow makes in all.

    ``stage_task_counts[0]`` objects of start data, then one result for each task, all of it
    ``stage_repeat`` times. With the flags of the paper's experiment (TPDS 2024) that is
    28.168 GB.
    """
    counts = (workload.stage_task_counts[0], *workload.stage_task_counts)
    sizes = workload.stage_bytes_sizes
    return Held(
        workload.stage_repeat * sum(counts),
        workload.stage_repeat * sum(c * s for c, s in zip(counts, sizes, strict=True)),
    )


def held_at_end(workload: Workload, mode: str) -> Held:
    """Return what the connector holds when the workflow ends, before any clean-up.

    Only ``default-proxy`` keeps objects: nothing removes them inside the run.
    """
    return made(workload) if mode == Mode.DEFAULT_PROXY else Held(0, 0)
