"""Who is at fault, by all that the engine, the kernel and the runner say."""

from __future__ import annotations

import os
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.errors import APIError, DockerException

from harness.core.errors import InfrastructureError
from harness.images.address import Address
from harness.results.directory import RunDirectory
from harness.results.outcomes import Ending, Outcome, write_ending
from harness.results.shared import SharedFolder
from harness.topology import part as part_module
from harness.topology.events import Event, Kind
from harness.topology.judge import ENGINE, Judge
from tests.fake_engine import PROJECT, FakeContainer, FakeEngine, part_on

Disk = namedtuple("Disk", "f_bavail f_frsize")


class Bench:
    """A runner and two workers on a fake engine, and the judge of their ends.

    Attributes:
        kills: what the kernel counted in each container.
    """

    def __init__(self, place: Path) -> None:
        self.engine = FakeEngine()
        self.runner = self.engine.add("runner-1")
        self.workers = [self.engine.add("worker-1"), self.engine.add("worker-2")]
        self.directory = RunDirectory(place)
        self.shared = SharedFolder(place / "shared" / "topology-1")
        self.shared.create()
        self.kills: dict[str, int] = {}
        self.part = part_on(self.engine, self.directory)
        self.judge = Judge([self.part], self.directory, lambda: self.kills)

    def died(self, container: FakeContainer, code: int) -> Event:
        role = container.short_name.rpartition("-")[0]
        return Event(Kind.DIED, container.id, container.name, role, code)

    def said(self, ending: Ending) -> None:
        write_ending(self.shared.path / self.directory.ending.name, ending)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    monkeypatch.setattr(part_module, "connect", lambda *_, **_kw: bench.engine.client)
    yield bench
    bench.judge.close()


def full_disk(monkeypatch: pytest.MonkeyPatch, free_bytes: int = 0) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: Disk(free_bytes // 4096, 4096))


def test_an_engine_that_answers_is_not_lost(bench: Bench) -> None:
    assert bench.judge.engine_lost() is None
    assert bench.judge.engine_lost() is None
    # On a new connection each time: one that goes down still answers on old ones.
    assert (bench.engine.pings, bench.engine.closed) == (2, 2)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (DockerException("no\n such   socket"), "no such socket"),
        (OSError(), "OSError"),
        (InfrastructureError("x" * 300), "x" * 200),
    ],
)
def test_an_engine_that_does_not_answer_is_the_fault(
    bench: Bench, error: Exception, why: str
) -> None:
    bench.engine.gone = error
    expected = Ending(Outcome.INFRASTRUCTURE, f"the engine stopped answering: {why}", ENGINE)
    assert bench.judge.engine_lost() == expected
    assert bench.judge.of_events([bench.died(bench.workers[0], 137)]) == expected


