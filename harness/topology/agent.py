"""Starting the agent of an engine's machine: as a child, or as a container on that machine.

A child is enough for root on the engine's own machine. Everybody else, wherever the engine is, has
the engine start the agent as a container of one of our images: whoever may talk to an engine can
have what root has. The container sees the machine's cgroup tree and processes, has no network and
three capabilities (docs/security.md), and keeps the topologies' folders in a volume of its own.
"""

from __future__ import annotations

import base64
import os
import select
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.errors import APIError, DockerException, NotFound
from docker.types import Mount
from requests.exceptions import RequestException

from harness.core.clock import clock_id
from harness.core.errors import InfrastructureError
from harness.core.text import one_line
from harness.images import store
from harness.images.address import Address
from harness.results.directory import RunDirectory
from harness.results.intake import shared_files
from harness.results.shared import SharedFolder
from harness.sampling.agent.parents import CgroupParents, remove_cgroups
from harness.sampling.agent.relay import MODULE, Relay, child_agent
from harness.sampling.clocks import Offset
from harness.topology import records
from harness.topology.compose import new_project_name
from harness.topology.engine import (
    HERE,
    OWNER_LABEL,
    ROLE_LABEL,
    RUN_LABEL,
    Engine,
    close_answer,
    connect,
)
from harness.topology.ownership import Owner
from harness.topology.records import BenchProcess, Record

AGENT_ROLE = "agent"
_ROOT = "/harness/node"
_CGROUPS = "/sys/fs/cgroup"
# To make directories at the top of the cgroup tree, which its owner may not write; to look at the
# containers' processes, and make their folders, as their own user; to wake up on time.
_CAPABILITIES = ["DAC_OVERRIDE", "SETUID", "SETGID", "SYS_NICE"]
_MEMORY = "256m"
_STOP_S = 10
_NO_IMAGE = "workflow-memory-harness/no-image:none"


def sees_files_here(client: DockerClient, place: Path) -> bool:
    """Say whether an engine sees the files of this machine.

    It is asked to mount a folder that was made just now, for an image that nobody has: it looks
    for the folder first, and has started nothing either way.
    """
    try:
        nonce = Path(tempfile.mkdtemp(prefix=".harness-nonce-", dir=place))
    except OSError:  # the run directory cannot be made either, which is told where it is
        return True
    try:
        mount = Mount("/nonce", str(nonce), type="bind", read_only=True)
        host = client.api.create_host_config(mounts=[mount])
        made = client.api.create_container(_NO_IMAGE, host_config=host)
        client.api.remove_container(made["Id"])  # somebody has called an image that
    except APIError as error:
        return "source path does not exist" not in str(error.explanation)
    finally:
        nonce.rmdir()
    return True


def wants_container(client: DockerClient, engine: Engine, place: Path) -> bool:
    """Say whether the agent has to be a container.

    Args:
        client, engine: the engine.
        place: a folder of this machine.
    """
    if os.geteuid() != 0 or engine.rootless or engine.name != "Docker":
        return True
    return not sees_files_here(client, place)


