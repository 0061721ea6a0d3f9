"""What a plan would start and need, before anything is started."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from docker import DockerClient

from harness.plan import Plan
from harness.plan.estimate import Estimate, estimate, topologies_of
from harness.plan.schedule import topologies
from harness.sampling.meminfo import parse_meminfo
from harness.topology.agent import sees_files_here
from harness.topology.compose import COMPOSE_DIR, image_stacks, plan_files, service_counts

_MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True)
class Ahead:
    """What a bench of a plan would start and need.

    Attributes:
        images: their stacks.
        files: compose files, relative to the checkout.
        services: service -> number of its containers in one topology.
        places: runs that share a topology, one range for each.
        estimate: of time, memory and disk.
    """

    images: Sequence[str]
    files: Sequence[str]
    services: dict[str, int]
    places: Sequence[range]
    estimate: Estimate


def look_ahead(plan: Plan) -> Ahead:
    """Return what a bench would start and need; no engine is asked.

    Raises:
        UsageError: if there are no compose files for it.
    """
    files = plan_files(plan)
    counts = service_counts(plan, files)
    containers = sum(counts.values())
    return Ahead(
        images=sorted(set(image_stacks(files).values())),
        files=[str(path.relative_to(COMPOSE_DIR.parent)) for path in files],
        services=counts,
        places=topologies(plan),
        estimate=estimate(plan, containers, topologies_of(plan)),
    )


def available_bytes(client: DockerClient, engine_memory_bytes: int, place: Path) -> int:
    """Return what is available where the engine runs; all it has, if that is not this machine.

    Args:
        client, engine_memory_bytes: the engine.
        place: a folder of this machine.
    """
    here = parse_meminfo(_MEMINFO.read_bytes()) if _MEMINFO.exists() else None
    if here is None or not sees_files_here(client, place):
        return engine_memory_bytes
    return here.available


def compose_command(ahead: Ahead, project: str, *words: str) -> str:
    """Return a compose call as a line for people."""
    files = " ".join(f"-f {name}" for name in ahead.files)
    return f"docker compose -p {re.sub('[^a-zA-Z0-9<>_-]', '', project)} {files} {' '.join(words)}"
