"""One node's share of a launched topology: its folders, cgroups, compose project and containers.

Where there is one node, its share is all of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.models.containers import Container

from harness.core.attend import VARIABLE
from harness.core.clock import VARIABLE as CLOCK
from harness.core.files import write_whole
from harness.plan import Plan
from harness.results.directory import RunDirectory
from harness.results.intake import Intake, Known
from harness.results.shared import SharedFolder
from harness.sampling.agent.parents import CgroupParents
from harness.sampling.agent.relay import Watch
from harness.sampling.agent.several import Several
from harness.sampling.docker_stats import DockerView
from harness.topology import sampling
from harness.topology.agent import Places
from harness.topology.compose import ComposeProject, override_text, services
from harness.topology.engine import connect
from harness.topology.nodes import WORKER, Node
from harness.topology.ownership import Owner
from harness.topology.records import BenchProcess

RUN_MOUNT = "/harness/run"
STORE = "store"
"""The volume where the file connector keeps its objects."""
ATTENDANTS = f"{RUN_MOUNT}/.attending"
"""Where all containers of a traced topology have the sockets at which their processes wait."""


@dataclass
class Common:
    """What all topologies of a bench have in common on all nodes.

    Attributes:
        plan: with a topology.
        directory: the run directory.
        files: compose files.
        images: variables that name the images.
        owner: whose the files are.
        environment: variables that the plan sets in its services.
    """

    plan: Plan
    directory: RunDirectory
    files: Sequence[Path]
    images: Mapping[str, str]
    owner: Owner
    environment: Mapping[str, Mapping[str, str]]


@dataclass
class Part:
    """One node's share of a topology.

    Args:
        common: of all topologies of the bench.
        node: the machine.
        name: the compose project, which is the same on all nodes.
        number: of the topology in the bench, from 1.
        places: which of the plan's runs it is for.
        is_first: whether the runner is here.
        is_only: whether there is no other node.

    Attributes:
        parents: its parent cgroups, once there are any.
        containers: all of its containers, once it is up.
        intake: what takes its rows in, once it is up.
    """

    common: Common
    node: Node
    name: str
    number: int
    places: range
    is_first: bool = True
    is_only: bool = True
    parents: CgroupParents = field(init=False)
    containers: list[Container] = field(default_factory=list)
    intake: Intake | None = None
    _places: Places | None = None
    _project: ComposeProject | None = None

    def __post_init__(self) -> None:
        self.parents = CgroupParents(self.name, reason="not made yet")

    @property
    def folder(self) -> str:
        """The name of its folders."""
        suffix = "" if self.is_first else f"@{self.node.name}"
        return f"topology-{self.number}{suffix}"

    @property
    def client(self) -> DockerClient:
        """A connection to its engine."""
        return self.node.client

    @property
    def shared(self) -> SharedFolder:
        """All that its containers can write."""
        return SharedFolder(self.common.directory.shared / self.folder)

    @property
    def replies(self) -> RunDirectory:
        """What the host answers its runner, which reads it under the same names."""
        return RunDirectory(self.common.directory.replies / self.folder)

    @property
    def marks(self) -> Path:
        """The file with the runner's marks, or with what is told of them here."""
        return self.shared.path / self.common.directory.marks.name

    def make_folders(self) -> None:
        """Make its folders here. Raises OSError."""
        self.shared.create(*self.common.owner.of_containers())
        self.replies.path.mkdir(parents=True)
        write_whole(self.replies.marks_ack, b"")
        write_whole(self.replies.settled, b"")

    def prepare(self, inputs: Mapping[str, str]) -> None:
        """Make cgroups and folders on the node.

        Args:
            inputs: variable -> file or folder that the executor's containers mount.
        """
        agent = self.node.agent
        self.parents = agent.create_parents(self.name, self.node.placed.all_services)
        self._places = agent.make_folders(
            self.folder, self.shared, self.replies, self.common.directory, inputs
        )

    @property
    def project(self) -> ComposeProject:
        """Its compose project."""
        if self._project is None:
            files = [*self.common.files, *self._overrides()]
            return self._compose(files, self.environment())
        return self._project

    def take_share(self, share: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        """From now on have a compose project with a share of the topology's services.

        Args:
            share: makes of the whole project, as compose resolves it for this node, its share.
        """
        whole = json.loads(self.project.config("json"))
        folder = self.common.directory.path / "compose"
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.folder.replace('topology', 'node')}.json"
        write_whole(path, json.dumps(share(whole), indent=2) + "\n")
        self._project = self._compose([path], {})

    def _compose(self, files: Sequence[Path], variables: Mapping[str, str]) -> ComposeProject:
        # What services tell each other is handed from node to node until all are healthy.
        checked = not self.is_only
        return ComposeProject(self.name, files, variables, self.node.placed.place, checked=checked)

    def _overrides(self) -> list[Path]:
        """Return the compose file with the variables that the plan sets, if it sets any."""
        environment = self._service_environment()
        if not environment:
            return []
        path = self.common.directory.path / "compose" / "environment.yaml"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_whole(path, override_text(environment))
        return [path]

    def _service_environment(self) -> dict[str, dict[str, str]]:
        common = self.common
        found = {service: dict(values) for service, values in common.environment.items()}
        if common.plan.general.traced:
            for service in services(common.files):
                found.setdefault(service, {})[VARIABLE] = ATTENDANTS
        return found

    def environment(self) -> dict[str, str]:
        """Return the variables of the compose files."""
        plan = self.common.plan
        assert plan.topology is not None
        places = self._places or Places("", RunDirectory(Path()), "", "", "", {})
        command = f"python -m harness run --plan {RUN_MOUNT}/plan.json"
        if len(self.places) < plan.run_count:
            command += f" --places {self.places.start + 1} {self.places.stop}"
        return {
            **self.common.images,
            **{
                f"HARNESS_CGROUP_{service.upper()}": parent
                for service, parent in self.parents.compose.items()
            },
            **plan.executor.containers().environment,
            **places.inputs,
            "HARNESS_OWNER": str(BenchProcess.current()),
            "HARNESS_USER": self.common.owner.compose_user,
            "HARNESS_RUN_MOUNT": places.shared,
            "HARNESS_RUN_MOUNT_TYPE": "bind",
            "HARNESS_PLAN_FILE": places.plan,
            "HARNESS_MARKS_ACK_FILE": str(places.replies.marks_ack),
            "HARNESS_SETTLED_FILE": str(places.replies.settled),
            "HARNESS_RUNNER_COMMAND": command,
            "HARNESS_MARKS_ACK": "1",
            # The runner starts beside the services and waits itself, until each worker has got an
            # object through the connector.
            "HARNESS_RUNNER_AFTER": "service_started",
            "HARNESS_INSIDE_INTERVAL": str(sampling.inside_interval_s(plan, self.common.files)),
            "HARNESS_WORKER_MEMORY_LIMIT": str(plan.topology.worker_memory_limit or 0),
            # Podman takes the size of any volume for a quota of the disk.
            **({"HARNESS_SECRETS_SIZE": ""} if self.node.engine.name == "Podman" else {}),
        }

    def follow(self, view: DockerView) -> None:
        """Note its containers, and follow their stats streams."""
        self.containers = self.project.containers(self.client)
        sampling.follow(view, self.project, self.containers, self.node.engine)

    def know(self, runs: frozenset[str], elsewhere: Collection[str] = ()) -> Intake:
        """Return what takes its rows in, which knows the names of its runs and containers.

        Args:
            runs: ids of the runs; the plan's, if there are none.
            elsewhere: containers of other nodes, which the runner names.
        """
        plan = self.common.plan
        of_plan = plan.runs()[self.places.start : self.places.stop]
        known = Known(
            runs=runs or frozenset(run.run_id for run in of_plan),
            modes=frozenset(plan.workload.modes),
            containers=frozenset(map(self.called, self.containers)) | frozenset(elsewhere),
            runner=self.is_first,
        )
        self.intake = Intake(self.shared, self.common.directory, known)
        self.intake.keep_known()
        return self.intake

    def watch(
        self, several: Several, runs: int, names: Mapping[str, str]
    ) -> AbstractContextManager[Watch]:
        """Have the node's agent read its containers' cgroup files while in this context."""
        assert self._places is not None
        return sampling.cgroup_view(
            self.common.plan,
            self.common.directory,
            self.project,
            self.containers,
            self.parents,
            agent=self.node.agent,
            places=self._places,
            runs=runs,
            of_several=sampling.OfSeveral(
                several, self.node.name, self.node.clock, names, home_settles=not self.is_only
            ),
        )

    def called(self, container: Container) -> str:
        """Return a container's name in the topology: ``worker-2``."""
        return self.project.short_name(container)

    def connect(self, timeout_s: float) -> DockerClient:
        """Return another connection to its engine, of which the API's version is known."""
        version = self.client.api.api_version
        return connect(timeout_s, version=version, place=self.node.placed.place)


