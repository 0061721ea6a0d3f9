"""The host's two views of a topology: cgroup files and the engine's stats stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from docker.models.containers import Container

from harness.plan import Plan
from harness.results.directory import RunDirectory
from harness.sampling.cgroup_config import ContainerConfig, SamplerConfig
from harness.sampling.cgroup_process import CgroupSamplerProcess
from harness.topology.cgroups import CgroupParents
from harness.topology.compose import ComposeProject, role


@contextmanager
def host_views(
    plan: Plan,
    directory: RunDirectory,
    project: ComposeProject,
    containers: Sequence[Container],
    parents: CgroupParents,
) -> Iterator[dict[str, Any]]:
    """Sample all containers from outside while in this context.

    Yields:
        For the manifest: what each view could not reach, and why.
    """
    assert plan.topology is not None
    for container in containers:
        container.reload()  # the list's attributes are as old as the list
    config = SamplerConfig(
        run_dir=str(directory.path),
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
    )
    with CgroupSamplerProcess(config) as cgroup:
        yield {
            "cgroup": {"absent": cgroup.answer.absent, "priority": cgroup.answer.priority},
            "cgroup_parents": {"absent": parents.reason},
        }
