"""One launched topology: what starts with it, and what must end with it, in this order."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from docker.errors import DockerException
from docker.models.containers import Container
from requests.exceptions import RequestException

from harness.analysis.grades import Grade, warning
from harness.core.errors import InfrastructureError
from harness.core.files import write_whole
from harness.images import Image, ensure
from harness.images.variant import Variant, find
from harness.plan import Plan
from harness.plan.estimate import run_timeout_s
from harness.results.conversation import STOP, mark_line
from harness.results.directory import RunDirectory
from harness.results.intake import Intake
from harness.results.outcomes import Ending, Outcome
from harness.sampling.agent.several import Several
from harness.sampling.report import collect_reports
from harness.topology import nodes, ownership, records, sampling, stacks
from harness.topology.agent import Agent, some_image, wants_container
from harness.topology.compose import (
    COMPOSE_DIR,
    ComposeTimeoutError,
    image_stacks,
    new_project_name,
    plan_files,
    role,
    service_environment,
)
from harness.topology.engine import answers_in_time, connect, describe
from harness.topology.events import Event, events
from harness.topology.joined import Joined
from harness.topology.judge import ENGINE, Judge
from harness.topology.nodes import Node, Placed
from harness.topology.part import Common, Part
from harness.topology.records import BenchProcess
from harness.topology.watch import RunnerWatch, last_run

# For a runner that is interrupted, of the ten seconds that a whole orderly end may take.
_RUNNER_STOP_S = 3
# A restarted engine is back after a few seconds.
_ENGINE_BACK_S = 12.0
# With how often it is asked (`watch`) this bounds how late a frozen agent is noticed.
_AGENT_TIMEOUT_S = 6.0


@dataclass
class Launch(Common):
    """What all topologies of a bench have in common.

    Attributes:
        nodes: the machines, that of the runner first.
        say: told, one line each, what is being done.
        progress: told the number of finished runs as it grows.
        runs: ids of the runs; the plan's, if there are none.
    """

    nodes: Sequence[Node]
    say: Callable[[str], None]
    progress: Callable[[int], None]
    runs: frozenset[str] = frozenset()


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
    found = nodes.read_nodes(plan, files)
    home = connect()
    write_whole(directory.plan, plan.in_topology().text())
    variables = image_stacks(files)
    images = images or ensure(sorted(set(variables.values())), say, variant=variant)
    owner = ownership.current_owner()
    machines = [_node(placed, owner, directory, images) for placed in found]
    nodes.require_swarm(machines)
    for node in machines:
        nodes.bring_images(images, home, node, say)
    launch = Launch(
        plan=plan,
        directory=directory,
        files=files,
        images={variable: images[stack].reference for variable, stack in variables.items()},
        owner=owner,
        environment=environment,
        nodes=machines,
        say=say,
        progress=progress,
        runs=runs,
    )
    return launch, {
        "engine": asdict(machines[0].engine),
        "images": {stack: asdict(image) for stack, image in images.items()},
        "variant": variant.facts() if variant is not None else None,
        "service_environment": environment,
        "notes": list(plan.executor.notes()),
        "compose_files": [str(path.relative_to(COMPOSE_DIR.parent)) for path in files],
    }


def _node(
    placed: Placed, owner: ownership.Owner, directory: RunDirectory, images: Mapping[str, Image]
) -> Node:
    client = nodes.connected(placed)
    engine = describe(client)
    run_dir = str(directory.path)
    agent = Agent(client, engine, owner, "child", run_dir=run_dir, place=placed.place)
    if wants_container(client, engine, directory.path):
        # One of this checkout's, if there is one: a bundle's may be older than agents are.
        bundled = min(images.values(), key=lambda image: image.size_bytes).reference
        checkouts = "" if placed.place.host else some_image()
        agent.form, agent.image = "container", checkouts or bundled
    return Node(placed, client, engine, agent)


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
        parts: its shares of all nodes, that of the runner first.
    """

    launch: Launch
    number: int
    places: range
    name: str = field(default_factory=new_project_name)
    lacks: dict[str, str] = field(default_factory=dict)
    malloc: dict[str, list[str]] = field(default_factory=dict)
    parts: list[Part] = field(init=False)
    _stack: ExitStack = field(default_factory=ExitStack)
    _is_down: bool = True

    def __post_init__(self) -> None:
        launch = self.launch
        self.parts = [
            Part(launch, node, self.name, self.number, self.places, not place, not launch.nodes[1:])
            for place, node in enumerate(launch.nodes)
        ]

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
        try:
            return self._run(before_first_run)
        except InfrastructureError as error:
            with suppress(DockerException, OSError):
                # Whoever did not become ready can still say what it waits for.
                for part in self.parts:
                    part.containers = part.project.containers(part.client)
                self._collect_stacks()
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
        launch, first = self.launch, self.parts[0]
        for part in self.parts:
            part.make_folders()
        self._stack.callback(self._collect)
        records.write(self.record())
        self._stack.callback(self._forget)
        owner = launch.owner
        secret_files = self._stack.enter_context(
            launch.plan.executor.containers().files(owner.container_uid, owner.container_gid)
        )
        self._stack.callback(self._remove_parents)
        _each(self.parts, lambda part: part.prepare(secret_files))
        clocks = nodes.Clocks(launch.nodes, launch.directory.nodes)
        clocks.measure(self.number, "start")
        clocks.take()
        joined = Joined(self.parts)
        if not first.is_only:
            joined.make(self._stack)
        shift_ns = first.node.agent.clock_shift_ns()
        view = self._stack.enter_context(
            sampling.docker_view(launch.directory, first.marks, shift_ns)
        )
        self._stack.callback(self._take_down)
        happened: queue.SimpleQueue[Event] = queue.SimpleQueue()
        for part in self.parts:
            self._stack.enter_context(events(part.project, happened, part.node.name))
        launch.say(f"Starting the topology {self.name}")
        self._is_down = False
        # Compose takes a third of a second to say what it is starting anyway.
        with ThreadPoolExecutor(1) as aside:
            written = aside.submit(self._write_inputs)
            self._up(joined)
            written.result()
        _each(self.parts, lambda part: part.follow(view))
        containers = [container for part in self.parts for container in part.containers]
        self.malloc = {role(container): _malloc_settings(container) for container in containers}
        before_first_run()
        names = [part.called(c) for part in self.parts for c in part.containers]
        intakes = [part.know(launch.runs, names if part is first else ()) for part in self.parts]
        runs = len(intakes[0].known.runs)
        several = Several(first.node.name, tuple(part.node.name for part in self.parts))
        with ExitStack() as watching:
            # The runner's last: its marks are told to all others.
            for part in reversed(self.parts):
                spread = nodes.spanning(launch.nodes, part.node)
                watched = watching.enter_context(part.watch(several, runs, spread))
                reason = part.parents.reason
                self.lacks |= {f"cgroup parents{part.node.of}": reason} if reason else {}
                self.lacks |= watched.answer.absent
            return self._watch(happened, several, intakes[0], clocks)

    def _up(self, joined: Joined) -> None:
        """Bring all shares up; when one of them fails, the others need not wait for it."""
        timeout_s = self.launch.plan.general.start_timeout
        if self.parts[0].is_only:
            self.parts[0].project.up(timeout_s)
            return

        def up(part: Part) -> None:
            try:
                part.project.up(timeout_s)
            except InfrastructureError as error:
                for each in self.parts:
                    with suppress(DockerException, OSError):
                        each.project.kill(each.client)
                raise type(error)(f"node {part.node.name}: {error}") from None

        with joined.handing_over():
            _each(self.parts, up)

    def _judge(self) -> Judge:
        return Judge(self.parts, self.launch.directory)

    def close(self) -> None:
        """Take everything down."""
        self._stack.close()

    def keep(self) -> None:
        """Leave everything in place, and say how to look at it."""
        for part in self.parts:
            part.node.agent.kept = True
            part.node.agent.fetch(part.folder)
        records.write(replace(self.record(), kept=True))
        for part in self.parts:
            if part.intake is not None:
                part.intake.end(str(self.number))
                part.intake.keep_folder()
        self._stack.pop_all()

    def record(self) -> records.Record:
        """Return the note that says whose this topology is."""
        return records.Record(
            self.name,
            str(BenchProcess.current()),
            str(self.launch.directory.path),
            engines=tuple(
                part.node.placed.place.named() for part in self.parts if part.node.placed.place.host
            ),
        )

    def has_begun(self, done: Set[str]) -> bool:
        """Say whether it is at a run that is not ``done``, by its marks."""
        run_id = last_run(self.parts[0].shared, self.launch.directory)
        return bool(run_id) and run_id not in done

    def _write_inputs(self) -> None:
        """Write the compose project as it is started; that of a node is written already."""
        if not self.parts[0].is_only:
            return
        resolved = self.launch.directory.path / "compose"
        resolved.mkdir(exist_ok=True)
        name = "project.yaml" if self.number == 1 else f"project-{self.number}.yaml"
        write_whole(resolved / name, self.parts[0].project.config())

    def _watch(
        self,
        happened: queue.SimpleQueue[Event],
        several: Several,
        intake: Intake,
        clocks: nodes.Clocks,
    ) -> Ending | None:
        launch, first = self.launch, self.parts[0]
        runner = next(container for container in first.containers if role(container) == "runner")
        watch = RunnerWatch(
            self.parts,
            launch.directory,
            intake,
            happened,
            self._progress(clocks),
            sampler_end=several.poll,
            silent_agent=lambda: several.ask(_AGENT_TIMEOUT_S),
            killed=several.killed,
            run_timeout_s=run_timeout_s(launch.plan),
            # The runner waits that long for the workers itself, and says which are missing.
            start_timeout_s=2 * launch.plan.general.start_timeout,
            rows_in_all=len(self.places),
        )
        ending = None
        try:
            ending = watch.wait()
            if ending is not None and ending.outcome == Outcome.TIMEOUT:
                self._collect_stacks()
        finally:
            # An engine that does not answer stops nothing either; the runner ends by itself when
            # nobody confirms its marks any more.
            if ending is None or ending.service != ENGINE:
                _stop_in_order(runner)
            # Every sampler writes out what it has.
            for part in self.parts:
                if part.node.agent.is_container:
                    part.node.agent.stop_samplers(part.folder)
                else:
                    with suppress(OSError):
                        part.shared.append(
                            launch.directory.marks.name, mark_line("", STOP).encode()
                        )
            intake.end_of_runs()
            with suppress(InfrastructureError, OSError):
                clocks.measure(self.number, "end")
        return ending

    def _progress(self, clocks: nodes.Clocks) -> Callable[[int], None]:
        """Return what is told of finished runs: the clocks are measured after each."""

        def told(rows: int) -> None:
            self.launch.progress(rows)
            with suppress(InfrastructureError, OSError):  # the next look tells
                clocks.measure(self.number, _last_outcome(self.launch.directory) or "start")

        return told

    def _collect_stacks(self) -> None:
        directory = self.launch.directory.stacks / f"topology-{self.number}"
        self.launch.say(f"Saving the stacks of all services in {directory}")
        # On other nodes than the runner's there are workers, which end first.
        for part in reversed(self.parts):
            with suppress(OSError):
                stacks.collect(part.project, part.containers, directory)

    def _remove_parents(self) -> None:
        for part in self.parts:
            left = [] if part.parents.reason else part.node.agent.remove_cgroups(self.name)
            for directory in left:
                self.launch.say(f"{Grade.FINE}: {directory} could not be removed")

    def _take_down(self) -> None:
        launch = self.launch
        logs = launch.directory.path / "logs"
        if self.number > 1:
            logs /= f"topology-{self.number}"
        silent = [
            part
            for part in self.parts
            if not answers_in_time(
                _ENGINE_BACK_S, part.client.api.api_version, part.node.placed.place
            )
        ]
        for part in silent:
            launch.say(
                f"{Grade.FINE}: the engine{part.node.of} does not answer: {self.name} is left in"
                f" place; 'harness clean {self.name}' removes it"
            )
        if silent:
            self._stack.pop_all()
        there = [part for part in self.parts if part not in silent]
        try:
            for part in there:
                part.project.logs(logs, part.client)
        except OSError as error:
            launch.say(f"{Grade.FINE}: the logs could not be saved: {error.strerror or error}")
        finally:
            _each(there, lambda part: part.project.down(part.client))
            self._is_down = not silent

    def _forget(self) -> None:
        """Remove the note, unless something of the topology may still be there."""
        if self._is_down:
            records.remove(self.name)

    def _collect(self) -> None:
        suffix = "" if self.number == 1 else f"@{self.number}"
        for part in self.parts:
            agent = part.node.agent
            unwritten = agent.fetch(part.folder)
            if unwritten:
                self.launch.say(warning(f"not all that containers wrote is here: {unwritten}"))
            if self._is_down:
                agent.drop_folders(part.folder)
        collect_reports(self.launch.directory, suffix)
        for part in self.parts:
            if part.intake is None:
                continue
            part.intake.end(str(self.number))
            for line in part.intake.warnings():
                self.launch.say(warning(line))
            if self._is_down:
                part.intake.remove()


def _last_outcome(directory: RunDirectory) -> str:
    """Return the run whose outcome was written last; empty without one."""
    try:
        lines = directory.outcomes.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return lines[-1].partition(",")[0] if lines[1:] else ""


def _each(parts: Sequence[Part], do: Callable[[Part], None]) -> None:
    """Do something with all shares at the same time; raise what the first that fails raises."""
    if not parts:
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        for _ in pool.map(do, parts):
            pass


def _stop_in_order(runner: Container) -> None:
    """End the runner, if it still runs, letting it write what it has."""
    with suppress(DockerException, OSError):  # it has ended, or the engine has
        runner.stop(timeout=_RUNNER_STOP_S)


def _malloc_settings(container: Container) -> list[str]:
    environment = container.attrs["Config"]["Env"] or []
    return sorted(setting for setting in environment if setting.startswith("MALLOC_"))
