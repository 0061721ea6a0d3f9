"""One launched topology: what starts with it, and what must end with it, in this order."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.errors import DockerException
from docker.models.containers import Container
from requests.exceptions import RequestException

from harness.core.errors import InfrastructureError
from harness.core.files import write_whole
from harness.images import Image, ensure
from harness.images.variant import Variant, find
from harness.plan import Plan
from harness.plan.estimate import run_timeout_s
from harness.results.conversation import STOP, mark_line
from harness.results.directory import RunDirectory
from harness.results.intake import Intake, Known
from harness.results.outcomes import Ending, Outcome
from harness.results.shared import SharedFolder
from harness.sampling.agent.parents import CgroupParents
from harness.sampling.agent.relay import Watch
from harness.sampling.report import collect_reports
from harness.topology import ownership, records, sampling, stacks
from harness.topology.agent import Agent, Places, some_image, wants_container
from harness.topology.compose import (
    COMPOSE_DIR,
    ComposeProject,
    ComposeTimeoutError,
    image_stacks,
    new_project_name,
    override_text,
    plan_files,
    role,
    service_environment,
    services,
)
from harness.topology.engine import Engine, answers_in_time, connect, describe
from harness.topology.events import Event, events
from harness.topology.judge import ENGINE, Judge
from harness.topology.records import BenchProcess
from harness.topology.watch import RunnerWatch, last_run

RUN_MOUNT = "/harness/run"
# For a runner that is interrupted, of the ten seconds that a whole orderly end may take.
_RUNNER_STOP_S = 3
# A restarted engine is back after a few seconds.
_ENGINE_BACK_S = 12.0


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
        agent: what watches its machine.
        owner: whose files these are.
        say: told, one line each, what is being done.
        progress: told the number of finished runs as it grows.
        runs: ids of the runs; the plan's, if there are none.
        environment: variables that the plan sets in its services.
    """

    plan: Plan
    directory: RunDirectory
    files: Sequence[Path]
    images: dict[str, str]
    engine: Engine
    client: DockerClient
    agent: Agent
    owner: ownership.Owner
    say: Callable[[str], None]
    progress: Callable[[int], None]
    runs: frozenset[str] = frozenset()
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def variant_of(plan: Plan, say: Callable[[str], None]) -> Variant | None:
    """Return what ``--stack`` and ``--python`` make of a plan's images, None without these flags.

    Raises:
        UsageError: one line that names what cannot be had, or does not fit.
        InfrastructureError: if something that it needs cannot be built.
    """
    topology = plan.topology
    if topology is None or (not topology.stack and topology.python is None):
        return None
    # The executor's file comes first.
    stacks = list(dict.fromkeys(image_stacks(plan_files(plan)).values()))
    return find(topology.stack, topology.python, stacks, say)


