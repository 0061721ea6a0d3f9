"""The machines a topology is on: one, or those that a file names (``--nodes``)."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from docker import DockerClient
from docker.errors import DockerException, ImageNotFound
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.core.clock import Reference
from harness.core.errors import InfrastructureError, UsageError
from harness.images import Image
from harness.images.address import Address, at, of_context
from harness.plan import Plan
from harness.results.rows import RowWriter
from harness.results.schema import ON_NODE, NodeRow
from harness.topology.agent import Agent
from harness.topology.compose import service_counts, services
from harness.topology.engine import HERE, Engine, connect

RUNNER = "runner"
WORKER = "worker"
_MOST_BYTES = 2**20
_MOST_NODES = 256


class _Entry(BaseModel):
    """A table ``[[nodes]]`` of the file."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
    engine: str = ""
    certificates: str = ""
    context: str = ""
    workers: Annotated[int | None, Field(ge=0, le=100_000)] = None
    weight: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    services: list[str] = []


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    nodes: Annotated[list[_Entry], Field(min_length=1, max_length=_MOST_NODES)]


@dataclass(frozen=True)
class Placed:
    """A node of the file and what goes there.

    Attributes:
        name: its name; empty where it is the only one, and not from a file.
        place: its engine.
        workers: numbers of its workers, from 1.
        services: the services that are there, workers aside.
    """

    name: str = ""
    place: Address = HERE
    workers: tuple[int, ...] = ()
    services: frozenset[str] = frozenset()

    @property
    def all_services(self) -> list[str]:
        """Return the services that are there, workers among them."""
        return sorted([*self.services, *([WORKER] if self.workers else [])])


@dataclass
class Node:
    """A machine with an engine, and the agent that watches it.

    Attributes:
        placed: what goes there.
        client: a connection to its engine.
        engine: what that is.
        agent: not started by this.
        clock: the clock that the topology's times are on, as this node has to know it.
    """

    placed: Placed
    client: DockerClient
    engine: Engine
    agent: Agent
    clock: Reference = field(default_factory=Reference)

    @property
    def name(self) -> str:
        """Its name; empty where it is the only one."""
        return self.placed.name

    @property
    def of(self) -> str:
        """Return what to add to a thing of this node in a sentence; nothing for the only one."""
        return f" of node {self.name}" if self.name else ""

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of it: no address, which is nobody else's business."""
        return {
            "name": self.name,
            "engine": asdict(self.engine),
            "agent": self.agent.facts(),
            "workers": list(self.placed.workers),
            "services": sorted(self.placed.services),
        }


def read_nodes(plan: Plan, files: Sequence[Path]) -> list[Placed]:
    """Return where the services of a plan go; no engine is asked.

    Args:
        plan: with a topology.
        files: its compose files.

    Raises:
        UsageError: one line that names the file, if it says what cannot be done.
        InfrastructureError: if a context of it does not exist, or ssh does not lead to an engine.
    """
    assert plan.topology is not None
    if plan.topology.nodes is None:
        counts = service_counts(plan, files)
        workers = tuple(range(1, counts.pop(WORKER, 0) + 1))
        return [Placed(workers=workers, services=frozenset(counts))]
    path = Path(plan.topology.nodes)
    entries = _read(path).nodes
    where = f"--nodes {path}"
    _refuse(plan, files, where)
    known = [name for name in services(files) if name != WORKER]
    shares = _shares(entries, service_counts(plan, files)[WORKER], where)
    chosen = _services(entries, known, where)
    placed, number = [], 1
    for entry, count in zip(entries, shares, strict=True):
        workers = tuple(range(number, number + count))
        number += count
        placed.append(Placed(entry.name, _place(entry, where), workers, chosen[entry.name]))
    return placed


def _read(path: Path) -> _File:
    where = f"--nodes {path}"
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode("utf-8")
        return _File.model_validate(tomllib.loads(text))
    except OSError as error:
        raise UsageError(f"{where}: {error.strerror}: name a file of nodes") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at_place = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"{where}: {at_place}: {first['msg']}; docs/cluster.md shows such a file"
        ) from None
    except ValueError as error:
        said = " ".join(str(error).split())
        raise UsageError(f"{where}: not TOML: {said}") from None


