"""Plans of benches, for tests that start none."""

from __future__ import annotations

from typing import Any

from harness.plan import Plan
from harness.workloads.stages import Stages


def bench_plan(*, workers: int = 2, repeat: int = 2, **topology: Any) -> Plan:
    """Return a plan of two modes on Dask workers with Redis."""
    return Plan.model_validate(
        {
            "executor_name": "dask",
            "executor": {"workers": workers},
            "connector_name": "redis",
            "connector": {"host": "redis", "port": 6379},
            "workload": {
                "modes": ["none", "default-proxy"],
                "stage_task_counts": [2, 1],
                "stage_bytes_sizes": [1000, 2000, 3000],
                "stage_repeat": 1,
                "task_sleep": 0.0,
            },
            "general": {"repeat": repeat},
            "topology": topology,
        }
    )


def stages_of(plan: Plan) -> Stages:
    """Return a plan's workload, which is stages."""
    assert isinstance(plan.workload, Stages)
    return plan.workload
