"""How often containers are read from inside, and which of the engine's streams are followed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.flags import Parser
from harness.plan import add_plan_flags, parse_plan
from harness.topology import sampling
from harness.topology.compose import plan_files
from harness.topology.engine import HERE, Engine
from harness.topology.sampling import inside_interval_s

WORKLOAD = (
    "--executor dask --ps-connector file --stage-task-counts 1 --stage-bytes-sizes 1 1"
    " --task-sleep 0"
)


@pytest.mark.parametrize(
    ("flags", "seconds"),
    [
        ("--dask-workers 4", 0.1),
        ("--dask-workers 18", 20 / 60),
        ("--dask-workers 64 --inside-interval 0.05", 0.05),
        ("--dask-workers 1 --inside-interval 2", 2.0),
    ],
)
def test_all_together_make_no_more_than_sixty_readings_a_second(flags: str, seconds: float) -> None:
    parser = Parser(prog="harness bench", allow_abbrev=False)
    add_plan_flags(parser, containers=True)
    line = f"{WORKLOAD} {flags}"
    plan = parse_plan(parser, line.split(), containers=True)
    assert inside_interval_s(plan, plan_files(plan)) == pytest.approx(seconds)


@pytest.mark.parametrize(("driver", "told"), [("cgroupfs", ["figures"]), ("none", [])])
def test_an_engine_without_cgroups_is_not_asked_for_figures(
    driver: str, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: dict[str, list[Any]] = {}
    view: Any = SimpleNamespace(follow=lambda name, stream: followed.update({name: list(stream)}))
    project: Any = SimpleNamespace(short_name=lambda container: container.id, place=HERE)
    container: Any = SimpleNamespace(id="redis-1")
    monkeypatch.setattr(sampling, "connect", lambda **_: None)
    monkeypatch.setattr(sampling, "_stats", lambda *_: iter(["figures"]))
    engine = Engine("20.10", "1.41", 1, driver, "overlay2", 2**36, 4)
    sampling.follow(view, project, [container], engine)
    assert followed == {"redis-1": told}
