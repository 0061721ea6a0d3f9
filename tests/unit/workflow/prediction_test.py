from __future__ import annotations

from harness.connectors import Held
from harness.plan import Workload
from harness.workflow.prediction import held_at_end, made

PAPER = Workload(
    stage_task_counts=(32, 1),
    stage_bytes_sizes=(100_000_000, 10_000_000, 1_000_000),
    stage_repeat=8,
    task_sleep=5.0,
)


def test_the_papers_arithmetic() -> None:
    assert made(PAPER) == Held(8 * (32 + 32 + 1), 28_168_000_000)


def test_only_default_proxy_keeps_objects() -> None:
    assert held_at_end(PAPER, "default-proxy") == made(PAPER)
    for mode in ("none", "manual-proxy", "owned-proxy"):
        assert held_at_end(PAPER, mode) == Held(0, 0)