def test_an_engine_that_cannot_be_connected_to_is_the_fault(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(timeout_s: float, version: str, place: Address) -> None:
        raise InfrastructureError(f"nobody within {timeout_s} s")

    monkeypatch.setattr(part_module, "connect", connect)
    lost = bench.judge.engine_lost()
    assert lost is not None
    assert (lost.outcome, lost.service) == (Outcome.INFRASTRUCTURE, ENGINE)


def test_a_judge_closes_what_it_opened(bench: Bench) -> None:
    bench.judge.close()
    assert bench.engine.closed == 0
    bench.judge.engine_lost()
    bench.judge.close()
    assert bench.engine.closed == 2


def test_a_restart_of_the_engine_outweighs_what_ended_with_it(bench: Bench) -> None:
    seen = [bench.died(bench.runner, 137), bench.died(bench.workers[0], 0), Event(Kind.LOST)]
    expected = Ending(Outcome.INFRASTRUCTURE, "the engine was restarted", ENGINE)
    assert bench.judge.of_events(seen) == expected


def test_the_runner_is_not_at_fault_for_the_worker_it_lost(bench: Bench) -> None:
    seen = [bench.died(bench.runner, 1), bench.died(bench.workers[1], 137)]
    expected = Ending(Outcome.KILLED, "worker-2 ended (exit code 137)", "worker-2")
    assert bench.judge.of_events(seen) == expected


def test_several_deaths_name_the_first_and_each_once(bench: Bench) -> None:
    first, second = bench.workers
    seen = [bench.died(second, 137), bench.died(first, 1), bench.died(second, 137)]
    reason = "worker-2 ended (exit code 137), and so did worker-1"
    assert bench.judge.of_events(seen) == Ending(Outcome.KILLED, reason, "worker-2")


def test_the_one_that_a_signal_ended_is_named_whatever_the_engine_told_first(bench: Bench) -> None:
    """A worker that loses its scheduler leaves with exit code 0, and may be told of before it."""
    first, second = bench.workers
    seen = [bench.died(second, 0), bench.died(bench.runner, 1), bench.died(first, 137)]
    reason = "worker-1 ended (exit code 137), and so did worker-2"
    assert bench.judge.of_events(seen) == Ending(Outcome.KILLED, reason, "worker-1")


def test_a_container_that_the_judge_never_saw_is_named_by_its_event(bench: Bench) -> None:
    unseen = Event(Kind.DIED, "other", f"{PROJECT}-worker-9", "worker", 3)
    assert bench.judge.of_events([unseen]).service == "worker-9"
    nameless = Event(Kind.DIED, "other", "", "worker", 3)
    assert bench.judge.of_events([nameless]).reason == "a container ended (exit code 3)"


def test_memory_outweighs_the_death_that_came_of_it(bench: Bench) -> None:
    worker = bench.workers[1]
    short = Event(Kind.MEMORY, worker.id, worker.name, "worker")
    died = bench.died(worker, 137)
    reason = "worker-2 was killed for lack of memory"
    assert bench.judge.of_events([short, died]) == Ending(Outcome.MEMORY, reason, "worker-2")
    # Another container's end does not mean that this one has ended.
    others = [short, bench.died(bench.workers[0], 1)]
    reason = "a process in worker-2 was killed for lack of memory"
    assert bench.judge.of_events(others) == Ending(Outcome.MEMORY, reason, "worker-2")


def test_memory_is_noticed_by_the_containers_state_too(bench: Bench) -> None:
    bench.workers[1].oom_killed = True
    seen = [bench.died(bench.workers[0], 1), bench.died(bench.workers[1], 137)]
    reason = "worker-2 was killed for lack of memory"
    assert bench.judge.of_events(seen) == Ending(Outcome.MEMORY, reason, "worker-2")


def test_a_network_that_was_cut_names_whom_it_was_cut_from(bench: Bench) -> None:
    cut = [Event(Kind.CUT, worker.id) for worker in reversed(bench.workers)]
    ending = bench.judge.of_events([*cut, cut[0]])
    reason = "worker-1 and worker-2 was cut from the network"
    assert ending == Ending(Outcome.INFRASTRUCTURE, reason, "worker-2")


def test_a_runner_that_ended_well_ended_well(bench: Bench) -> None:
    bench.said(Ending(Outcome.FAILED, "an old one"))
    assert bench.judge.of_events([bench.died(bench.runner, 0)]) == Ending(Outcome.OK)


def test_the_runners_own_word_counts_for_its_end(bench: Bench) -> None:
    said = Ending(Outcome.KILLED, "worker 3 of the pool ended", "pool")
    bench.said(said)
    assert bench.judge.of_events([bench.died(bench.runner, 1)]) == said


@pytest.mark.parametrize(
    ("code", "outcome", "service"),
    [
        (1, Outcome.FAILED, "runner-1"),
        (3, Outcome.INFRASTRUCTURE, "runner"),
        (128, Outcome.FAILED, "runner-1"),
    ],
)
def test_without_a_word_the_runners_last_error_line_counts(
    bench: Bench, code: int, outcome: Outcome, service: str
) -> None:
    bench.runner.said = b"error: the first\n12:00 error: the\x1b last: one\nbye\n\n"
    ending = bench.judge.of_events([bench.died(bench.runner, code)])
    assert ending == Ending(outcome, "the  last: one", service)


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (b"starting\n\xff bye\n\n", "\N{REPLACEMENT CHARACTER} bye"),
        (b"", "the runner ended with exit code 1"),
        (b"error: far too early\n" + b"line\n" * 50, "line"),
        (b"error: " + b"y" * 600, "y" * 500),
    ],
)
def test_a_runner_without_an_error_line_is_told_by_its_last_one(
    bench: Bench, log: bytes, reason: str
) -> None:
    bench.runner.said = log
    assert bench.judge.of_events([bench.died(bench.runner, 1)]).reason == reason


def test_a_log_that_cannot_be_read_leaves_the_exit_code(bench: Bench) -> None:
    bench.runner.error = APIError("gone")
    ending = bench.judge.of_events([bench.died(bench.runner, 4)])
    assert ending.reason == "the runner ended with exit code 4"


@pytest.mark.parametrize("code", [129, 137])
def test_a_runner_that_a_signal_ended_was_killed(bench: Bench, code: int) -> None:
    bench.runner.said = b"error: of before\n"
    reason = f"runner-1 ended (exit code {code})"
    expected = Ending(Outcome.KILLED, reason, "runner-1")
    assert bench.judge.of_events([bench.died(bench.runner, code)]) == expected