def _refuse(plan: Plan, files: Sequence[Path], where: str) -> None:
    assert plan.topology is not None
    if WORKER not in services(files):
        raise UsageError(
            f"{where}: here the workers are in the runner's container: choose an executor with"
            " worker containers (dask, ray, taskvine, parsl with htex, globus)"
        )
    shares = "file" in (plan.connector_name, *plan.connector.compose_files())
    if shares and plan.topology.shared_dir is None:
        raise UsageError(
            f"{where}: --ps-connector file needs a folder that all nodes see: name it with"
            " --shared-dir, or choose another connector (redis)"
        )


def _shares(entries: Sequence[_Entry], workers: int, where: str) -> list[int]:
    """Return how many workers each node has, the largest remainders first where they are split."""
    given = [entry.workers for entry in entries]
    fixed = sum(count or 0 for count in given)
    split = [entry for entry in entries if entry.workers is None]
    left = workers - fixed
    if left < 0 or (left > 0 and not split):
        raise UsageError(
            f"{where}: its nodes have {fixed} workers in all, the plan has {workers}: change one"
            " of the two"
        )
    total = sum(entry.weight for entry in split)
    if left and not total:
        raise UsageError(
            f"{where}: no node without 'workers' has a weight: {left} workers are left"
        )
    exact = {entry.name: left * entry.weight / total if total else 0.0 for entry in split}
    found = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: found[name] - exact[name])
    for name in by_remainder[: left - sum(found.values())]:
        found[name] += 1
    return [found[entry.name] if entry.workers is None else entry.workers for entry in entries]


def _services(
    entries: Sequence[_Entry], known: Sequence[str], where: str
) -> dict[str, frozenset[str]]:
    """Return which services are on which node: on the first, unless said otherwise."""
    names = [entry.name for entry in entries]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{where}: two nodes are called {twice}: give each a name of its own")
    place = dict.fromkeys(known, names[0])
    for entry in entries:
        for service in entry.services:
            if service not in known:
                raise UsageError(
                    f"{where}: {entry.name}: no service {service}: choose from {', '.join(known)}"
                    " ('workers' says how many workers a node has)"
                )
            place[service] = entry.name
    if place[RUNNER] != names[0]:
        raise UsageError(f"{where}: the runner is on the first node: put {place[RUNNER]} first")
    return {name: frozenset(s for s, node in place.items() if node == name) for name in names}


def _place(entry: _Entry, where: str) -> Address:
    if entry.engine and entry.context:
        raise UsageError(f"{where}: {entry.name}: name an engine or a context, not both")
    if entry.context:
        return of_context(entry.context, f"{where}: {entry.name}")
    if not entry.engine:
        if entry.certificates:
            raise UsageError(f"{where}: {entry.name}: certificates are of an engine: name it, too")
        return HERE
    return at(entry.engine, str(Path(entry.certificates).absolute()) if entry.certificates else "")


def connected(placed: Placed) -> DockerClient:
    """Return a connection to a node's engine.

    Raises:
        InfrastructureError: one line that names the node, if it does not answer.
    """
    try:
        return connect(place=placed.place)
    except InfrastructureError as error:
        where = f"node {placed.name}: " if placed.name else ""
        raise InfrastructureError(f"{where}{error}") from None


def require_swarm(nodes: Sequence[Node]) -> None:
    """Make sure that a network can join the nodes: their engines are one swarm.

    Raises:
        InfrastructureError: one line with the remedy.
    """
    if len(nodes) < 2:
        return
    infos = [node.client.info() for node in nodes]
    ids = [info.get("ID") for info in infos]
    for place, node in enumerate(nodes):
        if ids[place] in ids[:place]:
            other = nodes[ids.index(ids[place])]
            raise InfrastructureError(
                f"--nodes: {other.name} and {node.name} are one engine: name each engine once"
            )
    first = infos[0].get("Swarm") or {}
    if not first.get("ControlAvailable"):
        raise InfrastructureError(
            f"node {nodes[0].name}: is no manager of a swarm, which the network between nodes"
            " needs: run 'docker swarm init' there"
        )
    members = {member.id for member in nodes[0].client.nodes.list()}
    for node, info in zip(nodes[1:], infos[1:], strict=True):
        swarm = info.get("Swarm") or {}
        if swarm.get("LocalNodeState") != "active" or swarm.get("NodeID") not in members:
            raise InfrastructureError(
                f"node {node.name}: is not in the swarm of {nodes[0].name}: run there what"
                f" 'docker swarm join-token worker' prints on {nodes[0].name}"
            )


