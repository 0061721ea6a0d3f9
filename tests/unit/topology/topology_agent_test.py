"""Starting the agent of an engine's machine, on an engine that is none."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from docker.errors import APIError, DockerException

from harness.core.clock import clock_id
from harness.core.errors import InfrastructureError
from harness.images import store
from harness.images.store import Image
from harness.results.directory import RunDirectory
from harness.results.shared import SharedFolder
from harness.sampling.agent.parents import CgroupParents
from harness.sampling.agent.relay import MODULE, Relay
from harness.topology import agent as agent_module
from harness.topology import records
from harness.topology.agent import (
    AGENT_ROLE,
    Agent,
    sees_files_here,
    some_image,
    started,
    wants_container,
)
from harness.topology.engine import OWNER_LABEL, ROLE_LABEL, RUN_LABEL, describe
from harness.topology.ownership import Owner
from harness.topology.records import BenchProcess
from tests.fake_engine import PROJECT, FakeEngine

IMAGE = "workflow-memory-harness/redis:1"
NAME = "topology-1"
TIMEOUT_S = 30


class Machine:
    """An engine whose containers are processes of this machine, and agents on it.

    Attributes:
        volume: of the agent, which it finds where the engine has it.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.engine = FakeEngine()
        self.engine.programs[IMAGE] = ["-m", MODULE]
        self.engine.volumes_at = place / "volumes"
        self.volume = self.engine.volumes_at / f"{PROJECT}-node"
        self.volume.mkdir(parents=True)

    def agent(self, form: str) -> Agent:
        # Its folders are this user's: no other could be acted as here.
        owner = Owner(0, 0, 0, 0)
        engine = describe(self.engine.client)
        image = IMAGE if form == "container" else ""
        return Agent(self.engine.client, engine, owner, form, image, "/runs/a", PROJECT)

    @property
    def names(self) -> list[str]:
        return [
            *(container.name for container in self.engine.all),
            *(thing.name for thing in self.engine.things),
        ]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(agent_module, "connect", lambda **_: machine.engine.client)
    monkeypatch.setattr(agent_module, "_ROOT", str(machine.volume))
    yield machine
    for container in list(machine.engine.all):
        container.remove()


