from __future__ import annotations

from itertools import pairwise

import pytest

from harness.plan import Plan
from harness.plan.schedule import looks, remaining, topologies, with_warm_ups


def plan(order: str = "given", isolate: str | None = None, seed: int = 0) -> Plan:
    return Plan.model_validate(
        {
            "executor_name": "thread",
            "executor": {},
            "connector_name": "file",
            "connector": {"directory": "/nowhere"},
            "workload": {
                "modes": ["none", "default-proxy", "owned-proxy"],
                "stage_task_counts": [1],
                "stage_bytes_sizes": [1, 1],
                "task_sleep": 0.0,
                "seed": seed,
            },
            "general": {"repeat": 2, "order": order},
            "topology": {"isolate": isolate} if isolate else None,
        }
    )


def modes(of: Plan) -> list[str]:
    return [f"{run.mode[0]}{run.repetition}" for run in of.runs()]


def test_orders() -> None:
    assert modes(plan()) == ["n1", "n2", "d1", "d2", "o1", "o2"]
    assert modes(plan("interleaved")) == ["n1", "d1", "o1", "n2", "d2", "o2"]
    shuffled = modes(plan("shuffled"))
    assert sorted(shuffled) == sorted(modes(plan()))
    assert shuffled == modes(plan("shuffled"))
    assert any(modes(plan("shuffled", seed=seed)) != shuffled for seed in range(1, 5))


def test_a_runs_number_is_its_place_in_the_order() -> None:
    for order in ("given", "interleaved", "shuffled"):
        assert [int(run.run_id[:4]) for run in plan(order).runs()] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("order", "isolate", "expected"),
    [
        ("given", None, [range(6)]),
        ("given", "none", [range(6)]),
        ("given", "mode", [range(2), range(2, 4), range(4, 6)]),
        ("given", "run", [range(place, place + 1) for place in range(6)]),
        ("interleaved", "mode", [range(place, place + 1) for place in range(6)]),
        ("interleaved", "none", [range(6)]),
    ],
)
def test_topologies(order: str, isolate: str | None, expected: list[range]) -> None:
    assert topologies(plan(order, isolate)) == expected


def test_a_fresh_topology_for_each_mode_is_the_default() -> None:
    found = Plan.model_validate(plan().model_dump() | {"topology": {}})
    assert len(topologies(found)) == 3


def test_warm_ups_precede_the_first_run_of_each_mode() -> None:
    runs = plan("interleaved").runs()
    found = with_warm_ups(runs, 1)
    assert [run.mode for run in found if run.warm_up] == ["none", "default-proxy", "owned-proxy"]
    assert [run for run in found if not run.warm_up] == runs
    assert len({run.run_id for run in found}) == len(found)
    for warm_up, first in pairwise(found):
        if warm_up.warm_up:
            assert warm_up.mode == first.mode


def test_what_is_done_is_not_done_again() -> None:
    of = plan(isolate="none")
    ids = [run.run_id for run in of.runs()]
    assert remaining(of, frozenset()) == topologies(of)
    assert remaining(of, frozenset(ids)) == []
    assert remaining(of, {ids[0], ids[3]}) == [range(1, 3), range(4, 6)]


def until(repeat: int, isolate: str = "none") -> Plan:
    found = plan("interleaved", isolate)
    assert found.topology is not None
    topology = found.topology.model_copy(update={"until": 0.05})
    general = found.general.model_copy(update={"repeat": repeat})
    return found.model_copy(update={"topology": topology, "general": general})


def test_a_topology_ends_where_until_looks() -> None:
    assert looks(until(20)) == [5, 8, 12, 18, 20]
    assert looks(plan("interleaved", "none")) == []
    assert topologies(until(10)) == [range(15), range(15, 24), range(24, 30)]
    # The runs up to a look are those of a plan of so many runs.
    assert until(20).stopped_after(8).runs() == until(20).runs()[:24]
