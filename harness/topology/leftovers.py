"""What benches that are gone have left, and how to remove it; never anything else.

Containers, networks and volumes are found by our labels, cgroups by the names of projects that
have such a label or a note (``records``). Whatever belongs to a bench that runs, or of which that
cannot be told from here, stays.

Ending at once: somebody else goes on taking down what has been started.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from docker import DockerClient
from docker.errors import APIError, NotFound

from harness.analysis.grades import Grade
from harness.core.environment import child_environment
from harness.core.errors import InfrastructureError, UsageError
from harness.images.address import Address, at
from harness.images.docker_cli import STACK_LABEL
from harness.results.directory import RunDirectory
from harness.results.repair import remove_folders, take_leftovers
from harness.sampling.agent.parents import (
    all_project_cgroups,
    project_cgroups,
    remove_cgroups,
)
from harness.sampling.report import FRAGMENTS
from harness.topology import ownership, records
from harness.topology.agent import Agent, some_image, started, wants_container
from harness.topology.engine import HERE, OWNER_LABEL, RUN_LABEL, connect, describe
from harness.topology.records import BenchProcess, Record, State

# Names that `compose.new_project_name` makes. `docker compose up` by hand has another label value.
_PROJECT = re.compile(r"wmh[0-9a-f]{8}")
# A compose call that outlived its harness may still be creating containers, and a busy machine
# takes its time with the cgroups of those that are gone.
_PASSES = 20
_PASS_S = 0.5


@dataclass
class Leftover:
    """What there is of one project.

    Attributes:
        project: the compose project.
        state: whether its bench still runs.
        record: its note, if there is one.
        containers, networks, volumes: names.
        cgroups: directories.
        owner: the process whose it is, by a label.
    """

    project: str
    state: State = State.UNKNOWN
    record: Record | None = None
    containers: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    cgroups: list[str] = field(default_factory=list)
    owner: str = ""

    @property
    def run_dir(self) -> str:
        """The run directory, empty if unknown."""
        return self.record.run_dir if self.record else ""

    def things(self) -> list[str]:
        """Return everything, one line each."""
        kinds = {
            "container": self.containers,
            "network": self.networks,
            "volume": self.volumes,
            "cgroup": self.cgroups,
        }
        return [f"{kind} {name}" for kind, names in kinds.items() for name in names]


class Tree(Protocol):
    """The cgroup tree of the engine's machine."""

    def cgroups(self) -> dict[str, list[str]]:
        """Return the directories of everything at its top, by name."""

    def remove_cgroups(self, project: str) -> list[str]:
        """Remove a project's cgroups; return the directories that stay."""


class OwnTree:
    """The cgroup tree of this machine."""

    def cgroups(self) -> dict[str, list[str]]:
        """Return the directories of everything at its top, by name."""
        return {name: project_cgroups(name) for name in all_project_cgroups()}

    def remove_cgroups(self, project: str) -> list[str]:
        """Remove a project's cgroups; return the directories that stay."""
        return remove_cgroups(project)


@contextmanager
def tree_of(client: DockerClient, place: Address = HERE) -> Iterator[Tree]:
    """Provide the cgroup tree of an engine's machine, by an agent where that is needed."""
    engine = describe(client)
    image = ""
    if wants_container(client, engine, Path.cwd()):
        image = _image_at(client) if place.host else some_image()
    if not image:
        yield OwnTree()
        return
    with ExitStack() as stack:
        owner = ownership.current_owner()
        agent = Agent(client, engine, owner, "container", image, place=place)
        tree: Tree = OwnTree()
        with suppress(InfrastructureError):  # its containers can be removed all the same
            tree = stack.enter_context(started(agent))
        yield tree


@dataclass(frozen=True)
class Site:
    """An engine where something may be left, and the cgroup tree of its machine.

    Attributes:
        said: its address for messages; empty for this machine's.
    """

    said: str
    client: DockerClient
    tree: Tree


@contextmanager
def sites(say: Callable[[str], None]) -> Iterator[tuple[list[Site], frozenset[str]]]:
    """Provide all engines where notes say that something may be left, this machine's last.

    Args:
        say: told of one that does not answer.

    Yields:
        The engines, and the projects of which something may be at one that does not answer.

    Raises:
        InfrastructureError: if this machine's engine does not answer.
    """
    home = connect()
    wanted: dict[tuple[str, str], set[str]] = {}
    for record in records.all_records():
        if record.state() != State.RUNNING:
            for engine in record.engines:
                wanted.setdefault(engine, set()).add(record.project)
    found, silent = [], set()
    with ExitStack() as stack:
        for (host, certificates), projects in wanted.items():
            try:
                place = at(host, certificates)
                client = connect(place=place)
                found.append(Site(host, client, stack.enter_context(tree_of(client, place))))
            except InfrastructureError as error:
                say(f"{Grade.FINE}: {error}; what it has of {', '.join(sorted(projects))} stays")
                silent |= projects
        found.append(Site("", home, stack.enter_context(tree_of(home))))
        yield found, frozenset(silent)


def _image_at(client: DockerClient) -> str:
    """Return one of our images that another machine's engine has; empty if it has none."""
    found = client.images.list(filters={"label": STACK_LABEL})
    return next((tag for image in found for tag in image.tags), "")


