"""A bench around topologies that are none: what goes on after a bad run, and what stays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.analysis import readers, stopping
from harness.analysis.stopping import Look
from harness.core import interrupt
from harness.core.errors import HarnessError, InfrastructureError, MeasuredFailure
from harness.plan import Plan
from harness.results import manifest
from harness.results.directory import RunDirectory
from harness.results.outcomes import Ending, Outcome
from harness.results.rows import OutcomeRow, RowWriter, read_rows
from harness.topology import bench, ownership
from harness.topology.bench import Bench, LastTopology
from harness.topology.launch import LaunchedTopology
from tests.bench_plans import bench_plan

RUNS = ("0001-none-1", "0002-none-2", "0003-default-proxy-1", "0004-default-proxy-2")
FAILED = Ending(Outcome.FAILED, "a task failed", "runner-1")
LOST = Ending(Outcome.INFRASTRUCTURE, "the engine was restarted", "engine")


class Script:
    """What happens to the runs of a bench, and what happened."""

    def __init__(self) -> None:
        self.bad: dict[str, Ending | BaseException] = {}
        self.silent: set[str] = set()
        self.after_the_last: Ending | None = None
        self.close_fails: BaseException | None = None
        self.agent_fails: HarnessError | None = None
        self.begun = True
        self.happened: list[str] = []


class FakeTopology:
    """Ends as the script says, with a row for each run that went through."""

    def __init__(self, script: Script, launch: Any, number: int, places: range) -> None:
        self.script, self.number, self.places = script, number, places
        self.plan: Plan = launch.plan
        self.directory: RunDirectory = launch.directory
        self.name = f"topology-{number}"
        self.lacks = {"redis-1": f"hidden in {number}"}
        self.is_closed = False

    def facts(self) -> dict[str, Any]:
        return {"project": self.name, "runs": [self.places.start + 1, self.places.stop]}

    def has_begun(self, done: Set[str]) -> bool:
        return self.script.begun

    def run(self, before_first_run: Callable[[], None]) -> Ending | None:
        script, runs = self.script, self.plan.runs()
        script.happened.append(f"up {self.number}")
        before_first_run()
        for place in self.places:
            run = runs[place]
            script.happened.append(run.run_id)
            bad = script.bad.pop(run.run_id, None)
            if isinstance(bad, BaseException):
                raise bad
            told = run.run_id not in script.silent
            if told and (bad is None or bad.outcome == Outcome.LEAK):
                row = OutcomeRow(
                    run.run_id, run.mode, run.repetition, bad.outcome if bad else "ok", ""
                )
                with RowWriter(self.directory.outcomes, OutcomeRow) as rows:
                    rows.write(row)
            if bad is not None:
                return bad
        return script.after_the_last if self.places.stop == len(runs) else None

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.script.happened.append(f"down {self.number}")
            if self.script.close_fails is not None:
                raise self.script.close_fails

    def keep(self) -> None:
        self.is_closed = True
        self.script.happened.append(f"keep {self.number}")


class FakeAgent:
    """An agent, as far as a bench itself has to do with it."""

    project = "agents-own"

    def __init__(self, script: Script) -> None:
        self.script = script
        self.is_container = False

    def facts(self) -> dict[str, Any]:
        return {"form": "container" if self.is_container else "child"}


@contextmanager
def started(agent: FakeAgent) -> Iterator[FakeAgent]:
    agent.script.happened.append("agent")
    if agent.script.agent_fails is not None:
        raise agent.script.agent_fails
    try:
        yield agent
    finally:
        agent.script.happened.append("end of agent")


class Case:
    """A bench in a directory of its own."""

    def __init__(self, place: Path) -> None:
        self.script = Script()
        self.agent = FakeAgent(self.script)
        self.said: list[str] = []
        self.directory = RunDirectory(place)
        self.plan = bench_plan(isolate="none")

    def run(self) -> HarnessError | None:
        bench = Bench(self.plan, self.directory, self.said.append, lambda _: None)
        try:
            bench.run()
        except HarnessError as error:
            return error
        return None

    @property
    def happened(self) -> list[str]:
        """What happened to the topologies: all of it while there was an agent."""
        first, *happened, last = self.script.happened
        assert (first, last) == ("agent", "end of agent")
        return happened

    @property
    def rows(self) -> list[tuple[str, str, str | None]]:
        found = read_rows(self.directory.outcomes, OutcomeRow)
        return [(row.run_id, row.outcome, row.service) for row in found]

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.directory.manifest.read_text())
        return found


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    case = Case(tmp_path)

    def prepare(
        plan: Plan, directory: RunDirectory, files: Sequence[Path], *_: Any, **_more: object
    ) -> tuple[Any, dict[str, Any]]:
        owner = SimpleNamespace(uid=0, gid=0)
        nodes = [SimpleNamespace(agent=case.agent)]
        launch = SimpleNamespace(plan=plan, directory=directory, owner=owner, nodes=nodes)
        return launch, {"engine": {"version": "28.0"}, "images": {}}

    def topology(launch: Any, number: int, places: range) -> FakeTopology:
        return FakeTopology(case.script, launch, number, places)

    monkeypatch.setattr(bench, "prepare", prepare)
    monkeypatch.setattr(bench, "LaunchedTopology", topology)
    monkeypatch.setattr(bench, "started", started)
    monkeypatch.setattr(ownership, "give_to_user", lambda *_: None)
    # Asking git and a hundred packages takes longer than all else here.
    monkeypatch.setattr(manifest, "git_revision", lambda _: "abc")
    monkeypatch.setattr(manifest, "software", lambda: {"python": "3.13"})
    monkeypatch.setattr(interrupt, "_received", [])
    return case


def test_a_plan_that_goes_through_leaves_rows_and_a_manifest(case: Case) -> None:
    assert case.run() is None
    assert case.rows == [(run, "ok", None) for run in RUNS]
    assert case.happened == ["up 1", *RUNS, "down 1"]
    assert case.said == ["Taking the topology down"]
    facts = case.manifest
    assert facts["project"] == "topology-1"
    assert facts["topologies"] == [{"project": "topology-1", "runs": [1, 4]}]
    assert facts["cgroup_view_lacks"] == {"redis-1": "hidden in 1"}
    assert facts["engine"] == {"version": "28.0"}
    assert facts["agent"] == {"form": "child"}
    assert facts["plan"]["executor_name"] == "dask"
    assert facts["git_revision"] == "abc"
    assert facts["host"]["software"] == {"python": "3.13"}
    assert facts["host"]["cpus"] == os.cpu_count()
    # What a later --resume needs, and nothing that is of use only while it runs.
    assert case.directory.bench.exists()
    assert [path for path in case.directory.temporary_files() if path.exists()] == []


def test_after_a_run_that_ended_badly_the_plan_goes_on_in_a_fresh_topology(case: Case) -> None:
    case.script.bad[RUNS[1]] = FAILED
    error = case.run()
    assert isinstance(error, MeasuredFailure)
    assert str(error) == f"run {RUNS[1]}: failed: a task failed"
    assert case.rows == [
        (RUNS[0], "ok", None),
        (RUNS[1], "failed", "runner-1"),
        (RUNS[2], "ok", None),
        (RUNS[3], "ok", None),
    ]
    assert [what for what in case.happened if what in RUNS] == list(RUNS)
    assert case.said[0] == f"{RUNS[1]}: failed: a task failed"
    assert [each["runs"] for each in case.manifest["topologies"]] == [[1, 4], [3, 4]]


def test_several_bad_runs_are_counted(case: Case) -> None:
    case.script.bad |= {RUNS[0]: FAILED, RUNS[3]: FAILED}
    assert str(case.run()) == f"run {RUNS[0]}: failed: a task failed, and 1 more"
    assert [outcome for _, outcome, _ in case.rows] == ["failed", "ok", "ok", "failed"]


@pytest.mark.parametrize("flag", ["fail_fast", "keep"])
def test_with_a_flag_the_first_bad_run_ends_the_plan(case: Case, flag: str) -> None:
    case.plan = bench_plan(isolate="none", **{flag: True})
    case.script.bad[RUNS[1]] = FAILED
    assert isinstance(case.run(), MeasuredFailure)
    assert case.rows == [(RUNS[0], "ok", None), (RUNS[1], "failed", "runner-1")]
    last = {"fail_fast": "down 1", "keep": "keep 1"}[flag]
    assert case.happened == ["up 1", *RUNS[:2], last]
    told = [line for line in case.said if "'harness clean topology-1' removes it" in line]
    assert len(told) == (flag == "keep")
    if told:
        assert "docker logs topology-1-runner-1" in told[0]


@pytest.mark.parametrize("flag", ["fail_fast", "keep"])
def test_the_same_flag_changes_nothing_where_all_is_well(case: Case, flag: str) -> None:
    case.plan = bench_plan(isolate="run", **{flag: True})
    assert case.run() is None
    assert "keep 4" not in case.happened
    assert sorted(what for what in case.happened if "down" in what) == [
        f"down {number}" for number in range(1, 5)
    ]


def test_a_fault_of_the_machine_ends_the_plan(case: Case) -> None:
    case.script.bad[RUNS[1]] = LOST
    error = case.run()
    assert isinstance(error, InfrastructureError)
    assert str(error) == (
        f"run {RUNS[1]}: infrastructure: the engine was restarted; --resume does it again"
    )
    assert case.rows[-1] == (RUNS[1], "infrastructure", "engine")
    assert RUNS[2] not in case.happened
    assert case.happened[-1] == "down 1"


def test_a_runner_that_does_not_say_how_a_run_went_is_no_success(case: Case) -> None:
    case.script.silent = {RUNS[2], RUNS[3]}
    error = case.run()
    assert isinstance(error, InfrastructureError)
    reason = "the runner ended and left no outcome of 2 of its runs"
    assert str(error) == f"run {RUNS[2]}: infrastructure: {reason}; --resume does it again"
    assert case.rows[-1] == (RUNS[2], "infrastructure", "runner")
    assert case.happened[-1] == "down 1"


def test_a_leak_has_its_row_already(case: Case) -> None:
    case.script.bad[RUNS[1]] = Ending(Outcome.LEAK, "8 objects at the end")
    assert str(case.run()) == f"run {RUNS[1]}: leak: 8 objects at the end"
    assert case.rows == [
        (RUNS[0], "ok", None),
        (RUNS[1], "leak", None),
        (RUNS[2], "ok", None),
        (RUNS[3], "ok", None),
    ]


def test_an_end_after_the_last_run_changes_no_row(case: Case) -> None:
    case.script.after_the_last = Ending(Outcome.KILLED, "redis-1 ended", "redis-1")
    assert isinstance(case.run(), MeasuredFailure)
    assert case.rows == [(run, "ok", None) for run in RUNS]
    assert case.said[0].startswith(f"{RUNS[3]}: killed")


def test_each_topology_is_down_before_the_next_ones_first_run(case: Case) -> None:
    case.plan = bench_plan(isolate="run")
    assert case.run() is None
    assert [what for what in case.happened if not what.startswith("up")] == [
        *(RUNS[0], "down 1", RUNS[1], "down 2", RUNS[2], "down 3", RUNS[3], "down 4")
    ]
    assert [each["runs"] for each in case.manifest["topologies"]] == [[n, n] for n in range(1, 5)]
    assert case.manifest["project"] == "topology-1"


@pytest.mark.parametrize("isolate", ["none", "run"])
def test_what_cannot_be_taken_down_ends_the_bench(case: Case, isolate: str) -> None:
    case.plan = bench_plan(isolate=isolate)
    case.script.close_fails = InfrastructureError("docker compose down failed")
    assert str(case.run()) == "docker compose down failed"
    assert case.rows[0] == (RUNS[0], "ok", None)
    assert case.manifest["topologies"]


@pytest.mark.parametrize("begun", [True, False])
def test_a_signal_writes_the_row_of_the_run_it_ended(
    case: Case, begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupt, "_received", [15])
    case.script.bad[RUNS[1]] = KeyboardInterrupt()
    case.script.begun = begun
    case.plan = bench_plan(isolate="none", keep=True)
    with pytest.raises(KeyboardInterrupt):
        case.run()
    expected = [(RUNS[0], "ok", None), (RUNS[1], "interrupted", None)]
    assert case.rows == expected[: 1 + begun]
    # Whoever interrupts does not look into it.
    assert case.happened[-1] == "down 1"
    assert case.said == ["Taking the topology down"]
    assert case.manifest["topologies"][0]["project"] == "topology-1"


def test_a_signal_while_the_last_one_is_taken_down_is_told_of(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = FakeTopology.close

    def interrupted(topology: FakeTopology) -> None:
        interrupt._received.append(2)
        close(topology)

    monkeypatch.setattr(FakeTopology, "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        case.run()
    assert case.happened[-1] == "down 1"


def test_an_error_of_our_own_still_takes_everything_down(case: Case) -> None:
    case.plan = bench_plan(isolate="run")
    case.script.bad[RUNS[1]] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        case.run()
    assert {"down 1", "down 2"} < set(case.happened)
    assert case.rows == [(RUNS[0], "ok", None)]


def test_only_what_is_not_done_is_done(case: Case) -> None:
    with RowWriter(case.directory.outcomes, OutcomeRow) as rows:
        rows.write(OutcomeRow(RUNS[1], "none", 2, "ok", ""))
    earlier = {"topologies": [{"project": "before", "runs": [1, 4]}]}
    case.directory.manifest.write_text(json.dumps(earlier))
    (case.directory.path / "compose").mkdir()
    (case.directory.path / "compose" / "project.yaml").touch()
    assert case.run() is None
    assert [what for what in case.happened if what in RUNS] == [RUNS[0], *RUNS[2:]]
    # What an earlier process started is counted, and not forgotten.
    assert case.happened[0] == "up 2"
    assert case.manifest["project"] == "before"
    assert [each["project"] for each in case.manifest["topologies"]] == [
        *("before", "topology-2", "topology-3")
    ]


def test_the_runners_part_of_the_manifest_stays(case: Case) -> None:
    case.directory.manifest.write_text(json.dumps({"runner": {"python": "3.13"}}))
    case.run()
    assert case.manifest["runner"] == {"python": "3.13"}
    assert case.manifest["schema_version"] == 1


def test_a_full_disk_names_the_run_whose_row_is_lost(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.script.bad[RUNS[0]] = FAILED

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench, "RowWriter", full)
    error = case.run()
    assert isinstance(error, InfrastructureError)
    assert str(error) == (
        f"run {RUNS[0]}: failed: a task failed; its row could not be written: No space left on"
        " device"
    )
    # The space that was held for it has been given back.
    assert not case.directory.reserve.exists()


def test_a_second_signal_leaves_the_rest_to_somebody_else(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[list[str]] = []
    monkeypatch.setattr(bench, "clean_in_background", lambda names, _: left.append(names))
    case.plan = bench_plan(isolate="run")
    run = FakeTopology.run

    def signalled(topology: FakeTopology, before: Callable[[], None]) -> Ending | None:
        if topology.number == 3:
            interrupt._at_once[-1]()
        return run(topology, before)

    monkeypatch.setattr(FakeTopology, "run", signalled)
    case.run()
    # One may still be on its way down.
    assert left == [["topology-2", "topology-3"]]


def until_plan(**topology: Any) -> Plan:
    plan = bench_plan(isolate="none", until=0.05, **topology)
    return plan.model_copy(
        update={"general": plan.general.model_copy(update={"repeat": 12, "order": "interleaved"})}
    )


def looks_of(monkeypatch: pytest.MonkeyPatch, *enough: bool) -> list[float]:
    """Let each look say what it is told; return the shares it was asked for."""
    asked: list[float] = []

    def look(session: object, until: float, against: object) -> Look:
        asked.append(until)
        return Look(enough[len(asked) - 1], "net peak: said")

    monkeypatch.setattr(stopping, "look", look)
    monkeypatch.setattr(readers, "read_session", lambda path: None)
    return asked


def test_a_second_signal_leaves_the_agents_own_to_somebody_else_too(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[list[str]] = []
    monkeypatch.setattr(bench, "clean_in_background", lambda names, _: left.append(names))
    case.agent.is_container = True
    run = FakeTopology.run

    def signalled(topology: FakeTopology, before: Callable[[], None]) -> Ending | None:
        interrupt._at_once[-1]()
        return run(topology, before)

    monkeypatch.setattr(FakeTopology, "run", signalled)
    case.run()
    # The topologies that use its volume come first.
    assert left == [["topology-1", "agents-own"]]
    assert case.manifest["agent"] == {"form": "container"}


def test_without_an_agent_nothing_is_begun(case: Case) -> None:
    case.script.agent_fails = InfrastructureError("the agent could not be started")
    assert str(case.run()) == "the agent could not be started"
    assert case.script.happened == ["agent"]
    assert not case.directory.outcomes.exists()
    assert case.manifest["engine"] == {"version": "28.0"}
    assert not case.directory.reserve.exists()


def test_runs_go_on_until_a_look_says_enough(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.plan = until_plan()
    asked = looks_of(monkeypatch, False, True)
    assert case.run() is None
    assert asked == [0.05, 0.05]
    assert len(case.rows) == 2 * 8
    assert [each["runs"] for each in case.manifest["topologies"]] == [[1, 10], [11, 16]]
    assert case.said[0] == "--until 5%: after 5 runs of each mode: net peak: said"
    # The directory is one of eight runs of each mode, for whoever reads or resumes it.
    assert case.manifest["plan"]["general"]["repeat"] == 8
    assert case.manifest["until"] == {"enough": True, "said": "net peak: said"}
    assert json.loads(case.directory.bench.read_text())["plan"]["general"]["repeat"] == 8


def test_most_runs_end_it_too(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.plan = until_plan()
    looks_of(monkeypatch, False, False)
    assert case.run() is None
    assert len(case.rows) == 2 * 12


def test_a_budget_ends_it_before_it_is_spent(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.plan = until_plan(budget=1)
    looks_of(monkeypatch, False, False)
    # Five runs of each mode in 45 s: eight would take 72.
    clock = iter([0.0, 45.0])
    monkeypatch.setattr(bench, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert case.run() is None
    assert len(case.rows) == 2 * 5
    assert case.said[0].endswith("net peak: said; the --budget is spent")


def test_what_was_enough_is_asked_first_when_it_is_resumed(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.plan = until_plan()
    with RowWriter(case.directory.outcomes, OutcomeRow) as rows:
        for run in case.plan.runs()[:10]:
            rows.write(OutcomeRow(run.run_id, run.mode, run.repetition, "ok", ""))
    looks_of(monkeypatch, True)
    assert case.run() is None
    assert len(case.rows) == 2 * 5
    assert [what for what in case.happened if what.startswith("up")] == []


def test_a_second_session_goes_on_and_the_manifest_has_the_topologies_of_both(case: Case) -> None:
    case.plan = bench_plan(isolate="run")
    own = Bench(case.plan, case.directory, case.said.append, lambda _: None)
    for steps in (1, 2, 10):
        with own.session() as topologies:
            for _ in zip(range(steps), topologies, strict=False):
                pass
    assert [run for run, _, _ in case.rows] == list(RUNS)
    assert [each["runs"] for each in case.manifest["topologies"]] == [[n, n] for n in range(1, 5)]
    assert case.script.happened.count("agent") == case.script.happened.count("end of agent") == 3


def test_a_session_ends_without_waiting_for_another_benchs_topology(
    case: Case, tmp_path: Path
) -> None:
    last = LastTopology()
    case.plan = bench_plan(isolate="run")
    first, second = (
        Bench(case.plan, RunDirectory(place), case.said.append, lambda _: None, last=last)
        for place in (tmp_path / "a", tmp_path / "b")
    )
    for each in (first, second):
        each.directory.path.mkdir()
    with second.session() as others:
        with first.session() as mine:
            next(mine)
            next(others)
            going = last._going
        # It is still there, to be waited for before the next one's first run.
        assert going is not None
        assert last._going is going
    assert last._going is None


def test_a_second_signal_leaves_the_projects_of_all_to_somebody_else(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[list[str]] = []
    monkeypatch.setattr(bench, "clean_in_background", lambda projects, _: left.append(projects))
    last = LastTopology()
    both = [
        Bench(case.plan, case.directory, case.said.append, lambda _: None, last=last)
        for _ in range(2)
    ]
    for number, each in enumerate(both):
        launch = SimpleNamespace(plan=case.plan, directory=case.directory)
        topology = FakeTopology(case.script, launch, number, range(1))
        each._running = [cast("LaunchedTopology", topology)]
    with last.shared_with(both[0]), last.shared_with(both[1]):
        both[1]._end_at_once()
    both[1]._end_at_once()
    assert left == [["topology-0", "topology-1"], []]
