"""One launched topology: what starts with it, and what must end with it, in this order."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from harness.core.errors import HarnessError, InfrastructureError, MeasuredFailure
from harness.plan import Plan
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
    role,
    services,
)
from harness.topology.engine import Engine, connect, describe
from harness.topology.images import ensure
from harness.topology.watch import Death, deaths, watch_runner

RUN_MOUNT = "/harness/run"


@dataclass
class Launch:
    """What all topologies of a bench have in common.

    Args:
        plan: with a topology.
        directory: the run directory.
        files: compose files.
        images: variables that name the images.
        engine: what starts the containers.
        client: a connection to it.
        owner: whose files these are.
        say: told, one line each, what is being done.
        progress: told the number of finished runs as it grows.
    """

    plan: Plan
    directory: RunDirectory
    files: Sequence[Path]
    images: dict[str, str]
    engine: Engine
    client: DockerClient
    owner: ownership.Owner
    say: Callable[[str], None]
    progress: Callable[[int], None]


def prepare(
    plan: Plan,
    directory: RunDirectory,
    files: Sequence[Path],
    say: Callable[[str], None],
    progress: Callable[[int], None],
) -> tuple[Launch, dict[str, Any]]:
    """Connect to the engine and make sure that all images are there.

    Returns:
        What all topologies have in common, and facts for the manifest.

    Raises:
        InfrastructureError: if no engine answers or an image cannot be built.
    """
    client = connect()
    engine = describe(client)
    variables = image_stacks(files)
    images = ensure(sorted(set(variables.values())), say)
    launch = Launch(
        plan=plan,
        directory=directory,
        files=files,
        images={variable: images[stack].reference for variable, stack in variables.items()},
        engine=engine,
        client=client,
        owner=ownership.current_owner(),
        say=say,
        progress=progress,
    )
    return launch, {
        "engine": asdict(engine),
        "images": {stack: asdict(image) for stack, image in images.items()},
        "compose_files": [str(path.relative_to(COMPOSE_DIR.parent)) for path in files],
    }


@dataclass
class LaunchedTopology:
    """A topology around some of a plan's runs.

    Args:
        launch: what it has in common with others.
        number: which of the bench's topologies it is, from 1.
        places: which of the plan's runs it is for.

    Attributes:
        name: its compose project.
        lacks: what the cgroup view cannot read, and why.
    """

    launch: Launch
    number: int
    places: range
    name: str = field(default_factory=new_project_name)
    lacks: dict[str, str] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of it: places are those in the plan's order, from 1."""
        return {"project": self.name, "runs": [self.places.start + 1, self.places.stop]}

    def run(self, before_first_run: Callable[[], None]) -> None:
        """Bring it up, execute its runs, end the sampling; ``close`` takes it down.

        Args:
            before_first_run: called when it is up; its first run begins after that.

        Raises:
            MeasuredFailure: if a run failed.
            InfrastructureError: if services did.
        """
        launch = self.launch
        offset = self._marks_offset()
        self._stack.callback(self._collect)
        parents = create_parents(launch.engine, self.name, services(launch.files))
        self._stack.callback(self._remove_parents, parents)
        project = ComposeProject(self.name, launch.files, self._environment(parents, offset))
        self._write_inputs(project)
        ownership.give_to_containers(launch.directory.path, launch.owner)
        view = self._stack.enter_context(sampling.docker_view(launch.directory, offset))
        self._stack.callback(self._take_down, project)
        ended = self._stack.enter_context(deaths(project))
        launch.say(f"Starting the topology {project.name}")
        project.up(launch.plan.general.start_timeout)
        containers = project.containers(launch.client)
        sampling.follow(view, project, containers)
        before_first_run()
        # The runner waits at its first mark for the sampler, which starts to count from here.
        launch.directory.marks_ack.unlink(missing_ok=True)
        with sampling.cgroup_view(
            launch.plan, launch.directory, project, containers, parents, marks_offset=offset
        ) as absent:
            self.lacks = {"cgroup parents": parents.reason} if parents.reason else {}
            self.lacks |= absent
            self._watch(project, containers, ended)

    def close(self) -> None:
        """Take everything down."""
        self._stack.close()

    def _marks_offset(self) -> int:
        try:
            return self.launch.directory.marks.stat().st_size
        except FileNotFoundError:
            return 0

    def _environment(self, parents: CgroupParents, marks_offset: int) -> dict[str, str]:
        plan = self.launch.plan
        assert plan.topology is not None
        command = f"python -m harness run --plan {RUN_MOUNT}/plan.json"
        if len(self.places) < len(plan.runs()):
            command += f" --places {self.places.start + 1} {self.places.stop}"
        return {
            **self.launch.images,
            **{
                f"HARNESS_CGROUP_{service.upper()}": parent
                for service, parent in parents.compose.items()
            },
            **plan.executor.topology_env(),
            "HARNESS_USER": self.launch.owner.compose_user,
            "HARNESS_RUN_MOUNT": str(self.launch.directory.path),
            "HARNESS_RUNNER_COMMAND": command,
            "HARNESS_MARKS_ACK": "1",
            "HARNESS_MARKS_OFFSET": str(marks_offset),
            # The runner starts beside the services and waits for the workers itself; it cannot
            # begin before all are healthy, because only then somebody confirms its marks.
            "HARNESS_RUNNER_AFTER": "service_started",
            "HARNESS_INSIDE_INTERVAL": str(plan.general.inside_interval),
            "HARNESS_WORKER_MEMORY_LIMIT": str(plan.topology.worker_memory_limit or 0),
        }

    def _write_inputs(self, project: ComposeProject) -> None:
        """Write the compose project as it is started."""
        resolved = self.launch.directory.path / "compose"
        resolved.mkdir(exist_ok=True)
        name = "project.yaml" if self.number == 1 else f"project-{self.number}.yaml"
        (resolved / name).write_text(project.config())

    def _watch(
        self,
        project: ComposeProject,
        containers: Sequence[Container],
        ended: queue.SimpleQueue[Death],
    ) -> None:
        launch = self.launch
        runner = next(container for container in containers if role(container) == "runner")
        try:
            with _terminated_on_exit(runner):
                code, reason = watch_runner(
                    launch.client, project, launch.directory, ended, launch.progress
                )
        finally:
            # Every sampler writes out what it has.
            with MarkWriter(launch.directory.marks) as marks:
                marks.write("", STOP)
        if code != 0:
            raise _failure(code, reason)

    def _remove_parents(self, parents: CgroupParents) -> None:
        for directory in remove_parents(parents):
            self.launch.say(f"warning: {directory} could not be removed")

    def _take_down(self, project: ComposeProject) -> None:
        logs = self.launch.directory.path / "logs"
        try:
            if self.number > 1:
                logs /= f"topology-{self.number}"
            project.logs(logs, self.launch.client)
        finally:
            project.down(self.launch.client)

    def _collect(self) -> None:
        suffix = "" if self.number == 1 else f"@{self.number}"
        collect_reports(self.launch.directory, suffix)


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