def find(client: DockerClient, tree: Tree | None = None) -> list[Leftover]:
    """Return all projects of benches that the engine, the cgroup tree or a note knows of.

    What this process itself has started is not among them. The tree is this machine's, unless
    another is given.
    """
    found: dict[str, Leftover] = {}
    for record in records.all_records():
        entry = _entry(found, record.project)
        if entry is not None:
            entry.record, entry.state = record, record.state()
    _find_in_engine(client, found)
    # Of a bench whose note and containers are gone only these tell; whose they are nobody knows.
    for name, directories in (tree or OwnTree()).cgroups().items():
        entry = _entry(found, name)
        if entry is not None:
            entry.cgroups = directories
    own = str(BenchProcess.current())
    theirs = [entry for entry in found.values() if entry.owner != own]
    # The volume of an agent can go only when the topologies that used it are gone.
    return sorted(theirs, key=lambda entry: (not entry.networks, entry.project))


def _find_in_engine(client: DockerClient, found: dict[str, Leftover]) -> None:
    filters: dict[str, str | list[str] | bool] = {"label": RUN_LABEL}
    for container in client.containers.list(all=True, filters=filters, ignore_removed=True):
        entry = _entry(found, container.labels.get(RUN_LABEL, ""))
        if entry is not None:
            entry.containers.append(str(container.name))
            _note_owner(entry, container.labels)
    for kind, things in (
        ("networks", client.networks.list(filters=filters)),
        ("volumes", client.volumes.list(filters=filters)),
    ):
        for thing in things:
            labels = thing.attrs.get("Labels") or {}
            entry = _entry(found, labels.get(RUN_LABEL, ""))
            if entry is not None:
                getattr(entry, kind).append(str(thing.attrs["Name"]))
                _note_owner(entry, labels)


def _note_owner(entry: Leftover, labels: Mapping[str, str]) -> None:
    owner = labels.get(OWNER_LABEL, "")
    process = BenchProcess.parse(owner)
    if process is not None:
        entry.owner = owner
        if entry.state == State.UNKNOWN:
            entry.state = process.state()


def _entry(found: dict[str, Leftover], project: str) -> Leftover | None:
    if not _PROJECT.fullmatch(project):
        return None
    return found.setdefault(project, Leftover(project))


def remove_everywhere(found: Sequence[Site], project: str, *, keep_note: bool) -> list[str]:
    """Remove all of a project at several engines; return what could not be removed.

    Args:
        found: the engines.
        project: whose bench must be gone.
        keep_note: whether something may be left at another one.
    """
    left = [thing for site in found for thing in remove(site.client, project, site.tree)]
    if not left and not keep_note:
        forget(project)
    return left


def forget(project: str) -> None:
    """Make a dead bench's run directory whole, and drop its note."""
    record = next((r for r in records.all_records() if r.project == project), None)
    if record is not None:
        tidy_run_directory(Path(record.run_dir))
    records.remove(project)


def remove(client: DockerClient, project: str, tree: Tree | None = None) -> list[str]:
    """Remove all that one engine has of a project; return what could not be removed."""
    tree = tree or OwnTree()
    left = _what_is_left(client, project, tree)
    for number in range(_PASSES):
        if number:
            time.sleep(_PASS_S)
        _remove_once(client, project, tree)
        left = _what_is_left(client, project, tree)
        if not left:
            break
    return left


def _what_is_left(client: DockerClient, project: str, tree: Tree) -> list[str]:
    entry = next((e for e in find(client, tree) if e.project == project), None)
    return entry.things() if entry else []


def _remove_once(client: DockerClient, project: str, tree: Tree) -> None:
    filters: dict[str, str | list[str] | bool] = {"label": f"{RUN_LABEL}={project}"}
    for container in client.containers.list(all=True, filters=filters, ignore_removed=True):
        with suppress(NotFound, APIError):
            container.remove(force=True, v=True)
    for network in client.networks.list(filters=filters):
        with suppress(NotFound, APIError):
            network.remove()
    for volume in client.volumes.list(filters=filters):
        with suppress(NotFound, APIError):
            volume.remove(force=True)
    tree.remove_cgroups(project)


def tidy_run_directory(path: Path) -> None:
    """Remove a dead bench's temporary files; its rows stay. A directory may be gone by now."""
    if not path.is_dir():
        return
    directory = RunDirectory(path)
    ownership.give_to_user(path, ownership.current_owner())
    with suppress(OSError, UsageError):  # what cannot be taken in stays for --resume
        take_leftovers(directory)
        remove_folders(directory)
    for temporary in directory.temporary_files():
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    shutil.rmtree(path / FRAGMENTS, ignore_errors=True)


_INTERRUPTED = 130


def clean_in_background(projects: Sequence[str], say: Callable[[str], None]) -> None:
    """End this process now; ``harness clean`` removes its topologies when it has ended."""
    if projects:
        subprocess.Popen(
            [sys.executable, "-m", "harness", "clean", "--wait", *projects],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            start_new_session=True,
        )
        say(f"Ended at once; 'harness clean' goes on removing {' and '.join(projects)}")
    os._exit(_INTERRUPTED)