def share_of(part: Part, network: str, handed: Mapping[str, str]) -> Callable[..., dict[str, Any]]:
    """Return what makes of a whole compose project the share of a node.

    Args:
        part: the node's.
        network: name of the network that joins the nodes, which exists.
        handed: volumes that are there already -> their names.
    """
    placed, clock = part.node.placed, part.node.clock
    shared_dir = part.common.plan.topology.shared_dir if part.common.plan.topology else None

    def names(service: str) -> list[str]:
        if service == WORKER:
            return [f"{WORKER}-{number}" for number in placed.workers]
        return [service] if service in placed.services else []

    def share(whole: Mapping[str, Any]) -> dict[str, Any]:
        services = {}
        for service, found in whole["services"].items():
            for name in names(service):
                container = name if service == WORKER else f"{name}-1"
                needed = {
                    other: condition
                    for needs, condition in (found.get("depends_on") or {}).items()
                    for other in names(needs)
                }
                networks = {key: value or {} for key, value in found["networks"].items()}
                for key, value in networks.items():
                    aliases = [*(value.get("aliases") or ()), service, container]
                    networks[key] = value | {"aliases": list(dict.fromkeys(aliases))}
                environment = (found.get("environment") or {}) | {
                    "HARNESS_CONTAINER": container,
                    CLOCK: str(clock),
                }
                left = {k: v for k, v in found.items() if k not in ("deploy", "depends_on")}
                # Compose writes a limit of 0 as {}, and then does not read it.
                left["ulimits"] = {k: v or 0 for k, v in (found.get("ulimits") or {}).items()}
                services[name] = left | {
                    "container_name": f"{part.name}-{container}",
                    # By which the tasks say where they ran.
                    "hostname": container,
                    "networks": networks,
                    "environment": environment,
                    **({"depends_on": needed} if needed else {}),
                }
        volumes = dict(whole.get("volumes") or {})
        for name in handed:
            volumes[name] = {"name": handed[name], "external": True}
        if shared_dir is not None and STORE in volumes:
            options = {"type": "none", "o": "bind", "device": shared_dir}
            volumes[STORE] = volumes[STORE] | {"driver_opts": options}
        return {
            "name": part.name,
            "services": services,
            "networks": {"default": {"name": network, "external": True}},
            "volumes": volumes,
        }

    return share