_NOT_STARTED = "the memory sampler's agent could not be started on the engine's machine: "
_PIECE_BYTES = 1 << 16
# Before each piece of a stream: which of the two it is of, and its length (the engine's API,
# "Attach to a container").
_FRAME = struct.Struct(">BxxxL")
_STDERR = 2
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _ContainerStreams:
    """The streams of a container, by the engine's API.

    The SDK's own reader waits for a socket to become readable before each read; with TLS what it
    waits for may have been decrypted already. One thread reads while others write: OpenSSL allows
    only one at a time, so none of them waits while it has the socket.
    """

    def __init__(self, client: DockerClient, container_id: str) -> None:
        self._client = client
        self._id = container_id
        ways = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        # What the SDK hands out is the socket itself, or a file around it, which must stay.
        self._attached = client.api.attach_socket(container_id, params=ways)
        self._socket: socket.socket = getattr(self._attached, "_sock", self._attached)
        self._socket.setblocking(False)
        self._using = threading.Lock()
        self._rest = b""
        self._said = b""

    @property
    def said(self) -> str:
        """The last of what it wrote to its standard error."""
        lines = self._said.decode("utf-8", "replace").strip().splitlines()
        return one_line(lines[-1])[:300] if lines else ""

    def receive(self) -> bytes:
        """Return what has come, waiting for it; nothing at the end."""
        while True:
            piece = self._piece()
            if not piece:
                return b""
            self._rest += piece
            found = b"".join(self._frames())
            if found:
                return found

    def _piece(self) -> bytes:
        while True:
            with self._using:
                try:
                    return self._socket.recv(_PIECE_BYTES)
                except _NOT_NOW:
                    pass
            self._wait(select.POLLIN)

    def _wait(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        poll.poll()

    def _frames(self) -> Iterator[bytes]:
        """Yield what whole frames of standard output hold; keep what is of standard error."""
        while len(self._rest) >= _FRAME.size:
            kind, size = _FRAME.unpack_from(self._rest)
            end = _FRAME.size + size
            if len(self._rest) < end:
                return
            data, self._rest = self._rest[_FRAME.size : end], self._rest[end:]
            if kind == _STDERR:
                self._said = (self._said + data)[-4096:]
            else:
                yield data

    def send(self, data: bytes) -> None:
        """Send. Raises OSError if the container has ended."""
        view = memoryview(data)
        while view:
            with self._using:
                try:
                    view = view[self._socket.send(view) :]
                    continue
                except _NOT_NOW:
                    pass
            self._wait(select.POLLOUT)

    def close(self) -> int:
        """End the container: it ends with its standard input."""
        code = -1
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            ended = self._client.api.wait(self._id, timeout=_STOP_S)
            code = int(ended["StatusCode"])
        except NotFound:
            code = 0  # it ended and the engine has removed it
        except (DockerException, OSError):
            pass
        with suppress(DockerException, OSError):
            self._client.api.remove_container(self._id, force=True, v=False)
        close_answer(self._attached)
        return code


@dataclass(frozen=True)
class Places:
    """Where a topology's folders and files are on the engine's machine.

    Attributes:
        shared, replies: the folders that containers mount.
        marks, answers: the same as the agent sees them.
        plan: the plan's file.
        inputs: variable -> what the executor's files are mounted from.
    """

    shared: str
    replies: RunDirectory
    seen_shared: str
    seen_replies: str
    plan: str
    inputs: Mapping[str, str]


@dataclass
class Agent:
    """The agent of a bench.

    Attributes:
        client, engine: what started it, or will start the containers it watches.
        owner: whom the containers run as.
        form: ``child`` or ``container``.
        image: of the container.
        project: under which container and volume are found.
        place: the engine's address.
    """

    client: DockerClient
    engine: Engine
    owner: Owner
    form: str
    image: str = ""
    run_dir: str = ""
    project: str = field(default_factory=new_project_name)
    kept: bool = False
    place: Address = HERE
    _relay: Relay | None = None
    _volume: str = ""
    _stack: ExitStack = field(default_factory=ExitStack)
    _offset: Offset | None = None

    @property
    def is_container(self) -> bool:
        """Whether it is a container, and so keeps the topologies' folders."""
        return self.form == "container"

    @property
    def relay(self) -> Relay:
        """The conversation with it."""
        assert self._relay is not None
        return self._relay

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        found: dict[str, Any] = {"form": self.form, "priority": self.relay.priority}
        if self._offset is None:
            return found | {"clock": "this machine's"}
        offset = {"offset_ns": self._offset.offset_ns, "error_ns": self._offset.error_ns}
        return found | {"clock": "its own", **offset}

    def start(self) -> None:
        """Start it.

        Raises:
            InfrastructureError: if that does not work.
        """
        try:
            self._start()
        except (DockerException, RequestException) as error:
            raise InfrastructureError(_NOT_STARTED + " ".join(str(error).split())[:300]) from None

    def _start(self) -> None:
        if not self.is_container:
            self._relay = self._stack.enter_context(child_agent())
            return
        if not self.image:
            raise InfrastructureError(
                "the engine has no image to start the memory sampler's agent from: 'make images'"
            )
        records.write(self._note())
        self._stack.callback(self._forget)
        labels = {RUN_LABEL: self.project, OWNER_LABEL: str(BenchProcess.current())}
        name = f"{self.project}-node"
        volume = self.client.volumes.create(name, labels=labels)
        self._stack.callback(self._remove_volume, name)
        self._volume = str(volume.attrs["Mountpoint"])
        self._relay = self._start_container(name, labels)
        self.measure_clock()

    def _start_container(self, volume: str, labels: Mapping[str, str]) -> Relay:
        # A stream of its own, for as long as the bench takes.
        client = connect(place=self.place)
        mounts = [
            Mount(_CGROUPS, _CGROUPS, type="bind"),
            Mount(_ROOT, volume, type="volume"),
        ]
        for pid_mode in ("host", ""):
            try:
                relay = self._run_container(client, mounts, labels, pid_mode)
            except (DockerException, InfrastructureError) as error:
                reason = " ".join(str(error).split())[:300]
                # An engine without root may not show the machine's processes.
                if pid_mode and isinstance(error, APIError):
                    continue
                break
            self._stack.callback(relay.close)
            return relay
        raise InfrastructureError(_NOT_STARTED + reason)

    def _run_container(
        self, client: DockerClient, mounts: list[Mount], labels: Mapping[str, str], pid_mode: str
    ) -> Relay:
        made = client.api.create_container(
            self.image,
            command=["-m", MODULE],
            entrypoint=["python"],
            user="0:0",
            stdin_open=True,
            name=f"{self.project}-agent{'' if pid_mode else '-alone'}",
            labels={**labels, ROLE_LABEL: AGENT_ROLE},
            host_config=client.api.create_host_config(
                mounts=mounts,
                network_mode="none",
                pid_mode=pid_mode or None,
                cgroupns="host",
                cap_drop=["ALL"],
                cap_add=_CAPABILITIES,
                security_opt=["no-new-privileges"],
                read_only=True,
                mem_limit=_MEMORY,
                pids_limit=16,
            ),
        )
        self._stack.callback(_remove_container, client, made["Id"])
        streams = _ContainerStreams(client, made["Id"])
        client.api.start(made["Id"])
        try:
            return Relay(streams)
        except InfrastructureError as error:
            raise InfrastructureError(streams.said or str(error)) from None

    def measure_clock(self) -> None:
        """Measure its clock against this machine's, if it is another."""
        if self.relay.clock != clock_id():
            self._offset = self.relay.clock_offset()

    @property
    def offset(self) -> Offset:
        """What is to be added to its clock for this machine's, as it was measured last."""
        return self._offset or Offset(0, 0, 0)

    def clock_shift_ns(self) -> int:
        """Return what is to be added to this machine's clock for that of the containers."""
        with suppress(OSError, InfrastructureError):
            self.measure_clock()
        return 0 if self._offset is None else -self._offset.offset_ns

    def make_folders(
        self,
        name: str,
        shared: SharedFolder,
        replies: RunDirectory,
        directory: RunDirectory,
        inputs: Mapping[str, str],
    ) -> Places:
        """Make what a topology's containers mount.

        Args:
            name: of the topology.
            shared, replies: its folders here, which are made already.
            directory: the run directory, whose plan and names of files count.
            inputs: variable -> file or folder that the executor's containers mount.
        """
        if not self.is_container:
            paths = str(shared.path), str(replies.path)
            return Places(paths[0], replies, *paths, str(directory.plan), inputs)
        files = {"plan.json": directory.plan.read_bytes()}
        there = f"{self._volume}/inputs/{name}"
        moved = {}
        for variable, given in inputs.items():
            source = Path(given)
            moved[variable] = f"{there}/{variable}"
            found = [source] if source.is_file() else sorted(source.rglob("*"))
            for path in found:
                if path.is_file():
                    inner = "" if path == source else f"/{path.relative_to(source)}"
                    files[f"{variable}{inner}"] = path.read_bytes()
        self.relay.mirror(name, shared)
        self.relay.ask(
            "make",
            root=_ROOT,
            name=name,
            user=[self.owner.container_uid, self.owner.container_gid],
            files=shared_files(directory),
            inputs={key: base64.b64encode(data).decode() for key, data in files.items()},
        )
        return Places(
            shared=f"{self._volume}/shared/{name}",
            replies=RunDirectory(Path(self._volume, "replies", name)),
            seen_shared=f"{_ROOT}/shared/{name}",
            seen_replies=f"{_ROOT}/replies/{name}",
            plan=f"{there}/plan.json",
            inputs=moved,
        )

    def watching_user(self) -> tuple[int, int]:
        """Return as whom containers' processes are looked at; (0, 0) is as the agent itself."""
        if not self.is_container:
            return 0, 0
        return self.owner.container_uid, self.owner.container_gid

    def stop_samplers(self, name: str) -> None:
        """Have the samplers in a topology's containers end."""
        self._fetch("stop", name)

    def fetch(self, name: str) -> str:
        """Bring home all that a topology's containers have written; return why it is not all."""
        self._fetch("send", name)
        return self.relay.unwritten(name) if self.is_container else ""

    def _fetch(self, request: str, name: str) -> None:
        if self.is_container and not self.relay.gone:
            with suppress(OSError, InfrastructureError):
                self.relay.ask(request, name=name)

    def drop_folders(self, name: str) -> None:
        """Remove a topology's folders there."""
        self._fetch("drop", name)

    def obstacle(self) -> str:
        """Return why there can be no parent cgroups, empty if nothing speaks against it."""
        driver, version = self.engine.cgroup_driver, self.engine.cgroup_version
        return str(self.relay.ask("obstacle", driver=driver, version=version))

    def create_parents(self, project: str, services: Sequence[str]) -> CgroupParents:
        """Create a project's parent cgroups, or say in ``reason`` why there are none."""
        driver, version = self.engine.cgroup_driver, self.engine.cgroup_version
        try:
            found = self.relay.ask(
                "parents", driver=driver, version=version, project=project, services=list(services)
            )
        except OSError as error:
            return CgroupParents(project, reason=str(error))
        return CgroupParents(**found)

    def cgroups(self) -> dict[str, list[str]]:
        """Return the directories of everything at the top of the cgroup tree, by name."""
        found: dict[str, list[str]] = self.relay.ask("cgroups")
        return found

    def remove_cgroups(self, project: str) -> list[str]:
        """Remove a project's cgroups; return the directories that stay."""
        try:
            left: list[str] = self.relay.ask("remove", project=project)
        except InfrastructureError:
            # It was killed. What it made must go all the same.
            if not self.is_container:
                return remove_cgroups(project)
            refused = suppress(InfrastructureError, DockerException, OSError)
            with refused, started(replacement(self)) as other:
                return other.remove_cgroups(project)
            return [f"the cgroups of {project}"]
        return left

    def close(self) -> None:
        """End it, and remove what is its own."""
        self._stack.close()

    def _note(self) -> Record:
        engines = (self.place.named(),) if self.place.host else ()
        return Record(self.project, str(BenchProcess.current()), self.run_dir, engines=engines)

    def _remove_volume(self, name: str) -> None:
        if self.kept:
            return
        with suppress(DockerException, OSError):
            self.client.volumes.get(name).remove(force=True)

    def _forget(self) -> None:
        if self.kept:
            records.write(replace(self._note(), kept=True))
        else:
            records.remove(self.project)


def some_image() -> str:
    """Return an image from which an agent can be started; empty if the engine has none."""
    found = store.there().values()
    return min(found, key=lambda image: image.size_bytes).reference if found else ""


def _remove_container(client: DockerClient, container_id: str) -> None:
    with suppress(DockerException, OSError):
        client.api.remove_container(container_id, force=True)
    client.close()


def replacement(agent: Agent) -> Agent:
    """Return one of the same form, to be started when an agent is gone."""
    return Agent(
        agent.client,
        agent.engine,
        agent.owner,
        agent.form,
        agent.image,
        agent.run_dir,
        place=agent.place,
    )


@contextmanager
def started(agent: Agent) -> Iterator[Agent]:
    """Provide a started agent; nothing of it is left afterwards.

    Raises:
        InfrastructureError: if it cannot be started.
    """
    try:
        agent.start()
        yield agent
    finally:
        agent.close()