def test_what_the_kernel_counted_outweighs_what_the_runner_says(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.said(Ending(Outcome.FAILED, "a task failed"))
    # An engine that says nothing more of a container is not asked what its kernel counted.
    bench.workers[0].error = APIError("gone")
    bench.kills |= {"runner-1": 0, "worker-2": 1}
    reason = "a process in worker-2 was killed for lack of memory"
    expected = Ending(Outcome.MEMORY, reason, "worker-2")
    assert bench.judge.of_events([bench.died(bench.runner, 1)]) == expected
    assert bench.judge.kernel_counters() == expected
    # A full disk is not the reason of it.
    full_disk(monkeypatch)
    assert bench.judge.of_events([bench.died(bench.runner, 1)]) == expected


def test_a_kernel_that_killed_nobody_says_nothing(bench: Bench) -> None:
    assert bench.judge.kernel_counters() is None
    bench.kills |= {"runner-1": 0, "worker-2": 0}
    assert bench.judge.kernel_counters() is None
    said = Ending(Outcome.FAILED, "a task failed")
    bench.said(said)
    assert bench.judge.of_events([bench.died(bench.runner, 1)]) == said


def test_without_a_sampler_the_kernel_says_nothing(bench: Bench) -> None:
    alone = Judge([bench.part], bench.directory)
    assert alone.kernel_counters() is None


def test_a_full_disk_outweighs_what_came_of_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.said(Ending(Outcome.FAILED, "no space left"))
    full_disk(monkeypatch, 2**20 - 4096)
    reason = f"the disk of the run directory is full ({bench.directory.path})"
    full = Ending(Outcome.INFRASTRUCTURE, reason, "disk")
    assert bench.judge.of_events([bench.died(bench.runner, 1)]) == full
    assert bench.judge.of_the_machine("the sampler ended", "sampler") == full
    full_disk(monkeypatch, 2**20)
    assert bench.judge.disk_full() is None


def test_with_room_on_the_disk_the_machine_is_at_fault_as_told(bench: Bench) -> None:
    expected = Ending(Outcome.INFRASTRUCTURE, "the sampler ended", "sampler")
    assert bench.judge.of_the_machine("the sampler ended", "sampler") == expected


def test_a_run_that_took_too_long_names_who_stands_still(bench: Bench) -> None:
    bench.runner.error = DockerException("no answer")
    bench.workers[0].processes = [["1", "Ssl"], ["9"]]
    reason = "0001-none-1 took longer than 2.5 s (--run-timeout)"
    assert bench.judge.of_a_timeout("0001-none-1", 2.5) == Ending(Outcome.TIMEOUT, reason)
    bench.workers[1].processes = [["1", "Ss"], ["7", "Tl"]]
    stopped = f"{reason}; a process in worker-2 is stopped"
    expected = Ending(Outcome.TIMEOUT, stopped, "worker-2")
    assert bench.judge.of_a_timeout("0001-none-1", 2.5) == expected


class TwoNodes:
    """A runner on node ``a`` and a worker on node ``b``, each on an engine of its own."""

    def __init__(self, place: Path) -> None:
        self.engines = {"a": FakeEngine(), "b": FakeEngine()}
        self.engines["a"].add("runner-1")
        self.worker = self.engines["b"].add("worker-2")
        directory = RunDirectory(place)
        self.parts = [part_on(engine, directory, name) for name, engine in self.engines.items()]
        self.kills: dict[str, int] = {}
        self.judge = Judge(self.parts, directory, lambda: self.kills)


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TwoNodes:
    found = TwoNodes(tmp_path)
    for part in found.parts:
        monkeypatch.setattr(part, "connect", lambda _, client=part.client: client)
    return found


def test_a_container_of_another_node_is_named_with_it(two: TwoNodes) -> None:
    event = Event(Kind.DIED, two.worker.id, two.worker.name, "worker", 137, "b")
    reason = "worker-2 (node b) ended (exit code 137)"
    assert two.judge.of_events([event]) == Ending(Outcome.KILLED, reason, "worker-2")
    two.worker.oom_killed = True
    reason = "worker-2 (node b) was killed for lack of memory"
    assert two.judge.of_events([event]) == Ending(Outcome.MEMORY, reason, "worker-2")
    two.kills = {"worker-2": 1}
    reason = "a process in worker-2 (node b) was killed for lack of memory"
    assert two.judge.kernel_counters() == Ending(Outcome.MEMORY, reason, "worker-2")


def test_the_engine_that_is_gone_is_named_by_its_node(two: TwoNodes) -> None:
    assert two.judge.engine_lost() is None
    restarted = two.judge.of_events([Event(Kind.LOST, node="b")])
    assert restarted.reason == "the engine of node b was restarted"
    two.engines["b"].gone = DockerException("no such socket")
    reason = "the engine of node b stopped answering: no such socket"
    assert two.judge.engine_lost() == Ending(Outcome.INFRASTRUCTURE, reason, ENGINE)
