"""One bench: a topology around a plan, with everything taken down whatever happens."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from docker import DockerClient
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from harness.core.errors import HarnessError, InfrastructureError, MeasuredFailure, UsageError
from harness.plan import Plan
from harness.results import manifest
from harness.results.directory import RunDirectory
from harness.results.marks import STOP, MarkWriter
from harness.sampling.collect import collect_reports
from harness.topology import ownership, sampling
from harness.topology.cgroups import CgroupParents, create_parents, remove_parents
from harness.topology.compose import (
    COMPOSE_DIR,
    ComposeProject,
    image_stacks,
    new_project_name,
    plan_files,
    role,
    services,
)
from harness.topology.engine import connect, describe
from harness.topology.images import Image, ensure
from harness.topology.watch import Death, deaths, watch_runner

RUN_MOUNT = "/harness/run"
_RUNNER_COMMAND = f"python -m harness run --plan {RUN_MOUNT}/plan.json"


@dataclass
class Bench:
    """Runs a plan in containers.

    Args:
        plan: with a topology.
        directory: an empty run directory.
        say: told, one line each, what is being done.
        progress: told the number of finished runs as it grows.
    """

    plan: Plan
    directory: RunDirectory
    say: Callable[[str], None]
    progress: Callable[[int], None]
    _facts: dict[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        """Bring the topology up, run the plan, take everything down.

        Raises:
            MeasuredFailure: if a run failed.
            InfrastructureError: if engine, images or services did.
            KeyboardInterrupt: after everything was taken down.
        """
        files = plan_files(self.plan)
        self._refuse_ignored(services(files))
        client = connect()
        engine = describe(client)
        variables = image_stacks(files)
        images = ensure(sorted(set(variables.values())), self.say)
        owner = ownership.current_owner()
        name = new_project_name()
        self._facts = {
            "project": name,
            "engine": asdict(engine),
            "images": {stack: asdict(image) for stack, image in images.items()},
            "notes": list(self.plan.executor.notes()),
            "compose_files": [str(path.relative_to(COMPOSE_DIR.parent)) for path in files],
        }
        try:
            with ExitStack() as stack:
                stack.callback(ownership.give_to_user, self.directory.path, owner)
                stack.callback(collect_reports, self.directory)
                parents = create_parents(engine, name, services(files))
                stack.callback(self._remove_parents, parents)
                env = self._environment(variables, images, owner, parents) | stack.enter_context(
                    self.plan.executor.topology_files(owner.container_uid, owner.container_gid)
                )
                project = ComposeProject(name, files, env)
                self._write_inputs(project)
                ownership.give_to_containers(self.directory.path, owner)
                view = stack.enter_context(sampling.docker_view(self.directory))
                stack.callback(self._take_down, project, client)
                ended = stack.enter_context(deaths(project))
                self.say(f"Starting the topology {project.name}")
                project.up(self.plan.general.start_timeout)
                containers = project.containers(client)
                sampling.follow(view, project, containers)
                with sampling.cgroup_view(
                    self.plan, self.directory, project, containers, parents
                ) as absent:
                    lacks = {"cgroup parents": parents.reason} if parents.reason else {}
                    self._facts["cgroup_view_lacks"] = lacks | absent
                    self._watch(project, client, containers, ended)
        finally:
            self._complete_manifest()

    def _refuse_ignored(self, names: Sequence[str]) -> None:
        """Refuse a flag about containers that this topology has not got."""
        assert self.plan.topology is not None
        if self.plan.topology.worker_memory_limit is not None and "worker" not in names:
            raise UsageError(
                "--worker-memory-limit: here the workers are in the runner's container, which has"
                " no limit; choose an executor with worker containers"
            )

    def _environment(
        self,
        variables: dict[str, str],
        images: dict[str, Image],
        owner: ownership.Owner,
        parents: CgroupParents,
    ) -> dict[str, str]:
        assert self.plan.topology is not None
        topology = self.plan.topology
        return {
            **{variable: images[stack].reference for variable, stack in variables.items()},
            **{
                f"HARNESS_CGROUP_{service.upper()}": parent
                for service, parent in parents.compose.items()
            },
            **self.plan.executor.topology_env(),
            "HARNESS_USER": owner.compose_user,
            "HARNESS_RUN_MOUNT": str(self.directory.path),
            "HARNESS_RUNNER_COMMAND": _RUNNER_COMMAND,
            "HARNESS_MARKS_ACK": "1",
            # The runner starts beside the services and waits for the workers itself; it cannot
            # begin before all are healthy, because only then somebody confirms its marks.
            "HARNESS_RUNNER_AFTER": "service_started",
            "HARNESS_INSIDE_INTERVAL": str(self.plan.general.inside_interval),
            "HARNESS_WORKER_MEMORY_LIMIT": str(topology.worker_memory_limit or 0),
        }

    def _write_inputs(self, project: ComposeProject) -> None:
        """Write what the runner reads, and the compose project as it is started."""
        in_topology = self.plan.in_topology()
        self.directory.plan.write_text(in_topology.model_dump_json(indent=2) + "\n")
        resolved = self.directory.path / "compose"
        resolved.mkdir()
        (resolved / "project.yaml").write_text(project.config())

    def _watch(
        self,
        project: ComposeProject,
        client: DockerClient,
        containers: Sequence[Container],
        ended: queue.SimpleQueue[Death],
    ) -> None:
        runner = next(container for container in containers if role(container) == "runner")
        try:
            with _terminated_on_exit(runner):
                code, reason = watch_runner(client, project, self.directory, ended, self.progress)
        finally:
            self._write_stop_mark()
        if code != 0:
            raise _failure(code, reason)

    def _write_stop_mark(self) -> None:
        """Let every sampler write out what it has."""
        with MarkWriter(self.directory.marks) as marks:
            marks.write("", STOP)

    def _remove_parents(self, parents: CgroupParents) -> None:
        for directory in remove_parents(parents):
            self.say(f"warning: {directory} could not be removed")

    def _take_down(self, project: ComposeProject, client: DockerClient) -> None:
        self.say("Taking the topology down")
        try:
            project.logs(self.directory.path / "logs", client)
        finally:
            project.down(client)

    def _complete_manifest(self) -> None:
        """Add the host's and the engine's part to what the runner wrote, if it did."""
        found = manifest.read_json(self.directory.manifest)
        found = found or manifest.base_manifest(self.plan.model_dump(mode="json"))
        found |= manifest.base_manifest(self.plan.model_dump(mode="json"))
        found["git_revision"] = manifest.git_revision(COMPOSE_DIR.parent)
        found |= {"host": manifest.machine() | {"software": manifest.software()}}
        manifest.write_manifest(self.directory.manifest, found | self._facts)
        self.directory.marks_ack.unlink(missing_ok=True)


@contextmanager
def _terminated_on_exit(runner: Container) -> Iterator[None]:
    """End the runner orderly, if it still runs, so that it writes its last row."""
    try:
        yield
    finally:
        with suppress(NotFound, APIError):  # it has ended
            runner.stop(timeout=5)


def _failure(code: int, reason: str) -> HarnessError:
    if code == InfrastructureError.exit_code:
        return InfrastructureError(reason)
    return MeasuredFailure(reason)
