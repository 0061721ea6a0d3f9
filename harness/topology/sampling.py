"""The two views of a topology from outside: cgroup files and the engine's stats stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from docker import DockerClient
from docker.models.containers import Container

from harness.core.clock import Reference
from harness.plan import Plan
from harness.plan.options import INSIDE_INTERVAL_S
from harness.results.directory import RunDirectory
from harness.sampling.agent.parents import CgroupParents
from harness.sampling.agent.relay import Watch
from harness.sampling.agent.several import Several
from harness.sampling.cgroup.config import ContainerConfig, SamplerConfig
from harness.sampling.docker_stats import DockerView
from harness.topology.agent import Agent, Places
from harness.topology.compose import ComposeProject, role, service_counts
from harness.topology.engine import STREAM_ERRORS, Engine, connect

# A reading from inside costs 0.2 ms of a core, most of it for waking up. Sixty a second, from all
# containers together, are what the documented example's six make at the default interval.
_INSIDE_READINGS_PER_S = 60
# More than any run sets, so that whoever floods the file is found out.
_MARKS_OF_A_RUN = 64


def inside_interval_s(plan: Plan, files: Sequence[Path]) -> float:
    """Return the seconds between two readings inside a container of a plan's topology."""
    if plan.general.inside_interval is not None:
        return plan.general.inside_interval
    return default_inside_interval_s(sum(service_counts(plan, files).values()))


def default_inside_interval_s(containers: int) -> float:
    """Return the same where nobody asks for another, for a topology of so many containers."""
    return max(INSIDE_INTERVAL_S, containers / _INSIDE_READINGS_PER_S)


@contextmanager
def docker_view(directory: RunDirectory, marks: Path, shift_ns: int) -> Iterator[DockerView]:
    """Provide the view of the engine's stats streams; leave it after the containers are gone.

    A stream ends with its container, else only with its next message, up to a second later.
    ``shift_ns`` is what to add to this machine's clock for the containers'.
    """
    errors = STREAM_ERRORS
    with DockerView(directory.path, marks, stream_errors=errors, shift_ns=shift_ns) as view:
        yield view


def follow(
    view: DockerView, project: ComposeProject, containers: Sequence[Container], engine: Engine
) -> None:
    """Start following the containers' stats streams, each on a connection of its own."""
    client = connect(connections=len(containers) + 1, place=project.place)
    for container in containers:
        # Without cgroups an engine tells the whole machine's figures as each container's.
        told = engine.limits_and_counts
        stream = _stats(client, str(container.id)) if told else ()
        view.follow(project.short_name(container), stream)


def _stats(client: DockerClient, container_id: str) -> Iterator[dict[str, Any]]:
    # The SDK's stubs know one return type for both ways of calling this.
    stream = client.containers.get(container_id).stats(stream=True, decode=True)
    return cast(Iterator[dict[str, Any]], stream)


@dataclass(frozen=True)
class OfSeveral:
    """How the view of one node fits in with those of a topology's other nodes.

    Attributes:
        several: what joins the watches.
        node: the node's name.
        clock: the clock that times are on.
        names: what scopes are called of which only a part is here.
        home_settles: whether home tells the runner if memory was flat.
    """

    several: Several
    node: str
    clock: Reference
    names: Mapping[str, str]
    home_settles: bool


@contextmanager
def cgroup_view(
    plan: Plan,
    directory: RunDirectory,
    project: ComposeProject,
    containers: Sequence[Container],
    parents: CgroupParents,
    *,
    agent: Agent,
    places: Places,
    runs: int,
    of_several: OfSeveral,
) -> Iterator[Watch]:
    """Have the agent read all containers' cgroup files while in this context.

    Args:
        plan, directory, project, containers, parents: the topology.
        agent: of the engine's machine.
        places: where the topology's folders are there.
        runs: how many runs it has.
        of_several: how this node's view fits in with those of others.

    Yields:
        The watch, whose answer says what cannot be read, and why.
    """
    assert plan.topology is not None
    for container in containers:
        container.reload()  # the list's attributes are as old as the list
    config = SamplerConfig(
        shared=places.seen_shared,
        replies=places.seen_replies,
        marks_limit=_MARKS_OF_A_RUN * (1 + plan.general.warmup) * runs + _MARKS_OF_A_RUN,
        containers=[
            ContainerConfig(
                name=project.short_name(container),
                service=role(container),
                pid=int(container.attrs["State"]["Pid"]),
                id=str(container.id),
            )
            for container in containers
        ],
        service_parents=parents.service_directories,
        topology_parent=parents.topology_directory,
        usage_interval_ns=round(plan.topology.cgroup_interval * 1e9),
        baseline_window_ns=round(plan.general.baseline_window * 1e9),
        baseline_bound_bytes=plan.general.baseline_bound,
        baseline_timeout_ns=round(plan.general.baseline_timeout * 1e9),
        user=agent.watching_user(),
        clock=of_several.clock,
        names=dict(of_several.names),
        home_settles=of_several.home_settles,
    )
    name = Path(places.seen_shared).name if agent.is_container else None
    joined = (of_several.several, of_several.node)
    with agent.relay.watch(config, directory, name, several=joined) as watch:
        yield watch
