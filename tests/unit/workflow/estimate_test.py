from __future__ import annotations

import pytest

from harness.plan import Plan
from harness.plan.estimate import estimate, makespan_s, run_timeout_s


def plan(**workload: object) -> Plan:
    return Plan.model_validate(
        {
            "executor_name": "dask",
            "executor": {"workers": 4},
            "connector_name": "file",
            "connector": {"directory": "/harness/store"},
            "workload": {
                "modes": ["default-proxy"],
                "stage_task_counts": [1, 8, 1],
                "stage_bytes_sizes": [100, 100, 100, 100],
                "task_sleep": 2.0,
                **workload,
            },
            "general": {},
            "topology": {},
        }
    )


def test_sleeping_comes_in_waves() -> None:
    # 1 + 2 + 1 waves on four workers.
    assert 8.0 <= makespan_s(plan().workload, 4) < 8.5
    assert 20.0 <= makespan_s(plan().workload, 1) < 20.5


def test_what_is_kept_and_what_is_under_way_both_count() -> None:
    small = estimate(plan(), 6, 1)
    large = estimate(plan(stage_bytes_sizes=[10**9] * 4, stage_repeat=3), 6, 1)
    assert large.store_bytes == 33 * 10**9
    assert large.peak_bytes > small.peak_bytes + 33 * 10**9
    assert large.total_s > small.total_s


def test_a_run_is_given_up_long_after_it_should_have_ended() -> None:
    assert run_timeout_s(plan()) > 120 + 5 * 8
    assert run_timeout_s(plan().traced()) >= 2 * run_timeout_s(plan())
    given = plan()
    forever = given.model_copy(
        update={"general": given.general.model_copy(update={"run_timeout": 0.0})}
    )
    assert run_timeout_s(forever) == 0


def test_every_process_of_a_worker_container_counts_and_every_thread_takes_a_task() -> None:
    def of(**executor: object) -> Plan:
        dumped = plan().model_dump()
        dumped["executor"] |= executor
        return Plan.model_validate(dumped)

    alone, many = plan(), of(nworkers=3, nanny=True, nthreads=2)
    assert (alone.executor.worker_count, many.executor.worker_count) == (4, 24)
    # Three workers and a process of nannies in each of four containers, instead of one worker.
    more = estimate(many, 6, 1).peak_bytes - estimate(alone, 6, 1).peak_bytes
    assert 4 * 3 * 80_000_000 <= more < 4 * 3 * 80_000_000 + 100_000
    assert estimate(many, 6, 1).run_s == pytest.approx(estimate(alone, 6, 1).run_s - 2.0)


def test_a_limit_that_was_given_is_of_a_run_that_is_not_traced() -> None:
    given = plan()
    limited = given.model_copy(
        update={"general": given.general.model_copy(update={"run_timeout": 30.0})}
    )
    assert run_timeout_s(limited) == 30
    assert run_timeout_s(limited.traced()) == 2 * 30 + 240
    forever = given.model_copy(
        update={"general": given.general.model_copy(update={"run_timeout": 0.0})}
    )
    assert run_timeout_s(forever.traced()) == 0
