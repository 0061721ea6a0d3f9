"""Home's end of the conversation, with an agent that says what a test wants and with a real one."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.core.clock import clock_id
from harness.core.errors import InfrastructureError
from harness.results.conversation import MarkWriter
from harness.results.directory import RunDirectory
from harness.results.intake import shared_files
from harness.results.rows import columns, csv_line
from harness.results.schema import CgroupRow, PeakRow
from harness.results.shared import SharedFolder
from harness.sampling.agent.messages import Decoder, encode
from harness.sampling.agent.relay import Relay, child_agent
from harness.sampling.cgroup.config import SamplerConfig
from harness.sampling.report import ViewReport, merge_reports
from harness.sampling.writer import LineWriter
from tests.unit.sampling.cgroup_dirs import TIMEOUT_S, config, container, read, v1, wait_until

HELLO = {"pid": 77, "clock": "a clock", "priority": "normal"}
WATCHING = {"names": ["worker-1"], "absent": {"redis-1": "hidden"}}
NAME = "topology-1"


class ScriptedAgent:
    """The other end of the streams: it notes what it is asked, and answers as it is told to.

    Attributes:
        asked: all requests, in order.
        answers: request -> what is answered; a function gets the request and may say something
            before it returns the answer. What is not here is not answered.
    """

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answers: dict[str, Any] = {"hello": HELLO, "watch": WATCHING, "end": None}
        self._said: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._decoder = Decoder()
        self._gone = False

    def receive(self) -> bytes:
        return self._said.get(timeout=TIMEOUT_S)

    def send(self, data: bytes) -> None:
        if self._gone:
            raise BrokenPipeError(32, "Broken pipe")
        for request, _ in self._decoder.feed(data):
            self.asked.append(request)
            if request["do"] in self.answers:
                answer = self.answers[request["do"]]
                given = answer(request) if callable(answer) else answer
                self.say({"id": request["id"], "answer": given})

    def close(self) -> int:
        self.end()
        return 9

    def say(self, message: dict[str, Any], data: bytes = b"") -> None:
        # As a stream does, it hands a message over in parts.
        sent = encode(message, data)
        self._said.put(sent[:5])
        self._said.put(sent[5:])

    def say_what_is_none(self) -> None:
        self._said.put(b"Traceback (most recent call last):\n")

    def end(self) -> None:
        self._gone = True
        self._said.put(b"")

    def requests(self) -> list[str]:
        return [request["do"] for request in self.asked]

    def rows(self, table: str, *rows: list[Any]) -> None:
        self.say({"rows": table}, "".join(csv_line(row) for row in rows).encode())


@pytest.fixture
def agent() -> ScriptedAgent:
    return ScriptedAgent()


@pytest.fixture
def relay(agent: ScriptedAgent) -> Iterator[Relay]:
    relay = Relay(agent)
    yield relay
    relay.close()
    assert relay.gone


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    (tmp_path / "run").mkdir()
    return RunDirectory(tmp_path / "run")


PEAK = ["r1", "container", "worker-1", 5, "peak", 1, "", 0, "", "kernel"]
ANYTHING = SamplerConfig("/shared", "/replies", [])


def mirrored(relay: Relay, place: Path, name: str = NAME) -> SharedFolder:
    folder = SharedFolder(place / "shared" / name)
    folder.create()
    relay.mirror(name, folder)
    return folder


def test_who_answers_is_known_from_the_beginning(relay: Relay) -> None:
    assert (relay.pid, relay.clock, relay.priority) == (77, "a clock", "normal")
    assert relay.gone == ""


def test_each_request_gets_its_own_answer(agent: ScriptedAgent, relay: Relay) -> None:
    answers: dict[str, Any] = {}

    def ask(request: str) -> None:
        answers[request] = relay.ask(request, timeout_s=TIMEOUT_S)

    threads = [threading.Thread(target=ask, args=(request,)) for request in ("slow", "fast")]
    threads[0].start()
    wait_until("the request", lambda: agent.requests() == ["hello", "slow"])
    threads[1].start()
    wait_until("the request", lambda: agent.requests() == ["hello", "slow", "fast"])
    by_request = {request["do"]: request["id"] for request in agent.asked}
    agent.say({"id": by_request["fast"], "answer": 2})
    threads[1].join(TIMEOUT_S)
    assert answers == {"fast": 2}
    agent.say({"id": by_request["slow"], "answer": None})
    threads[0].join(TIMEOUT_S)
    assert answers == {"fast": 2, "slow": None}


def test_what_is_asked_goes_with_its_words(agent: ScriptedAgent, relay: Relay) -> None:
    agent.answers["remove"] = lambda request: [request["project"]]
    assert relay.ask("remove", project="wmh1") == ["wmh1"]
    assert agent.asked[-1] == {"id": 2, "do": "remove", "project": "wmh1"}


def test_what_was_said_before_an_answer_is_on_disk_when_it_is_there(
    agent: ScriptedAgent, relay: Relay, directory: RunDirectory
) -> None:
    folder = mirrored(relay, directory.path)

    def answer(_: dict[str, Any]) -> None:
        agent.rows("peaks", PEAK)
        agent.say({"file": NAME, "name": "log.txt", "at": 0}, b"said\n")

    agent.answers["send"] = answer
    with relay.watch(ANYTHING, directory):
        relay.ask("send")
        assert len(read(directory.peaks, PeakRow)) == 1
        assert folder.read("log.txt", 99) == b"said\n"


def test_what_an_agent_could_not_do_is_an_oserror(agent: ScriptedAgent, relay: Relay) -> None:
    def refuse(request: dict[str, Any]) -> None:
        agent.say({"id": request["id"], "error": "/c: Permission denied"})

    agent.answers["make"] = refuse
    with pytest.raises(OSError, match=r"^/c: Permission denied$"):
        relay.ask("make")
    agent.answers["clock"] = {"mono_ns": 1}
    assert relay.ask("clock") == {"mono_ns": 1}


@pytest.mark.parametrize(
    ("ends", "why"),
    [
        (ScriptedAgent.end, "its stream ended"),
        (ScriptedAgent.say_what_is_none, "Expecting value"),
        (lambda agent: agent.say({"rows": "strange"}, b"x"), "strange"),
    ],
)
def test_an_agent_that_dies_while_it_is_asked_is_the_infrastructures_fault(
    agent: ScriptedAgent,
    relay: Relay,
    directory: RunDirectory,
    ends: Callable[[ScriptedAgent], None],
    why: str,
) -> None:
    agent.answers["send"] = lambda _: ends(agent)
    with relay.watch(ANYTHING, directory) as watch:
        for _ in range(2):  # whoever asks later is told the same
            with pytest.raises(InfrastructureError, match=f"agent ended: .*{why}"):
                relay.ask("send")
        assert why in relay.gone
        assert watch.poll() == relay.gone
        assert watch.killed() == {}


def test_an_agent_that_is_gone_before_it_says_anything_is_told_of(agent: ScriptedAgent) -> None:
    agent.end()
    with pytest.raises(InfrastructureError, match="agent ended: its stream ended"):
        Relay(agent)


def test_an_agent_that_says_nothing_is_not_waited_for_for_ever(
    agent: ScriptedAgent, relay: Relay
) -> None:
    with pytest.raises(InfrastructureError, match=r"did not answer within 0\.05 s \(send\)"):
        relay.ask("send", timeout_s=0.05)
    # An answer that comes too late is nobody's.
    agent.say({"id": agent.asked[-1]["id"], "answer": 1})
    agent.answers["send"] = 2
    assert relay.ask("send") == 2


def test_rows_go_to_their_files_and_the_report_to_the_others(
    agent: ScriptedAgent, relay: Relay, directory: RunDirectory
) -> None:
    with relay.watch(ANYTHING, directory, folder=NAME) as watch:
        assert agent.asked[-1]["folder"] == NAME
        assert agent.asked[-1]["config"]["shared"] == "/shared"
        assert (watch.answer.names, watch.answer.absent) == (["worker-1"], {"redis-1": "hidden"})
        assert watch.poll() is None

        def last(_: dict[str, Any]) -> None:
            agent.rows("samples", [""] * len(columns(CgroupRow)))
            agent.rows("peaks", PEAK, PEAK)
            agent.rows("peaks", PEAK)
            agent.say({"report": ViewReport("cgroup", "host", elapsed_ns=5).as_dict()})

        agent.answers["end"] = last
        assert not directory.peaks.exists()
    # Leaving asks for all that there is; a table without rows is no file.
    assert len(read(directory.peaks, PeakRow)) == 3
    assert len(read(directory.memory("cgroup"), CgroupRow)) == 1
    assert not directory.ledger.exists()
    assert merge_reports(directory.path)["cgroup"]["host"]["elapsed_ns"] == 5


def test_a_mark_is_confirmed_when_its_rows_are_on_disk(
    agent: ScriptedAgent, relay: Relay, directory: RunDirectory
) -> None:
    at_confirmation: list[int] = []
    received = agent.send

    def send(data: bytes) -> None:
        if b"confirm" in data:
            at_confirmation.append(len(read(directory.peaks, PeakRow)))
            assert list(Decoder().feed(data)) == [({"do": "confirm"}, b"")]
            return
        received(data)

    agent.send = send  # type: ignore[method-assign]
    with relay.watch(ANYTHING, directory):
        for _ in range(2):
            agent.rows("peaks", PEAK)
            agent.say({"handled": ["0001-none-1", "run_start", 1, 2]})
        wait_until("both confirmations", lambda: len(at_confirmation) == 2)
    assert at_confirmation == [1, 2]


@pytest.mark.parametrize("how", ["a full disk", "a folder in the way"])
def test_a_row_that_cannot_be_written_ends_the_sampling_and_confirms_nothing(
    agent: ScriptedAgent,
    relay: Relay,
    directory: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    if how == "a full disk":
        why = "No space left on device"
        flush = LineWriter.flush

        def full(writer: LineWriter) -> None:
            if str(Path(f"/proc/self/fd/{writer._fd}").readlink()) == str(directory.peaks):
                raise OSError(28, why)
            flush(writer)

        monkeypatch.setattr(LineWriter, "flush", full)
    else:
        why = "Is a directory"
        directory.peaks.mkdir()
    agent.answers["send"] = None
    with relay.watch(ANYTHING, directory) as watch:
        agent.rows("samples", [""] * len(columns(CgroupRow)))
        agent.rows("peaks", PEAK)
        agent.say({"handled": ["0001-none-1", "run_start", 1, 2]})
        relay.ask("send")
        reason = f"{directory.peaks}: {why}"
        assert watch.poll() == reason
        assert "confirm" not in agent.requests()
        # Whatever fails after that, the first reason is the reason; and nothing waits for it.
        directory.ledger.mkdir()
        agent.rows("ledger", ["r1"])
        agent.rows("peaks", PEAK)
        agent.say({"handled": ["0001-none-1", "run_start", 1, 2]})
        relay.ask("send")
        assert watch.poll() == reason
        assert "confirm" not in agent.requests()
    # What could be written is there, and the agent is as well as it was.
    assert len(read(directory.memory("cgroup"), CgroupRow)) == 1
    assert relay.gone == ""


def test_what_ends_the_sampling_over_there_is_told(
    agent: ScriptedAgent, relay: Relay, directory: RunDirectory
) -> None:
    agent.answers["send"] = lambda _: agent.say({"failed": "too many marks"})
    with relay.watch(ANYTHING, directory) as watch:
        relay.ask("send")
        assert watch.poll() == "too many marks"
    # The next one begins well.
    with relay.watch(ANYTHING, directory) as watch:
        assert watch.poll() is None


def test_a_sampling_that_cannot_begin_is_one_line(
    agent: ScriptedAgent, relay: Relay, directory: RunDirectory
) -> None:
    def refuse(request: dict[str, Any]) -> None:
        agent.say({"id": request["id"], "error": "/replies: Permission denied"})

    agent.answers["watch"] = refuse
    with pytest.raises(InfrastructureError) as raised, relay.watch(ANYTHING, directory):
        pytest.fail("nothing is watched")
    assert str(raised.value) == "the memory sampler did not start: /replies: Permission denied"


def test_rows_of_a_watch_that_is_over_are_nobodys(
    agent: ScriptedAgent, relay: Relay, directory: RunDirectory
) -> None:
    def late(_: dict[str, Any]) -> None:
        agent.rows("peaks", PEAK)
        agent.say({"handled": ["0001-none-1", "run_start", 1, 2]})
        agent.say({"report": {}})
        agent.say({"failed": "late"})

    agent.answers["clock"] = late
    with relay.watch(ANYTHING, directory):
        pass
    relay.ask("clock")
    assert list(directory.path.iterdir()) == []
    assert "confirm" not in agent.requests()
    assert relay.gone == ""


def test_kills_are_asked_for_and_none_where_that_fails(
    agent: ScriptedAgent, relay: Relay, directory: RunDirectory
) -> None:
    agent.answers["killed"] = {"worker-1": 2}
    with relay.watch(ANYTHING, directory) as watch:
        assert watch.killed() == {"worker-1": 2}
        agent.answers["killed"] = lambda request: agent.say({"id": request["id"], "error": "no"})
        assert watch.killed() == {}


def test_files_are_here_as_they_are_there(
    agent: ScriptedAgent, relay: Relay, tmp_path: Path
) -> None:
    folder = mirrored(relay, tmp_path)
    other = mirrored(relay, tmp_path, "topology-2")

    def answer(_: dict[str, Any]) -> None:
        for at, data in ((0, b"a\nb"), (3, b"\n"), (4, b"c\n")):
            agent.say({"file": NAME, "name": "marks.csv", "at": at}, data)
        for text in (b"{long}", b"{}"):
            agent.say({"file": NAME, "name": "manifest.json", "at": None}, text)
        agent.say({"file": NAME, "name": ".sampling/a.json", "at": None}, b"{}")
        agent.say({"file": "topology-9", "name": "marks.csv", "at": 0}, b"nobody's\n")
        agent.say({"file": "topology-2", "name": "marks.csv", "at": 0}, b"another's\n")

    agent.answers["send"] = answer
    relay.ask("send")
    assert folder.read("marks.csv", 99) == b"a\nb\nc\n"
    assert folder.read("manifest.json", 99) == b"{}"
    assert folder.read(".sampling/a.json", 99) == b"{}"
    assert other.read("marks.csv", 99) == b"another's\n"
    assert sorted(path.name for path in (tmp_path / "shared").iterdir()) == [NAME, "topology-2"]


def test_a_file_that_cannot_be_written_ends_the_sampling(
    agent: ScriptedAgent, relay: Relay, directory: RunDirectory
) -> None:
    folder = mirrored(relay, directory.path)
    elsewhere = directory.path / "elsewhere"
    elsewhere.write_text("stays")
    (folder.path / "marks.csv").symlink_to(elsewhere)
    agent.answers["send"] = lambda _: agent.say(
        {"file": NAME, "name": "marks.csv", "at": 0}, b"a\n"
    )
    with relay.watch(ANYTHING, directory) as watch:
        relay.ask("send")
        reason = watch.poll()
        assert reason is not None
        assert reason.startswith(f"{folder.path}/marks.csv: ")
        agent.say({"handled": ["0001-none-1", "run_start", 1, 2]})
    assert elsewhere.read_text() == "stays"
    assert "confirm" not in agent.requests()


def test_another_clock_is_measured(agent: ScriptedAgent, relay: Relay) -> None:
    ahead_ns = 5_000_000_000_000
    agent.answers["clock"] = lambda _: {"mono_ns": time.monotonic_ns() + ahead_ns}
    offset = relay.clock_offset()
    assert offset.offset_ns == pytest.approx(-ahead_ns, abs=1e8)
    assert abs(offset.offset_ns + ahead_ns) <= offset.error_ns < 1e8
    assert agent.requests().count("clock") > 1


def test_closing_lets_the_agent_end_and_says_how_it_ended(agent: ScriptedAgent) -> None:
    relay = Relay(agent)
    relay.close()
    assert relay.gone in ("its stream ended", "exit code 9")
    with pytest.raises(InfrastructureError, match="agent ended"):
        relay.ask("clock")


def test_a_child_has_this_machines_clock_and_ends_with_its_home() -> None:
    with child_agent() as relay:
        assert relay.clock == clock_id()
        here_ns = time.monotonic_ns()
        assert abs(relay.ask("clock")["mono_ns"] - here_ns) < TIMEOUT_S * 1e9
        assert abs(relay.clock_offset().offset_ns) < 1e9
        pid = relay.pid
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()


def test_an_agent_that_is_killed_leaves_what_marks_brought_home(
    tmp_path: Path, directory: RunDirectory
) -> None:
    configuration = config(directory.path, container(v1(tmp_path / "c1", 100), "worker-1"))
    with child_agent() as relay, relay.watch(configuration, directory) as watch:
        with MarkWriter(directory.marks, directory.marks_ack, TIMEOUT_S) as marks:
            marks.write("r1", "run_start")
            marks.write("r1", "run_end")
        os.kill(relay.pid, signal.SIGKILL)
        wait_until("the end of the agent", lambda: watch.poll() is not None)
        assert watch.poll() == "its stream ended"
        with pytest.raises(InfrastructureError):
            relay.ask("clock")
    assert {row["run_id"] for row in read(directory.peaks, PeakRow)} == {"r1"}
    assert merge_reports(directory.path) == {}


def test_kills_that_the_kernel_counted_are_told_while_it_samples(
    tmp_path: Path, directory: RunDirectory
) -> None:
    one, two = v1(tmp_path / "c1", 100), v1(tmp_path / "c2", 100)
    (two / "memory.oom_control").unlink()
    members = (container(one, "worker-1"), container(two, "worker-2"))
    with child_agent() as relay:
        with relay.watch(config(directory.path, *members), directory) as watch:
            assert watch.killed() == {"worker-1": 1}
            (one / "memory.oom_control").write_text("oom_kill 3\n")
            assert watch.killed() == {"worker-1": 3}
        assert relay.ask("killed") == {}


def test_a_topologys_folders_are_kept_by_the_agent_and_brought_home(
    tmp_path: Path, directory: RunDirectory
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    there = volume / "shared" / NAME
    configuration = SamplerConfig(
        shared=str(there),
        replies=str(volume / "replies" / NAME),
        containers=[container(v1(tmp_path / "c1", 100), "worker-1")],
    )
    with child_agent() as relay:
        folder = mirrored(relay, directory.path)
        relay.ask(
            "make",
            root=str(volume),
            name=NAME,
            user=[0, 0],
            files=shared_files(directory),
            inputs={"plan": "e30="},
        )
        assert (volume / "inputs" / NAME / "plan").read_bytes() == b"{}"
        (there / "log.txt").write_text("starting\n")
        relay.ask("send", name=NAME)
        assert folder.read("log.txt", 99) == b"starting\n"
        with (
            relay.watch(configuration, directory, NAME),
            MarkWriter(
                there / "marks.csv", RunDirectory(volume / "replies" / NAME).marks_ack, TIMEOUT_S
            ) as marks,
        ):
            marks.write("r1", "run_start")
            # What nobody tells of comes home all the same.
            (there / "outcomes.csv").write_text("r0\n")
            wait_until("the outcome", lambda: folder.size("outcomes.csv") == 3)
            # A mark brings the peaks home before the runner goes on, and the files soon after.
            marks.write("r1", "run_end")
            assert {row["run_id"] for row in read(directory.peaks, PeakRow)} == {"r1"}
        relay.ask("stop", name=NAME)
        text = folder.read("marks.csv", 9999)
        assert text is not None
        assert [line.split(b",")[1] for line in text.splitlines()[1:]] == [
            *(b"run_start", b"run_end", b"stop")
        ]
        relay.ask("drop", name=NAME)
        relay.ask("drop", name=NAME)
        assert not there.exists()
        # Home keeps what it has.
        assert folder.size("marks.csv") == len(text)


def test_an_agent_that_stands_still_is_waited_for_once(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with child_agent() as relay:
        (tmp_path / "replies").mkdir()
        replies = str(tmp_path / "replies")
        settings = SamplerConfig(shared=str(tmp_path), replies=replies, containers=[])
        with relay.watch(settings, directory) as watch:
            assert not watch.is_silent(5)
            os.kill(relay.pid, signal.SIGSTOP)
            try:
                assert watch.is_silent(0.2)
                with pytest.raises(InfrastructureError, match="agent ended: it stands still"):
                    relay.ask("clock")
                assert watch.poll() == "it stands still"
            finally:
                os.kill(relay.pid, signal.SIGCONT)
