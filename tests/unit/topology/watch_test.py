"""Waiting for a runner on a fake engine, by a fake clock."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import cast

import pytest
from docker.errors import APIError, DockerException

from harness.core import interrupt
from harness.results.conversation import HEADER, RUN_START, STOP
from harness.results.directory import RunDirectory
from harness.results.intake import Intake, Known
from harness.results.outcomes import Ending, Outcome
from harness.results.rows import OutcomeRow, columns, csv_line
from harness.results.shared import SharedFolder
from harness.topology import part, watch
from harness.topology.events import Event, Kind
from harness.topology.judge import ENGINE
from harness.topology.watch import RunnerWatch
from tests.fake_engine import FakeClock, FakeContainer, FakeEngine, FakeEvents, part_on

RUNS = ("0001-none-1", "0002-none-2")


class Watched:
    """A bench of two runs, a runner and a worker."""

    def __init__(self, place: Path) -> None:
        self.engine = FakeEngine()
        self.runner = self.engine.add("runner-1")
        self.worker = self.engine.add("worker-1")
        self.clock = FakeClock()
        self.events = FakeEvents(self.clock)
        self.directory = RunDirectory(place)
        self.shared = SharedFolder(place / "shared" / "topology-1")
        self.shared.create()
        (self.shared.path / self.directory.marks.name).write_text(HEADER)
        header = csv_line(columns(OutcomeRow))
        (self.shared.path / self.directory.outcomes.name).write_text(header)
        self.told: list[int] = []
        self.sampler_end: str | None = None
        self.silent_agent: str | None = None
        self.kills: dict[str, int] = {}
        self.run_timeout_s = 0.0

    def died(self, container: FakeContainer, code: int) -> Event:
        role = container.short_name.rpartition("-")[0]
        return Event(Kind.DIED, container.id, container.name, role, code)

    def begins(self, run_id: str, mark: str = RUN_START) -> None:
        self.shared.append(self.directory.marks.name, f"{run_id},{mark},1,1\n".encode())

    def is_done(self, run_id: str) -> None:
        row = csv_line([run_id, "none", 1, "ok", "", ""])
        self.shared.append(self.directory.outcomes.name, row.encode())

    def ends(self, seconds: float, code: int = 0) -> None:
        self.events.at(seconds, self.died(self.runner, code))

    def wait(self) -> Ending | None:
        known = Known(runs=RUNS, modes=["none"], containers=["runner-1", "worker-1"])
        return RunnerWatch(
            [part_on(self.engine, self.directory)],
            self.directory,
            Intake(self.shared, self.directory, known),
            cast("queue.SimpleQueue[Event]", self.events),
            self.told.append,
            sampler_end=lambda: self.sampler_end,
            silent_agent=lambda: self.silent_agent,
            killed=lambda: self.kills,
            run_timeout_s=self.run_timeout_s,
            start_timeout_s=40.0,
            rows_in_all=len(RUNS),
        ).wait()

    @property
    def passed_s(self) -> float:
        return self.clock.now_s - 1000.0


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    watched = Watched(tmp_path)
    monkeypatch.setattr(watch, "time", watched.clock)
    monkeypatch.setattr(watch, "time", watched.clock)
    monkeypatch.setattr(part, "connect", lambda *_, **_kw: watched.engine.client)
    return watched


def test_a_runner_that_ends_well_is_waited_for_no_longer(watched: Watched) -> None:
    watched.events.at(1, lambda: watched.begins(RUNS[0]))
    watched.events.at(2, lambda: watched.is_done(RUNS[0]))
    watched.events.at(3, lambda: watched.is_done(RUNS[1]))
    watched.ends(3.5)
    assert watched.wait() is None
    assert watched.passed_s == pytest.approx(3.5)
    assert watched.told[0] == 0
    assert watched.told[-1] == 2
    assert 1 in watched.told
    assert watched.directory.outcomes.read_text().count("\n") == 3


def test_what_ends_with_the_runner_is_waited_for_and_judged(watched: Watched) -> None:
    watched.ends(2, code=1)
    watched.events.at(2.9, watched.died(watched.worker, 137))
    watched.events.at(3.5, Event(Kind.LOST))
    ending = watched.wait()
    assert ending == Ending(Outcome.KILLED, "worker-1 ended (exit code 137)", "worker-1")
    assert watched.passed_s == pytest.approx(3.0)


def test_a_runner_that_ends_well_ends_the_waiting_for_others(watched: Watched) -> None:
    watched.events.at(2, watched.died(watched.worker, 0))
    watched.ends(2.4)
    ending = watched.wait()
    assert watched.passed_s == pytest.approx(2.4)
    assert ending is not None
    assert ending.service == "worker-1"


def test_a_runner_that_hangs_in_its_shutdown_has_ended_well(watched: Watched) -> None:
    watched.events.at(1, lambda: watched.begins(RUNS[0]))
    watched.events.at(2, lambda: watched.is_done(RUNS[0]))
    watched.events.at(3, lambda: watched.is_done(RUNS[1]))
    assert watched.wait() is None
    assert 33 <= watched.passed_s < 33.5


def test_a_run_that_is_not_the_last_one_may_take_its_time(watched: Watched) -> None:
    watched.events.at(1, lambda: watched.begins(RUNS[0]))
    watched.events.at(2, lambda: watched.is_done(RUNS[0]))
    watched.events.at(2, lambda: watched.begins(RUNS[1]))
    watched.ends(500)
    watched.wait()
    assert watched.passed_s == pytest.approx(500)


def test_rows_of_an_earlier_bench_are_not_this_ones(watched: Watched) -> None:
    earlier = csv_line(columns(OutcomeRow)) + csv_line([RUNS[0], "none", 1, "ok", "", ""])
    watched.directory.outcomes.write_text(earlier)
    watched.events.at(1, lambda: watched.begins(RUNS[1]))
    watched.events.at(2, lambda: watched.is_done(RUNS[1]))
    watched.ends(200)
    assert watched.wait() is None
    assert watched.passed_s == pytest.approx(200)


def test_no_run_in_time_is_a_time_out(watched: Watched) -> None:
    watched.events.at(3, lambda: watched.begins("", STOP))
    expected = "no run began within 40 s (--start-timeout)"
    assert watched.wait() == Ending(Outcome.TIMEOUT, expected, "runner-1")
    assert 40 <= watched.passed_s < 40.5


def test_each_run_has_its_time(watched: Watched) -> None:
    watched.run_timeout_s = 60.0
    watched.worker.processes = [["5", "T"]]
    watched.events.at(10, lambda: watched.begins(RUNS[0]))
    watched.events.at(50, lambda: watched.begins(RUNS[0], "run_end"))
    watched.events.at(65, lambda: watched.begins(RUNS[1]))
    ending = watched.wait()
    assert ending is not None
    assert ending.outcome == Outcome.TIMEOUT
    assert ending.reason.startswith("0002-none-2 took longer than 60 s (--run-timeout)")
    assert ending.service == "worker-1"
    assert 125 <= watched.passed_s < 125.5


def test_a_sampler_that_ended_ends_the_waiting(watched: Watched) -> None:
    watched.events.at(4, lambda: setattr(watched, "sampler_end", "peaks.csv: No space left"))
    reason = "the host's memory sampler ended: peaks.csv: No space left"
    assert watched.wait() == Ending(Outcome.INFRASTRUCTURE, reason, "sampler")
    assert watched.passed_s < 4.5


def test_a_runner_that_ends_for_what_the_kernel_did_is_not_at_fault(watched: Watched) -> None:
    watched.events.at(1, lambda: watched.begins(RUNS[0]))
    watched.events.at(2, lambda: watched.kills.update({"worker-1": 1}))
    watched.ends(3, code=1)
    reason = "a process in worker-1 was killed for lack of memory"
    assert watched.wait() == Ending(Outcome.MEMORY, reason, "worker-1")


def test_an_engine_that_is_gone_is_noticed_within_seconds(watched: Watched) -> None:
    watched.events.at(7, lambda: setattr(watched.engine, "gone", DockerException("frozen")))
    ending = watched.wait()
    assert ending == Ending(Outcome.INFRASTRUCTURE, "the engine stopped answering: frozen", ENGINE)
    assert 7 <= watched.passed_s < 9.5


def test_the_engine_is_asked_now_and_then_only(watched: Watched) -> None:
    watched.events.at(1, lambda: watched.begins(RUNS[0]))
    watched.ends(100)
    watched.wait()
    assert 40 <= watched.engine.pings <= 60
    assert watched.engine.closed == watched.engine.pings + 1


@pytest.mark.parametrize("status", ["exited", "dead"])
def test_a_container_that_ended_without_an_event_is_noticed(watched: Watched, status: str) -> None:
    def end() -> None:
        watched.worker.status, watched.worker.exit_code = status, 9

    watched.events.at(15, end)
    ending = watched.wait()
    assert ending == Ending(Outcome.KILLED, "worker-1 ended (exit code 9)", "worker-1")
    assert 15 <= watched.passed_s < 26.5


def test_an_engine_that_refuses_a_list_is_asked_again(watched: Watched) -> None:
    lists = watched.engine.containers.list
    answers = iter([APIError("busy")])

    def flaky(**how: object) -> object:
        for error in answers:
            raise error
        return lists(**how)  # type: ignore[arg-type]

    watched.engine.containers.list = flaky  # type: ignore[method-assign, assignment]
    watched.runner.status = "exited"
    assert watched.wait() is None
    assert 10 <= watched.passed_s < 11


def test_a_signal_ends_the_waiting(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[int] = []
    monkeypatch.setattr(interrupt, "_received", received)
    watched.events.at(3, lambda: received.append(15))
    with pytest.raises(KeyboardInterrupt):
        watched.wait()
    assert watched.passed_s < 3.5
    assert watched.engine.closed == watched.engine.pings + 1


def test_an_agent_that_stands_still_ends_the_topology(watched: Watched) -> None:
    watched.events.at(1, lambda: watched.begins(RUNS[0]))
    watched.events.at(5, lambda: setattr(watched, "silent_agent", "its agent did not answer"))
    reason = "the host's memory sampler stands still: its agent did not answer"
    assert watched.wait() == Ending(Outcome.INFRASTRUCTURE, reason, "sampler")
    assert watched.passed_s <= 8
