"""A Docker engine that is none: it holds containers, networks and volumes, and answers as one."""

from __future__ import annotations

import os
import queue
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from docker import DockerClient
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from harness.results.directory import RunDirectory
from harness.topology.agent import Agent
from harness.topology.engine import OWNER_LABEL, ROLE_LABEL, RUN_LABEL, describe
from harness.topology.events import Event
from harness.topology.nodes import Node, Placed
from harness.topology.ownership import Owner
from harness.topology.part import Common, Part
from tests.bench_plans import bench_plan

PROJECT = "wmh0123abcd"


@dataclass(eq=False)
class FakeThing:
    """A network or a volume. One that is ``stuck`` cannot be removed."""

    engine: FakeEngine
    kind: str
    name: str
    labels: dict[str, str] = field(default_factory=dict)
    stuck: bool = False

    @property
    def attrs(self) -> dict[str, Any]:
        # The engine says null where there are no labels.
        there = {"Mountpoint": f"{self.engine.volumes_at}/{self.name}"}
        return {"Name": self.name, "Labels": self.labels or None} | there

    def remove(self, **options: Any) -> None:
        if self.stuck:
            raise APIError(f"{self.kind} {self.name} is in use")
        self.engine.removed.append((f"{self.kind} {self.name}", options))
        self.engine.things.remove(self)


@dataclass(eq=False)
class FakeContainer:
    """A container of a project: ``worker-2`` is of the service ``worker``."""

    engine: FakeEngine
    short_name: str
    project: str = PROJECT
    owner: str = ""
    status: str = "running"
    exit_code: int = 0
    pid: int = 0
    oom_killed: bool = False
    said: bytes = b""
    processes: Sequence[Sequence[str]] = ()
    stuck: bool = False
    error: Exception | None = None
    """What the engine answers whenever it is asked about this container."""
    on_exec: Callable[[list[str]], None] | None = None
    environment: list[str] | None = None
    calls: list[tuple[str, Any]] = field(default_factory=list)
    created: dict[str, Any] = field(default_factory=dict)
    """How it was created, by the engine's API."""
    program: Program | None = None

    @property
    def id(self) -> str:
        return f"id-of-{self.short_name}"

    @property
    def name(self) -> str:
        return f"{self.project}-{self.short_name}"

    @property
    def labels(self) -> dict[str, str]:
        role = self.short_name.rpartition("-")[0]
        found = {RUN_LABEL: self.project, ROLE_LABEL: role, OWNER_LABEL: self.owner}
        return found | {"com.docker.compose.service": role}

    @property
    def attrs(self) -> dict[str, Any]:
        state = {"Pid": self.pid, "ExitCode": self.exit_code, "OOMKilled": self.oom_killed}
        return {"State": state, "Config": {"Env": self.environment}}

    def _asked(self, call: str, detail: Any = None) -> None:
        self.calls.append((call, detail))
        if self.error is not None:
            raise self.error

    def reload(self) -> None:
        self._asked("reload")

    def top(self, ps_args: str) -> dict[str, Any]:
        self._asked("top", ps_args)
        titles = [
            word.partition(":")[0].upper() for word in ps_args.rsplit(maxsplit=1)[-1].split(",")
        ]
        return {"Titles": titles, "Processes": self.processes or None}

    def logs(self, **options: Any) -> bytes:
        self._asked("logs", options)
        tail = options.get("tail")
        return b"".join(self.said.splitlines(keepends=True)[-tail:]) if tail else self.said

    def exec_run(self, command: list[str]) -> None:
        self._asked("exec", command)
        if self.on_exec is not None:
            self.on_exec(command)

    def wait(self, **options: Any) -> None:
        self._asked("wait", options)

    def kill(self) -> None:
        self._asked("kill")

    def stop(self, **options: Any) -> None:
        self._asked("stop", options)

    def remove(self, **options: Any) -> None:
        if self.stuck:
            raise APIError(f"container {self.name} is busy")
        self.engine.removed.append((f"container {self.short_name}", options))
        self.engine.all.remove(self)
        if self.program is not None:
            self.program.end()