def prepare(
    plan: Plan,
    directory: RunDirectory,
    files: Sequence[Path],
    say: Callable[[str], None],
    progress: Callable[[int], None],
    *,
    images: Mapping[str, Image] | None = None,
    variant: Variant | None = None,
    runs: frozenset[str] = frozenset(),
) -> tuple[Launch, dict[str, Any]]:
    """Connect to the engine and make sure that all images are there; the agent is not started.

    Args:
        plan, directory, files, say, progress: as for :class:`Launch`.
        images: by stack, those to use; by default those that this checkout describes.
        variant: what replaces the locks of some of those.
        runs: ids of the runs; the plan's, if there are none.

    Returns:
        What all topologies have in common, and facts for the manifest.

    Raises:
        InfrastructureError: if no engine answers or an image cannot be built.
    """
    environment = service_environment(plan, files)
    client = connect()
    engine = describe(client)
    plan_text = plan.in_topology().model_dump_json(indent=2)
    write_whole(directory.plan, f"{plan_text}\n")
    variables = image_stacks(files)
    images = images or ensure(sorted(set(variables.values())), say, variant=variant)
    owner = ownership.current_owner()
    agent = Agent(client, engine, owner, "child", run_dir=str(directory.path))
    if wants_container(client, engine, directory.path):
        # One of this checkout's, if there is one: a bundle's may be older than agents are.
        bundled = min(images.values(), key=lambda image: image.size_bytes).reference
        agent.form, agent.image = "container", some_image() or bundled
    launch = Launch(
        plan=plan,
        directory=directory,
        files=files,
        images={variable: images[stack].reference for variable, stack in variables.items()},
        engine=engine,
        client=client,
        agent=agent,
        owner=owner,
        say=say,
        progress=progress,
        runs=runs,
        environment=environment,
    )
    return launch, {
        "engine": asdict(engine),
        "images": {stack: asdict(image) for stack, image in images.items()},
        "variant": variant.facts() if variant is not None else None,
        "service_environment": environment,
        "notes": list(plan.executor.notes()),
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
        malloc: service -> the allocator's settings in its environment.
    """

    launch: Launch
    number: int
    places: range
    name: str = field(default_factory=new_project_name)
    lacks: dict[str, str] = field(default_factory=dict)
    malloc: dict[str, list[str]] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)
    _places: Places | None = None
    _intake: Intake | None = None
    _is_down: bool = True

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of it: places are those in the plan's order, from 1."""
        return {
            "project": self.name,
            "runs": [self.places.start + 1, self.places.stop],
            "malloc": self.malloc,
        }

    def run(self, before_first_run: Callable[[], None]) -> Ending | None:
        """Bring it up, execute its runs, end the sampling; ``close`` takes it down.

        Args:
            before_first_run: called when it is up; its first run begins after that.

        Returns:
            How the run ended that did not end well; None if all did.

        Raises:
            KeyboardInterrupt: if a signal came.
        """
        launch = self.launch
        try:
            return self._run(before_first_run)
        except InfrastructureError as error:
            with suppress(DockerException, OSError):
                # Whoever did not become ready can still say what it waits for.
                self._collect_stacks(self._project(), self._project().containers(launch.client))
            judge = self._judge()
            lost = judge.engine_lost()
            judge.close()
            if lost is None and isinstance(error, ComposeTimeoutError):
                return Ending(Outcome.TIMEOUT, f"{error} (--start-timeout)", "topology")
            return lost or judge.of_the_machine(str(error), "topology")
        except (DockerException, RequestException) as error:
            # Both are OSErrors too: what the engine refuses is not the run directory's fault.
            judge = self._judge()
            lost = judge.engine_lost()
            judge.close()
            said = " ".join(str(error).split())[:300] or type(error).__name__
            return lost or Ending(Outcome.INFRASTRUCTURE, f"the engine says: {said}", ENGINE)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            return Ending(
                Outcome.INFRASTRUCTURE, f"{where}{error.strerror or error}", "run directory"
            )

    def _run(self, before_first_run: Callable[[], None]) -> Ending | None:
        launch = self.launch
        self._shared.create(*launch.owner.of_containers())
        self._make_replies()
        self._stack.callback(self._collect)
        records.write(self.record())
        self._stack.callback(self._forget)
        agent, owner = launch.agent, launch.owner
        parents = agent.create_parents(self.name, services(launch.files))
        self._stack.callback(self._remove_parents, parents)
        secret_files = self._stack.enter_context(
            launch.plan.executor.containers().files(owner.container_uid, owner.container_gid)
        )
        places = self._places = agent.make_folders(
            self._shared.path.name, self._shared, self._replies, launch.directory, secret_files
        )
        project = self._project(parents)
        view = self._stack.enter_context(
            sampling.docker_view(launch.directory, self._marks, agent.clock_shift_ns())
        )
        self._stack.callback(self._take_down, project)
        happened = self._stack.enter_context(events(project))
        launch.say(f"Starting the topology {project.name}")
        self._is_down = False
        # Compose takes a third of a second to say what it is starting anyway.
        with ThreadPoolExecutor(1) as aside:
            written = aside.submit(self._write_inputs, project)
            project.up(launch.plan.general.start_timeout)
            written.result()
        containers = project.containers(launch.client)
        self.malloc = {role(container): _malloc_settings(container) for container in containers}
        sampling.follow(view, project, containers, launch.engine)
        before_first_run()
        intake = self._intake = self._known(project, containers)
        with sampling.cgroup_view(
            launch.plan,
            launch.directory,
            project,
            containers,
            parents,
            agent=agent,
            places=places,
            runs=len(intake.known.runs),
        ) as watched:
            absent = watched.answer.absent
            self.lacks = {"cgroup parents": parents.reason} if parents.reason else {}
            self.lacks |= absent
            return self._watch(project, containers, happened, watched, intake)

    def _judge(self) -> Judge:
        launch = self.launch
        return Judge(self._project(), [], launch.directory, launch.client, self._shared)

    def close(self) -> None:
        """Take everything down."""
        self._stack.close()

    def keep(self) -> None:
        """Leave everything in place, and say how to look at it."""
        self.launch.agent.kept = True
        self.launch.agent.fetch(self._shared.path.name)
        records.write(replace(self.record(), kept=True))
        if self._intake is not None:
            self._intake.end(str(self.number))
            self._intake.keep_folder()
        self._stack.pop_all()

    def record(self) -> records.Record:
        """Return the note that says whose this topology is."""
        return records.Record(
            self.name, str(BenchProcess.current()), str(self.launch.directory.path)
        )

    def _project(self, parents: CgroupParents | None = None) -> ComposeProject:
        env = self._environment(parents or CgroupParents(self.name))
        return ComposeProject(self.name, [*self.launch.files, *self._overrides()], env)

    def _overrides(self) -> list[Path]:
        """Return the compose file with the variables that the plan sets, if it sets any."""
        if not self.launch.environment:
            return []
        path = self.launch.directory.path / "compose" / "environment.yaml"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_whole(path, override_text(self.launch.environment))
        return [path]

    def has_begun(self, done: Set[str]) -> bool:
        """Say whether it is at a run that is not ``done``, by its marks."""
        run_id = last_run(self._shared, self.launch.directory)
        return bool(run_id) and run_id not in done

    @property
    def _shared(self) -> SharedFolder:
        """All that its containers can write."""
        return SharedFolder(self.launch.directory.shared / f"topology-{self.number}")

    @property
    def _replies(self) -> RunDirectory:
        """What the host answers its runner, which reads it under the same names."""
        return RunDirectory(self.launch.directory.replies / self._shared.path.name)

    @property
    def _marks(self) -> Path:
        return self._shared.path / self.launch.directory.marks.name

    def _make_replies(self) -> None:
        replies = self._replies
        replies.path.mkdir(parents=True)
        write_whole(replies.marks_ack, b"")
        write_whole(replies.settled, b"")

    def _known(self, project: ComposeProject, containers: Sequence[Container]) -> Intake:
        plan, directory = self.launch.plan, self.launch.directory
        runs = plan.runs()[self.places.start : self.places.stop]
        known = Known(
            runs=self.launch.runs or frozenset(run.run_id for run in runs),
            modes=frozenset(plan.workload.modes),
            containers=frozenset(project.short_name(container) for container in containers),
        )
        intake = Intake(self._shared, directory, known)
        intake.keep_known()
        return intake

    def _environment(self, parents: CgroupParents) -> dict[str, str]:
        plan = self.launch.plan
        assert plan.topology is not None
        places = self._places or Places("", RunDirectory(Path()), "", "", "", {})
        command = f"python -m harness run --plan {RUN_MOUNT}/plan.json"
        if len(self.places) < plan.run_count:
            command += f" --places {self.places.start + 1} {self.places.stop}"
        return {
            **self.launch.images,
            **{
                f"HARNESS_CGROUP_{service.upper()}": parent
                for service, parent in parents.compose.items()
            },
            **plan.executor.containers().environment,
            **places.inputs,
            "HARNESS_OWNER": str(BenchProcess.current()),
            "HARNESS_USER": self.launch.owner.compose_user,
            "HARNESS_RUN_MOUNT": places.shared,
            "HARNESS_RUN_MOUNT_TYPE": "bind",
            "HARNESS_PLAN_FILE": places.plan,
            "HARNESS_MARKS_ACK_FILE": str(places.replies.marks_ack),
            "HARNESS_SETTLED_FILE": str(places.replies.settled),
            "HARNESS_RUNNER_COMMAND": command,
            "HARNESS_MARKS_ACK": "1",
            # The runner starts beside the services and waits for the workers itself; it cannot
            # begin before all are healthy, because only then somebody confirms its marks.
            "HARNESS_RUNNER_AFTER": "service_started",
            "HARNESS_INSIDE_INTERVAL": str(sampling.inside_interval_s(plan, self.launch.files)),
            "HARNESS_WORKER_MEMORY_LIMIT": str(plan.topology.worker_memory_limit or 0),
            **self._engines_own(),
        }

    def _engines_own(self) -> dict[str, str]:
        """Return what one engine has to be told otherwise than the others."""
        # Podman takes the size of any volume for a quota of the disk.
        return {"HARNESS_SECRETS_SIZE": ""} if self.launch.engine.name == "Podman" else {}

    def _write_inputs(self, project: ComposeProject) -> None:
        """Write the compose project as it is started."""
        resolved = self.launch.directory.path / "compose"
        resolved.mkdir(exist_ok=True)
        name = "project.yaml" if self.number == 1 else f"project-{self.number}.yaml"
        write_whole(resolved / name, project.config())

    def _watch(
        self,
        project: ComposeProject,
        containers: Sequence[Container],
        happened: queue.SimpleQueue[Event],
        watched: Watch,
        intake: Intake,
    ) -> Ending | None:
        launch = self.launch
        runner = next(container for container in containers if role(container) == "runner")
        watch = RunnerWatch(
            launch.client,
            project,
            containers,
            launch.directory,
            intake,
            happened,
            launch.progress,
            sampler_end=watched.poll,
            killed=watched.killed,
            run_timeout_s=run_timeout_s(launch.plan),
            # The runner waits that long for the workers itself, and says which are missing.
            start_timeout_s=2 * launch.plan.general.start_timeout,
            rows_in_all=len(self.places),
        )
        ending = None
        try:
            ending = watch.wait()
            if ending is not None and ending.outcome == Outcome.TIMEOUT:
                self._collect_stacks(project, containers)
        finally:
            # An engine that does not answer stops nothing either; the runner ends by itself when
            # nobody confirms its marks any more.
            if ending is None or ending.service != ENGINE:
                _stop_in_order(runner)
            # Every sampler writes out what it has.
            if launch.agent.is_container:
                launch.agent.stop_samplers(self._shared.path.name)
            else:
                with suppress(OSError):
                    self._shared.append(launch.directory.marks.name, mark_line("", STOP).encode())
            intake.end_of_runs()
        return ending

    def _collect_stacks(self, project: ComposeProject, containers: Sequence[Container]) -> None:
        directory = self.launch.directory.stacks / f"topology-{self.number}"
        self.launch.say(f"Saving the stacks of all services in {directory}")
        with suppress(OSError):
            stacks.collect(project, containers, directory)

    def _remove_parents(self, parents: CgroupParents) -> None:
        left = [] if parents.reason else self.launch.agent.remove_cgroups(self.name)
        for directory in left:
            self.launch.say(f"warning: {directory} could not be removed")

    def _take_down(self, project: ComposeProject) -> None:
        launch = self.launch
        logs = launch.directory.path / "logs"
        if self.number > 1:
            logs /= f"topology-{self.number}"
        if not answers_in_time(_ENGINE_BACK_S, self.launch.client.api.api_version):
            launch.say(
                f"warning: the engine does not answer: {self.name} is left in place;"
                f" 'harness clean {self.name}' removes it"
            )
            self._stack.pop_all()
            return
        try:
            project.logs(logs, launch.client)
        except OSError as error:
            launch.say(f"warning: the logs could not be saved: {error.strerror or error}")
        finally:
            project.down(launch.client)
            self._is_down = True

    def _forget(self) -> None:
        """Remove the note, unless something of the topology may still be there."""
        if self._is_down:
            records.remove(self.name)

    def _collect(self) -> None:
        suffix = "" if self.number == 1 else f"@{self.number}"
        name = self._shared.path.name
        unwritten = self.launch.agent.fetch(name)
        if unwritten:
            self.launch.say(f"warning: not all that containers wrote is here: {unwritten}")
        if self._is_down:
            self.launch.agent.drop_folders(name)
        collect_reports(self.launch.directory, suffix)
        if self._intake is not None:
            self._intake.end(str(self.number))
            for line in self._intake.warnings():
                self.launch.say(line)
            if self._is_down:
                self._intake.remove()


def _stop_in_order(runner: Container) -> None:
    """End the runner, if it still runs, letting it write what it has."""
    with suppress(DockerException, OSError):  # it has ended, or the engine has
        runner.stop(timeout=_RUNNER_STOP_S)


def _malloc_settings(container: Container) -> list[str]:
    environment = container.attrs["Config"]["Env"] or []
    return sorted(setting for setting in environment if setting.startswith("MALLOC_"))