def bring_images(
    images: Mapping[str, Image], home: DockerClient, node: Node, say: Callable[[str], None]
) -> None:
    """Bring to a node the images that it has not got, without a registry.

    Args:
        images: by stack, as home's engine has them.
        home: that engine.
        node: where to.
        say: told what is brought.

    Raises:
        InfrastructureError: if that does not work, or the node's are others of the same name.
    """
    if not node.placed.place.host:
        return
    for stack, image in images.items():
        try:
            found = _layers(node.client, image.reference)
            if not found:
                say(f"Bringing the image {stack} to node {node.name}")
                node.client.images.load(home.api.get_image(image.reference))
                found = _layers(node.client, image.reference)
        except (DockerException, OSError) as error:
            said = " ".join(str(error).split())[:200]
            raise InfrastructureError(
                f"node {node.name}: the image {stack} could not be brought there: {said}"
            ) from None
        # Of a bench that is resumed they come from a file, as a list.
        if image.layers and found != list(image.layers):
            raise InfrastructureError(
                f"node {node.name}: its image {image.reference} has other layers: remove it there"
            )


def _layers(client: DockerClient, reference: str) -> list[str]:
    try:
        return list(client.images.get(reference).attrs["RootFS"]["Layers"])
    except ImageNotFound:
        return []


@dataclass
class Clocks:
    """The clocks of a topology's nodes, measured against that of the runner's.

    Args:
        nodes: the machines, that of the runner first.
        table: where the measurements go.
    """

    nodes: Sequence[Node]
    table: Path

    def measure(self, topology: int, moment: str) -> None:
        """Measure all clocks and write that down; nothing where there is one node.

        Raises:
            InfrastructureError: if an agent does not answer.
            OSError: if that cannot be written.
        """
        if len(self.nodes) < 2:
            return
        first = self.nodes[0].agent
        for node in self.nodes:
            node.agent.measure_clock()
        now_ns = first.relay.ask("clock")["mono_ns"]
        with RowWriter(self.table, NodeRow) as rows:
            for node in self.nodes:
                same = node.agent.relay.clock == first.relay.clock
                shift_ns = 0 if same else node.agent.offset.offset_ns - first.offset.offset_ns
                error_ns = 0 if same else node.agent.offset.error_ns + first.offset.error_ns
                word = "same" if same else "measured"
                rows.write(NodeRow(node.name, moment, topology, now_ns, shift_ns, error_ns, word))

    def take(self) -> None:
        """Have every node put its times on the first one's clock, as it was measured last.

        Raises:
            InfrastructureError: if the first one's agent does not answer.
        """
        if len(self.nodes) < 2:
            return
        first = self.nodes[0].agent
        told = first.relay.ask("clock")
        unix_minus_mono_ns = told["unix_ns"] - told["mono_ns"]
        for node in self.nodes[1:]:
            if node.agent.relay.clock != first.relay.clock:
                shift_ns = node.agent.offset.offset_ns - first.offset.offset_ns
                node.clock = Reference(first.relay.clock, shift_ns, unix_minus_mono_ns)


def spanning(nodes: Sequence[Node], node: Node) -> dict[str, str]:
    """Return what scopes are called on a node of which only a part is there."""
    if len(nodes) < 2:
        return {}
    everywhere = [name for each in nodes for name in each.placed.all_services]
    parts = [name for name in node.placed.all_services if everywhere.count(name) > 1]
    return {name: f"{name}{ON_NODE}{node.name}" for name in [*parts, "topology"]}