class FakeRelay:
    """An agent that answers as a test wants, or fails so."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.gone = ""

    def ask(self, request: str, **words: Any) -> Any:
        self.asked.append((request, words))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def answered(agent: Agent, answer: Any = None) -> FakeRelay:
    """Let an agent that is not started have somebody who answers for it."""
    relay = FakeRelay(answer)
    agent._relay = cast("Relay", relay)
    return relay


@pytest.mark.parametrize(
    ("user", "change", "elsewhere", "container"),
    [
        (0, {}, False, False),
        (1000, {}, False, True),
        (0, {"rootless": True}, False, True),
        (0, {"name": "Podman"}, False, True),
        (0, {}, True, True),
    ],
    ids=["root", "ordinary user", "rootless engine", "Podman", "another machine"],
)
def test_a_child_is_enough_for_root_on_the_engines_own_machine_alone(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    user: int,
    change: dict[str, Any],
    elsewhere: bool,
    container: bool,
) -> None:
    machine.engine.elsewhere = elsewhere
    monkeypatch.setattr(os, "geteuid", lambda: user)
    engine = replace(describe(machine.engine.client), **change)
    assert wants_container(machine.engine.client, engine, machine.place) == container


def test_what_kind_of_engine_it_is_is_read_of_it(machine: Machine) -> None:
    plain = describe(machine.engine.client)
    assert (plain.name, plain.rootless, str(plain)) == ("Docker", False, "Docker 28.0, overlay2")
    machine.engine.components = [{"Name": "Podman Engine"}]
    machine.engine.facts["SecurityOptions"] = ["name=seccomp", "name=rootless"]
    found = describe(machine.engine.client)
    assert (found.name, found.rootless) == ("Podman", True)
    assert str(found) == "Podman 28.0, overlay2, without root"


def test_whether_an_engine_sees_files_is_asked_by_one_that_is_gone_afterwards(
    machine: Machine,
) -> None:
    before = sorted(machine.place.iterdir())
    assert sees_files_here(machine.engine.client, machine.place)
    machine.engine.elsewhere = True
    assert not sees_files_here(machine.engine.client, machine.place)
    assert sorted(machine.place.iterdir()) == before
    # Where nothing can be made here, a bench says so itself.
    assert sees_files_here(machine.engine.client, machine.place / "not there")


def test_an_engine_that_has_the_image_that_nobody_has_keeps_no_container(machine: Machine) -> None:
    machine.engine.programs[agent_module._NO_IMAGE] = ["-c", "pass"]
    assert sees_files_here(machine.engine.client, machine.place)
    assert machine.names == []


def test_the_smallest_image_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    images = {
        name: Image(name, f"{name}:1", "id", size)
        for name, size in (("dask", 300), ("redis", 100), ("endpoint", 200))
    }
    monkeypatch.setattr(store, "there", lambda: images)
    assert some_image() == "redis:1"
    images.clear()
    assert some_image() == ""


def test_a_child_is_a_process_here_and_nothing_of_the_engines(machine: Machine) -> None:
    agent = machine.agent("child")
    with started(agent) as same:
        assert same is agent
        assert Path(f"/proc/{agent.relay.pid}").exists()
        assert machine.names == []
        assert records.all_records() == []
        facts = agent.facts()
        assert (facts["form"], facts["clock"]) == ("child", "this machine's")
        assert facts["priority"] == agent.relay.priority != ""
        assert agent.clock_shift_ns() == 0
        assert agent.watching_user() == (0, 0)
    assert not Path(f"/proc/{agent.relay.pid}").exists()


def test_a_childs_places_are_those_of_home(machine: Machine) -> None:
    agent = machine.agent("child")
    relay = answered(agent)
    shared = SharedFolder(machine.place / "shared" / NAME)
    replies = RunDirectory(machine.place / "replies" / NAME)
    inputs = {"HARNESS_KEYS": "/keys"}
    places = agent.make_folders(NAME, shared, replies, RunDirectory(machine.place), inputs)
    assert places.shared == places.seen_shared == str(shared.path)
    assert places.replies == replies
    assert places.seen_replies == str(replies.path)
    assert (places.plan, places.inputs) == (f"{machine.place}/plan.json", inputs)
    # There is nothing to bring home or to remove.
    agent.stop_samplers(NAME)
    agent.fetch(NAME)
    agent.drop_folders(NAME)
    assert relay.asked == []


def test_parents_are_made_where_the_agent_is(machine: Machine) -> None:
    agent = machine.agent("child")
    made = CgroupParents(PROJECT, {"w": f"/{PROJECT}/w"}, {"w": "/c/w"}, "/c")
    relay = answered(agent, vars(made))
    assert agent.create_parents(PROJECT, ("w",)) == made
    words = {"driver": "cgroupfs", "version": 2}
    assert relay.asked == [("parents", {**words, "project": PROJECT, "services": ["w"]})]
    relay.answer = OSError("/c: Read-only file system")
    assert agent.create_parents(PROJECT, ("w",)) == CgroupParents(
        PROJECT, reason="/c: Read-only file system"
    )
    relay.answer = "creating cgroups needs root"
    assert agent.obstacle() == "creating cgroups needs root"
    assert relay.asked[-1] == ("obstacle", words)
    relay.answer = {PROJECT: ["/c"]}
    assert agent.cgroups() == {PROJECT: ["/c"]}
    relay.answer = ["/c/busy"]
    assert agent.remove_cgroups(PROJECT) == ["/c/busy"]
    assert relay.asked[-1] == ("remove", {"project": PROJECT})


def test_what_a_child_that_was_killed_has_made_is_removed_all_the_same(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []

    def remove(project: str) -> list[str]:
        removed.append(project)
        return ["/c/busy"]

    monkeypatch.setattr(agent_module, "remove_cgroups", remove)
    with started(machine.agent("child")) as agent:
        os.kill(agent.relay.pid, signal.SIGKILL)
        assert agent.remove_cgroups(PROJECT) == ["/c/busy"]
    assert removed == [PROJECT]


def test_a_container_is_made_to_watch_and_for_nothing_else(machine: Machine) -> None:
    agent = machine.agent("container")
    with started(agent):
        (container,) = machine.engine.all
        created, host = container.created, container.created["host_config"]
        assert (created["image"], created["name"]) == (IMAGE, f"{PROJECT}-agent")
        assert (created["entrypoint"], created["command"]) == (["python"], ["-m", MODULE])
        assert (created["user"], created["stdin_open"]) == ("0:0", True)
        labels = {RUN_LABEL: PROJECT, OWNER_LABEL: str(BenchProcess.current())}
        assert created["labels"] == {**labels, ROLE_LABEL: AGENT_ROLE}
        assert (host["cap_drop"], host["network_mode"], host["read_only"]) == (
            ["ALL"],
            "none",
            True,
        )
        assert set(host["cap_add"]) == {"DAC_OVERRIDE", "SETUID", "SETGID", "SYS_NICE"}
        assert host["security_opt"] == ["no-new-privileges"]
        assert (host["cgroupns"], host["pid_mode"]) == ("host", "host")
        # Of this machine's files it has the cgroup tree alone, and a volume of its own.
        assert [(m["Type"], m["Source"]) for m in host["mounts"]] == [
            ("bind", "/sys/fs/cgroup"),
            ("volume", f"{PROJECT}-node"),
        ]
        (volume,) = machine.engine.things
        assert (volume.kind, volume.labels) == ("volume", labels)
        # Whoever finds it after the end of this process knows whose it is.
        (record,) = records.all_records()
        assert (record.project, record.run_dir, record.kept) == (PROJECT, "/runs/a", False)
        assert agent.relay.ask("clock")["mono_ns"] > 0
        facts = agent.facts()
        assert (facts["form"], facts["clock"]) == ("container", "this machine's")
    assert machine.names == []
    assert records.all_records() == []
    # It had a connection of its own.
    assert machine.engine.closed == 1


def test_a_topologys_folders_are_in_its_volume(machine: Machine) -> None:
    key, keys = machine.place / "key.pem", machine.place / "keys"
    key.write_bytes(b"\x00pem")
    (keys / "inner").mkdir(parents=True)
    (keys / "a").write_bytes(b"a")
    (keys / "inner" / "b").write_bytes(b"b" * 100_000)
    # Names of the user's (--csv-file, --log-file) are the names there, too.
    directory = RunDirectory(machine.place, "mine.csv", "mine.txt")
    directory.plan.write_text("{}")
    shared = SharedFolder(machine.place / "shared" / NAME)
    shared.create()
    replies = RunDirectory(machine.place / "replies" / NAME)
    agent = machine.agent("container")
    with started(agent):
        given = {"HARNESS_KEY": str(key), "HARNESS_KEYS": str(keys)}
        places = agent.make_folders(NAME, shared, replies, directory, given)
        inputs = machine.volume / "inputs" / NAME
        assert places.shared == places.seen_shared == f"{machine.volume}/shared/{NAME}"
        assert str(places.replies.path) == places.seen_replies == f"{machine.volume}/replies/{NAME}"
        assert places.plan == f"{inputs}/plan.json"
        assert places.inputs == {name: f"{inputs}/{name}" for name in given}
        assert Path(places.plan).read_text() == "{}"
        assert Path(places.inputs["HARNESS_KEY"]).read_bytes() == b"\x00pem"
        assert (inputs / "HARNESS_KEYS" / "a").read_bytes() == b"a"
        assert (inputs / "HARNESS_KEYS" / "inner" / "b").read_bytes() == b"b" * 100_000
        assert places.replies.marks_ack.exists()
        # What its containers write comes home when it is fetched.
        there = Path(places.shared)
        (there / "objects.csv").write_bytes(b"o" * 300_000)
        for name in ("mine.csv", "mine-memory.csv", "mine.txt"):
            (there / name).write_text(f"{name}\n")
        assert agent.fetch(NAME) == ""
        assert shared.size("objects.csv") == 300_000
        for name in ("mine.csv", "mine-memory.csv", "mine.txt"):
            assert shared.read(name, 99) == f"{name}\n".encode()
        (there / "marks.csv").write_text("a\n")
        agent.stop_samplers(NAME)
        text = shared.read("marks.csv", 99)
        assert text is not None
        assert text.startswith(b"a\n,stop,")
        agent.drop_folders(NAME)
        assert not there.exists()
        assert not inputs.exists()
        # Home keeps its own.
        assert shared.size("objects.csv") == 300_000


def test_the_containers_user_is_looked_at_as_that_user(machine: Machine) -> None:
    agent = replace(machine.agent("container"), owner=Owner(0, 0, 65532, 65533))
    assert agent.watching_user() == (65532, 65533)
    assert replace(agent, form="child").watching_user() == (0, 0)


def test_an_agent_that_is_kept_leaves_its_volume_and_a_note(machine: Machine) -> None:
    with started(machine.agent("container")) as agent:
        agent.kept = True
    assert machine.engine.all == []
    assert [thing.name for thing in machine.engine.things] == [f"{PROJECT}-node"]
    (record,) = records.all_records()
    assert (record.project, record.run_dir, record.kept) == (PROJECT, "/runs/a", True)


def test_an_engine_that_hides_the_machines_processes_starts_it_without_them(
    machine: Machine,
) -> None:
    machine.engine.refuses = {"host"}
    with started(machine.agent("container")) as agent:
        modes = [c.created["host_config"]["pid_mode"] for c in machine.engine.all]
        assert modes == ["host", None]
        assert len({container.name for container in machine.engine.all}) == 2
        assert agent.relay.ask("clock")["mono_ns"] > 0
    assert machine.names == []


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (["-c", "import sys; sys.exit('one line\\nno module named harness')"], "no module named"),
        (["-c", "print('hello')"], "Expecting value"),
        (["-c", "pass"], "its stream ended"),
    ],
)
def test_an_agent_that_does_not_start_says_why_and_leaves_nothing(
    machine: Machine, program: list[str], said: str
) -> None:
    machine.engine.programs[IMAGE] = program
    start = "agent could not be started on the engine's machine: "
    with pytest.raises(InfrastructureError, match=f"{start}.*{said}") as raised:
        machine.agent("container").start()
    assert "one line" not in str(raised.value)


def test_without_an_image_there_is_no_container(machine: Machine) -> None:
    agent = replace(machine.agent("container"), image="")
    with pytest.raises(InfrastructureError, match=r"no image .*'make images'"), started(agent):
        pytest.fail("it has started")
    assert machine.names == []
    assert records.all_records() == []


def test_what_an_agent_that_does_not_start_had_is_removed(machine: Machine) -> None:
    machine.engine.refuses = {"host", None}
    with (
        pytest.raises(InfrastructureError, match="process numbers are this user's own"),
        started(machine.agent("container")),
    ):
        pytest.fail("it has started")
    assert machine.names == []
    assert records.all_records() == []


def test_another_clock_is_measured_and_shifted(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "clock_id", lambda: f"not {clock_id()}")
    with started(machine.agent("container")) as agent:
        facts = agent.facts()
        # It is this machine's all the same.
        assert abs(agent.clock_shift_ns()) < 1e9
        assert facts["clock"] == "its own"
        assert abs(facts["offset_ns"]) < 1e9
        assert 0 < facts["error_ns"] < 1e9
        measured = SimpleNamespace(offset_ns=-7_000, error_ns=5)
        monkeypatch.setattr(Relay, "clock_offset", lambda _: measured)
        # Ours is to be made theirs.
        assert agent.clock_shift_ns() == 7_000
        assert agent.facts()["offset_ns"] == -7_000

        # The last one that is known counts if the agent answers no more.
        def lost(_: Relay) -> None:
            raise InfrastructureError("gone")

        monkeypatch.setattr(Relay, "clock_offset", lost)
        assert agent.clock_shift_ns() == 7_000


@pytest.mark.parametrize("starts", [True, False])
def test_what_a_container_that_was_killed_has_made_is_removed_by_another(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, starts: bool
) -> None:
    agent = machine.agent("container")
    answered(agent, InfrastructureError("the memory sampler's agent ended"))
    others: list[str] = []

    def start(other: Agent) -> None:
        others.append(other.project)
        assert (other.form, other.image, other.run_dir) == ("container", IMAGE, "/runs/a")
        if not starts:
            raise InfrastructureError("the engine is gone")
        answered(other, ["/c/busy"])

    monkeypatch.setattr(Agent, "start", start)
    left = ["/c/busy"] if starts else [f"the cgroups of {PROJECT}"]
    assert agent.remove_cgroups(PROJECT) == left
    # What the first one has is not taken from it.
    assert len(others) == 1
    assert others[0] != PROJECT


def test_an_agent_that_is_gone_is_asked_for_nothing_more(machine: Machine) -> None:
    with started(machine.agent("container")) as agent:
        (container,) = machine.engine.all
        assert container.program is not None
        container.program.end()
        deadline = time.monotonic() + TIMEOUT_S
        while not agent.relay.gone:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        began = time.monotonic()
        agent.fetch(NAME)
        agent.stop_samplers(NAME)
        agent.drop_folders(NAME)
        assert time.monotonic() - began < 5
    assert machine.names == []


def test_an_engine_that_is_gone_at_the_end_is_no_further_fault(machine: Machine) -> None:
    agent = machine.agent("container")
    with started(agent):
        machine.engine.gone = DockerException("no socket")
    machine.engine.gone = None
    assert len(machine.engine.all) == 1


class Streams:
    """A container's streams, of which a test has the other end."""

    def __init__(self) -> None:
        self.here, self.there = socket.socketpair()
        self.removed: list[str] = []
        api = SimpleNamespace(
            attach_socket=lambda *_, **__: self.here,
            wait=self.wait,
            remove_container=lambda name, **_: self.removed.append(name),
        )
        client = cast("Any", SimpleNamespace(api=api))
        self.streams = agent_module._ContainerStreams(client, "an-id")
        self.ended: Any = {"StatusCode": 5}

    def wait(self, *_: Any, **__: Any) -> Any:
        if isinstance(self.ended, Exception):
            raise self.ended
        return self.ended

    def says(self, kind: int, data: bytes) -> bytes:
        return struct.pack(">BxxxL", kind, len(data)) + data


