"""Running what a calibration evaluates: a container of known truth, then one plan twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.plan import Plan
from harness.results import manifest
from harness.results.directory import RunDirectory
from harness.results.documents import write_json
from harness.sampling.probe import PROBES
from harness.topology import ownership
from harness.topology.compose import COMPOSE_DIR
from harness.topology.engine_cost import engine_cpu_between, engine_cpu_s, engine_rss_bytes
from harness.topology.launch import LaunchedTopology, prepare
from harness.topology.session import Bench

_LABELS = ("A1", "A2")


@dataclass(frozen=True)
class Probed:
    """Where the probes' files are, and what the engine spent meanwhile.

    Attributes:
        directory: a run directory with ``truth.csv``.
        engine_cpu_share: of one core, while the container ran with its stats stream.
        engine_rss_bytes: resident memory of the engine's processes at the end.
    """

    directory: RunDirectory
    engine_cpu_share: float
    engine_rss_bytes: int


def _nothing(_runs: int) -> None:
    """Show no progress."""


def run_probes(path: Path, say: Callable[[str], None]) -> Probed:
    """Run the probe container under the samplers of a bench.

    Raises:
        InfrastructureError: if the engine, an image or the container is at fault.
    """
    path.mkdir()
    directory = RunDirectory(path)
    plan = Plan.model_validate(
        {
            "executor_name": "thread",
            "executor": {},
            "connector_name": "local",
            "connector": {},
            "workload": {
                "modes": ["none"],
                "stage_task_counts": [1],
                "stage_bytes_sizes": [1, 1],
                "task_sleep": 0.0,
            },
            "general": {"baseline_timeout": 5.0},
            "topology": {},
        }
    )
    launch, facts = prepare(
        plan, directory, [COMPOSE_DIR / "calibrate.yaml"], say, _nothing, runs=frozenset(PROBES)
    )
    topology = LaunchedTopology(launch, 1, range(1))
    started: list[tuple[float, dict[str, float]]] = []
    try:
        ending = topology.run(lambda: started.append((time.monotonic(), engine_cpu_s())))
        if ending is not None:
            raise ending.error()
        rss_bytes = engine_rss_bytes()
        elapsed_s = time.monotonic() - started[0][0]
        share = engine_cpu_between(started[0][1], engine_cpu_s()) / elapsed_s
    finally:
        topology.close()
        found = facts | {"host": manifest.machine(), "cgroup_view_lacks": topology.lacks}
        write_json(directory.manifest, found)
        ownership.give_to_user(path, launch.owner)
    return Probed(directory, share, rss_bytes)


def run_twice(plan: Plan, path: Path, say: Callable[[str], None]) -> list[RunDirectory]:
    """Run a plan twice, each time in a topology of its own; nothing differs but the time.

    Raises:
        HarnessError: as a bench does.
    """
    found = []
    for label in _LABELS:
        say(f"A/A: {label}, {plan.run_count} runs")
        directory = RunDirectory(path / label)
        directory.path.mkdir()
        Bench(plan, directory, say, _nothing).run()
        found.append(directory)
    return found