class Program:
    """What runs in a container that somebody talks to: a process of this machine.

    Its streams are one socket, as the engine's API has them.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None
        self.here, self._there = socket.socketpair()
        self._lock = threading.Lock()

    def start(self) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, *self.command], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0
        )
        assert self.process.stdin is not None
        readers = []
        for kind, stream in ((1, self.process.stdout), (2, self.process.stderr)):
            readers.append(threading.Thread(target=self._frame, args=(kind, stream), daemon=True))
            readers[-1].start()
        threading.Thread(target=self._hand_on, daemon=True).start()
        threading.Thread(target=self._close, args=(readers,), daemon=True).start()

    def _frame(self, kind: int, stream: IO[bytes]) -> None:
        while piece := os.read(stream.fileno(), 1000):
            with self._lock, suppress(OSError):
                self._there.sendall(struct.pack(">BxxxL", kind, len(piece)) + piece)

    def _hand_on(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        with suppress(OSError):
            while piece := self._there.recv(1000):
                self.process.stdin.write(piece)
        self.process.stdin.close()

    def _close(self, readers: Sequence[threading.Thread]) -> None:
        for reader in readers:
            reader.join()
        with suppress(OSError):
            self._there.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class _Containers:
    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine

    def list(
        self, *, filters: dict[str, Any], ignore_removed: bool = False, **ended_too: bool
    ) -> list[FakeContainer]:
        self._engine.answer()
        found = [c for c in self._engine.all if _has(c.labels, filters["label"])]
        return [c for c in found if ended_too.get("all") or c.status == "running"]

    def get(self, name: str) -> FakeContainer:
        self._engine.answer()
        for container in self._engine.all:
            if name in (container.name, container.id):
                return container
        raise NotFound(f"no such container: {name}")


class _Things:
    def __init__(self, engine: FakeEngine, kind: str) -> None:
        self._engine = engine
        self._kind = kind

    def list(self, *, filters: dict[str, Any]) -> list[FakeThing]:
        self._engine.answer()
        of_kind = [thing for thing in self._engine.things if thing.kind == self._kind]
        return [thing for thing in of_kind if _has(thing.labels, filters["label"])]

    def get(self, name: str) -> FakeThing:
        self._engine.answer()
        for thing in self._engine.things:
            if (thing.kind, thing.name) == (self._kind, name):
                return thing
        raise NotFound(f"no such {self._kind}: {name}")

    def create(self, name: str, labels: dict[str, str], **_: Any) -> FakeThing:
        if self._kind == "network" and self._engine.no_subnets:
            raise APIError("no subnet", explanation="all predefined address pools are used up")
        return self._engine.add_thing(self._kind, name, labels)


class FakeEngine:
    """The engine, and a client of it.

    Attributes:
        all: its containers.
        things: its networks and volumes.
        removed: what was removed from it, in order, and how.
        gone: what every call raises, as when the engine does not answer.
        pings, closed: how often it was asked whether it is there; how often a client was closed.
        programs: image -> what Python runs in its containers, once they are started.
        refuses: modes of process numbers with which no container starts.
        volumes_at: the folder of its volumes.
    """

    def __init__(self) -> None:
        self.all: list[FakeContainer] = []
        self.things: list[FakeThing] = []
        self.removed: list[tuple[str, dict[str, Any]]] = []
        self.gone: Exception | None = None
        self.no_subnets = False
        self.elsewhere = False
        self.components: list[dict[str, str]] = []
        self.programs: dict[str, Sequence[str]] = {}
        self.refuses: set[str | None] = set()
        self.volumes_at = Path("/not/on/this/machine/volumes")
        self.api_version = "1.41"
        self.pings = 0
        self.closed = 0
        self.facts: dict[str, Any] = {
            "CgroupVersion": "2",
            "CgroupDriver": "cgroupfs",
            "Driver": "overlay2",
            "MemTotal": 8_000_000_000,
            "NCPU": 2,
            "DockerRootDir": "/not/on/this/machine",
            "MemoryLimit": True,
            "SwapLimit": True,
            "PidsLimit": True,
        }
        self.containers = _Containers(self)
        self.networks = _Things(self, "network")
        self.volumes = _Things(self, "volume")

    def add(self, short_name: str, **state: Any) -> FakeContainer:
        self.all.append(FakeContainer(self, short_name, **state))
        return self.all[-1]

    def add_thing(
        self, kind: str, name: str, labels: dict[str, str] | None = None, *, stuck: bool = False
    ) -> FakeThing:
        self.things.append(FakeThing(self, kind, name, labels or {}, stuck))
        return self.things[-1]

    def answer(self) -> None:
        if self.gone is not None:
            raise self.gone

    def ping(self) -> bool:
        self.pings += 1
        self.answer()
        return True

    def info(self) -> dict[str, Any]:
        self.answer()
        return self.facts

    def version(self) -> dict[str, Any]:
        self.answer()
        return {"Version": "28.0", "ApiVersion": "1.48", "Components": self.components}

    def close(self) -> None:
        self.closed += 1

    @property
    def api(self) -> FakeEngine:
        return self

    def create_host_config(self, mounts: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
        return {"mounts": mounts, **options}

    def create_container(
        self, image: str, host_config: dict[str, Any], name: str = "", **how: Any
    ) -> dict[str, Any]:
        self.answer()
        for mount in host_config["mounts"]:
            hidden = self.elsewhere and mount["Source"] != "/sys/fs/cgroup"
            if mount["Type"] == "bind" and (hidden or not Path(mount["Source"]).exists()):
                raise APIError("400", explanation="bind source path does not exist")
        if image not in self.programs:
            raise APIError("404", explanation="no such image")
        project, _, short_name = name.partition("-")
        container = self.add(short_name, project=project, status="created")
        container.created = {"image": image, "name": name, "host_config": host_config, **how}
        container.program = Program(self.programs[image])
        return {"Id": container.id}

    def attach_socket(self, container_id: str, params: dict[str, int]) -> socket.socket:
        assert params == {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        program = self.containers.get(container_id).program
        assert program is not None
        return program.here

    def start(self, container_id: str) -> None:
        self.answer()
        container = self.containers.get(container_id)
        if container.created["host_config"].get("pid_mode") in self.refuses:
            raise APIError("500", explanation="process numbers are this user's own")
        assert container.program is not None
        container.status = "running"
        container.program.start()

    def wait(self, container_id: str, timeout: float) -> dict[str, int]:
        program = self.containers.get(container_id).program
        assert program is not None
        assert program.process is not None
        return {"StatusCode": program.process.wait(timeout)}

    def remove_container(self, container_id: str, **options: Any) -> None:
        self.containers.get(container_id).remove(**options)

    @property
    def client(self) -> DockerClient:
        """The engine, as what the harness takes for a client."""
        return cast("DockerClient", self)

    @property
    def up(self) -> list[Container]:
        """The containers, as what the harness takes for them."""
        return cast("list[Container]", list(self.all))


def part_on(engine: FakeEngine, directory: RunDirectory, node: str = "") -> Part:
    """Return a node's share of a topology: all containers that an engine has."""
    common = Common(bench_plan(), directory, [], {}, Owner(0, 0, 0, 0), {})
    agent = Agent(engine.client, describe(engine.client), common.owner, "child")
    machine = Node(Placed(node), engine.client, describe(engine.client), agent)
    part = Part(common, machine, PROJECT, 1, range(2), is_only=not node)
    part.containers = engine.up
    return part


