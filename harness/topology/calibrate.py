"""Running what a calibration evaluates: a container of known truth, then one plan twice.

What the engine itself spends, so that a view through it can be charged with it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harness.plan import Plan
from harness.results import manifest
from harness.results.directory import RunDirectory
from harness.results.documents import write_json
from harness.sampling.probe import PROBES
from harness.topology import ownership
from harness.topology.agent import started
from harness.topology.bench import Bench
from harness.topology.compose import COMPOSE_DIR
from harness.topology.launch import LaunchedTopology, prepare

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
    began: list[tuple[float, dict[str, float]]] = []
    with ExitStack() as stack:
        agent = stack.enter_context(started(launch.nodes[0].agent))
        stack.callback(topology.close)
        facts["agent"] = agent.facts()
        ending = topology.run(lambda: began.append((time.monotonic(), engine_cpu_s())))
        if ending is not None:
            raise ending.error()
        rss_bytes = engine_rss_bytes()
        elapsed_s = time.monotonic() - began[0][0]
        share = engine_cpu_between(began[0][1], engine_cpu_s()) / elapsed_s
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


ENGINE_PROCESSES = ("dockerd", "containerd", "containerd-shim")


def engine_cpu_s() -> dict[str, float]:
    """Return the CPU seconds of each of the engine's processes by its number.

    Empty where they cannot be seen: the engine runs on another machine.
    """
    return {pid: _seconds(fields[11:13]) for pid, fields in _stats()}


def engine_cpu_between(before: dict[str, float], after: dict[str, float]) -> float:
    """Return the CPU seconds spent between two readings by the processes that lived through both.

    What containers of others cost the engine meanwhile is among them.
    """
    return sum(after[pid] - before[pid] for pid in before.keys() & after.keys())


def _seconds(fields: list[str]) -> float:
    return sum(int(field) for field in fields) / os.sysconf("SC_CLK_TCK")


def engine_rss_bytes() -> int:
    """Return the resident memory of the engine's processes, shims included."""
    return sum(int(fields[21]) for _, fields in _stats()) * os.sysconf("SC_PAGE_SIZE")


def _stats() -> Iterator[tuple[str, list[str]]]:
    """Yield each process's number and its fields of ``/proc/<pid>/stat`` from the third on."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text(encoding="utf-8").rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if head.partition("(")[2].startswith(ENGINE_PROCESSES):
            yield stat.parent.name, rest.split()