@pytest.fixture
def streams() -> Iterator[Streams]:
    streams = Streams()
    yield streams
    for each in (streams.here, streams.there):
        with suppress(OSError):
            each.close()


@pytest.mark.parametrize("size", [1, 3, 8, 11, 1000])
def test_both_streams_come_apart_wherever_they_are_cut(streams: Streams, size: int) -> None:
    sent = b"".join(
        (
            streams.says(1, b"first "),
            streams.says(2, b"a warning\nthe last\x1b line\n"),
            streams.says(1, b"second"),
            streams.says(1, b""),
            streams.says(1, b" third"),
        )
    )
    for place in range(0, len(sent), size):
        streams.there.sendall(sent[place : place + size])
    streams.there.shutdown(socket.SHUT_WR)
    heard = b""
    while piece := streams.streams.receive():
        heard += piece
    assert heard == b"first second third"
    assert streams.streams.said == "the last  line"


def test_all_of_a_long_message_is_sent_while_others_are_heard(streams: Streams) -> None:
    streams.here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    data = os.urandom(1 << 20)
    child = os.fork()
    if child == 0:  # the other end, which takes its time
        heard = b""
        while len(heard) < len(data):
            heard += streams.there.recv(1 << 16)
        os._exit(0 if heard == data else 1)
    streams.streams.send(data)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        ({"StatusCode": 5}, 5),
        (APIError("busy"), -1),
        (OSError("timed out"), -1),
    ],
)
def test_a_container_is_let_end_and_is_gone_then(streams: Streams, ended: Any, code: int) -> None:
    streams.ended = ended
    assert streams.streams.close() == code
    # It sees the end of its input.
    assert streams.there.recv(1) == b""
    assert streams.removed == ["an-id"]