def _has(labels: dict[str, str], wanted: str | list[str]) -> bool:
    if isinstance(wanted, list):
        return all(_has(labels, each) for each in wanted)
    name, _, value = wanted.partition("=")
    return name in labels and (not value or labels[name] == value)


class FakeClock:
    """Stands in a module for ``time``: sleeping takes none, and tells the clock instead."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def monotonic_ns(self) -> int:
        return round(self.now_s * 1e9)

    def time_ns(self) -> int:
        return round(self.now_s * 1e9)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


class FakeEvents:
    """The queue of an engine's events, each of which comes at its time on the fake clock.

    Whatever else happens at some time (a file grows, the engine goes) is a function there.
    """

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._start_s = clock.now_s
        self._coming: list[tuple[float, Event | Callable[[], object]]] = []

    def at(self, seconds: float, what: Event | Callable[[], object]) -> None:
        self._coming.append((self._start_s + seconds, what))
        self._coming.sort(key=lambda each: each[0])

    def get(self, timeout: float) -> Event:
        until = self._clock.now_s + timeout
        while self._coming and self._coming[0][0] <= until:
            at_s, what = self._coming.pop(0)
            self._clock.now_s = max(self._clock.now_s, at_s)
            if isinstance(what, Event):
                return what
            what()
        self._clock.now_s = until
        raise queue.Empty
