"""One topology on a fake engine: what starts in which order, and that all of it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from docker.errors import APIError, DockerException
from docker.models.containers import Container

from harness.core.errors import InfrastructureError
from harness.results.conversation import HEADER
from harness.results.directory import RunDirectory
from harness.results.outcomes import Ending, Outcome
from harness.results.rows import OutcomeRow, columns, csv_line
from harness.results.shared import SharedFolder
from harness.sampling.agent.parents import CgroupParents
from harness.sampling.agent.relay import Relay, WatchAnswer
from harness.sampling.agent.several import Several
from harness.sampling.cgroup.config import SamplerConfig
from harness.topology import launch, part, records, stacks
from harness.topology import sampling as views
from harness.topology.agent import Agent, Places
from harness.topology.compose import ComposeProject, ComposeTimeoutError, plan_files
from harness.topology.engine import describe
from harness.topology.judge import ENGINE
from harness.topology.launch import Launch, LaunchedTopology
from harness.topology.nodes import Node, Placed
from harness.topology.ownership import Owner
from tests.bench_plans import bench_plan
from tests.fake_engine import PROJECT, FakeEngine

PLAN = bench_plan(worker_memory_limit=10**9)
RUNS = [run.run_id for run in PLAN.runs()]
OWNER = Owner(1000, 1000, 1000, 1001)
PLACED = Placed(workers=(1,), services=frozenset({"redis", "runner", "scheduler"}))
ENDED = Ending(Outcome.KILLED, "worker-1 ended (exit code 137)", "worker-1")


class FakeAgent(Agent):
    """An agent that only writes down what is asked of it, and when.

    As a container it keeps a topology's folders in ``/volume`` of a machine that is not this one.
    """

    def __init__(self, setting: Setting, form: str) -> None:
        engine = describe(setting.engine.client)
        super().__init__(setting.engine.client, engine, OWNER, form)
        self.setting = setting
        self.left: list[str] = []
        self.said = WatchAnswer(["runner-1"], {"redis-1": "hidden"})
        self.config: SamplerConfig | None = None
        self.folder: str | None = None
        self.ended: str | None = None
        self.kills: dict[str, int] = {}

    @property
    def relay(self) -> Relay:
        return cast("Relay", self)

    @contextmanager
    def watch(
        self,
        config: SamplerConfig,
        directory: RunDirectory,
        folder: str | None = None,
        *,
        several: tuple[Several, str],
    ) -> Iterator[Any]:
        assert directory == self.setting.directory
        self.config, self.folder = config, folder
        watched = SimpleNamespace(answer=self.said, poll=self.poll, killed=self.killed)
        joined, name = several
        joined.watches[name] = cast("Any", watched)
        with self.setting.during("sampler"):
            yield watched

    def poll(self) -> str | None:
        return self.ended

    def killed(self) -> dict[str, int]:
        return self.kills

    def create_parents(self, project: str, services: Sequence[str]) -> CgroupParents:
        assert project == PROJECT
        assert set(services) == {"redis", "runner", "scheduler", "worker"}
        self.setting.step("create parents")
        return self.setting.parents

    def remove_cgroups(self, project: str) -> list[str]:
        assert project == PROJECT
        self.setting.step("remove cgroups")
        return self.left

    def make_folders(
        self,
        name: str,
        shared: SharedFolder,
        replies: RunDirectory,
        directory: RunDirectory,
        inputs: Mapping[str, str],
    ) -> Places:
        self.setting.step(f"make {name}")
        # What is here is made in any case.
        assert shared.path.is_dir()
        assert replies.marks_ack.read_bytes() == replies.settled.read_bytes() == b""
        if not self.is_container:
            return super().make_folders(name, shared, replies, directory, inputs)
        return Places(
            shared=f"/volume/shared/{name}",
            replies=RunDirectory(Path("/volume/replies", name)),
            seen_shared=f"/seen/shared/{name}",
            seen_replies=f"/seen/replies/{name}",
            plan=f"/volume/inputs/{name}/plan.json",
            inputs={"HARNESS_KEYS": f"/volume/inputs/{name}/HARNESS_KEYS"},
        )

    def clock_shift_ns(self) -> int:
        return 77 if self.is_container else 0

    def stop_samplers(self, name: str) -> None:
        self.setting.step(f"stop samplers of {name}")

    def fetch(self, name: str) -> str:
        self.setting.step(f"fetch {name}")
        return self.setting.unwritten

    def drop_folders(self, name: str) -> None:
        self.setting.step(f"drop {name}")


class Setting:
    """All that a topology meets, which writes down in one list what happens in which order."""

    def __init__(self, place: Path) -> None:
        self.happened: list[str] = []
        self.said: list[str] = []
        self.unwritten = ""
        self.engine = FakeEngine()
        self.directory = RunDirectory(place / "run")
        self.directory.path.mkdir()
        self.ending: Ending | None = None
        self.fails: dict[str, BaseException] = {}
        self.on: dict[str, Callable[[], None]] = {}
        self.engine_answers = True
        self.parents = CgroupParents(PROJECT, compose={"worker": f"/{PROJECT}/worker"})
        self.files = plan_files(PLAN)
        self.watched: dict[str, Any] = {}
        self.shifts: list[int] = []
        self.agent = FakeAgent(self, "child")
        self.topology = self.topology_of(range(len(RUNS)))

    def topology_of(self, places: range, number: int = 1) -> LaunchedTopology:
        common = Launch(
            plan=PLAN,
            directory=self.directory,
            files=self.files,
            images={"HARNESS_IMAGE_DASK": "dask:1"},
            owner=OWNER,
            environment={},
            nodes=[Node(PLACED, self.engine.client, describe(self.engine.client), self.agent)],
            say=self.said.append,
            progress=lambda _: None,
        )
        return LaunchedTopology(common, number, places, name=PROJECT)

    def step(self, name: str) -> None:
        self.happened.append(name)
        if name in self.on:
            self.on[name]()
        if name in self.fails:
            raise self.fails[name]

    @contextmanager
    def during(self, name: str, given: Any = None) -> Iterator[Any]:
        self.step(name)
        try:
            yield given
        finally:
            self.happened.append(f"end of {name}")

    def up(self) -> None:
        self.step("up")
        for name in ("redis-1", "runner-1", "scheduler-1", "worker-1"):
            self.engine.add(name, said=b"a line\n")
        self.engine.all[-1].environment = ["A=1", "MALLOC_B=2", "MALLOC_A=1"]

    def down(self) -> None:
        self.step("down")
        self.engine.all.clear()

    def run(self) -> Ending | None:
        return self.topology.run(lambda: self.step("before the first run"))

    def noted(self) -> list[bool]:
        """Return whether each topology that is noted down is kept."""
        return [record.kept for record in records.all_records()]


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    setting = Setting(tmp_path)
    step, during = setting.step, setting.during

    class Project(ComposeProject):
        def up(self, timeout_s: float = 0) -> None:
            assert timeout_s == PLAN.general.start_timeout
            # What may be there is noted before it is.
            assert setting.noted() == [False]
            setting.up()

        def down(self, client: object, timeout_s: float = 0) -> None:
            setting.down()

        def config(self, form: str = "yaml") -> str:
            return f"name: {self.name}\n"

    class Watch:
        def __init__(self, *args: Any, **patience: Any) -> None:
            setting.watched |= patience

        def wait(self) -> Ending | None:
            step("watch")
            return setting.ending

    def collect(project: object, containers: Sequence[Container], directory: Path) -> None:
        step(f"stacks of {len(containers)} in {directory.name}")

    def docker_view(directory: RunDirectory, marks: Path, shift_ns: int) -> Any:
        assert marks == setting.topology.parts[0].shared.path / "marks.csv"
        setting.shifts.append(shift_ns)
        return during("stats")

    monkeypatch.setattr(part, "ComposeProject", Project)
    monkeypatch.setattr(launch, "RunnerWatch", Watch)
    monkeypatch.setattr(launch, "answers_in_time", lambda *_: setting.engine_answers)
    monkeypatch.setattr(launch, "events", lambda *_: during("events"))
    monkeypatch.setattr(stacks, "collect", collect)
    monkeypatch.setattr(views, "docker_view", docker_view)
    monkeypatch.setattr(views, "follow", lambda *_: step("follow"))
    monkeypatch.setattr(part, "connect", lambda *_, **_kw: setting.engine.client)
    return setting


def test_it_starts_in_order_and_ends_in_the_other(setting: Setting) -> None:
    assert setting.run() is None
    runner = setting.engine.all[1]
    assert ("stop", {"timeout": 3}) in runner.calls
    assert setting.directory.shared.is_dir()
    setting.topology.close()
    assert setting.happened == [
        *("create parents", "make topology-1", "stats", "events", "up", "follow"),
        *("before the first run", "sampler", "watch", "end of sampler", "end of events", "down"),
        *("end of stats", "remove cgroups", "fetch topology-1", "drop topology-1"),
    ]
    assert setting.shifts == [0]
    assert setting.said == [f"Starting the topology {PROJECT}"]
    # Nothing is left of it but what it was and said.
    assert setting.noted() == []
    assert not setting.directory.shared.exists()
    assert not setting.directory.replies.exists()
    logs = sorted(path.name for path in (setting.directory.path / "logs").iterdir())
    assert logs == ["redis-1.log", "runner-1.log", "scheduler-1.log", "worker-1.log"]
    project = setting.directory.path / "compose" / "project.yaml"
    assert project.read_text() == f"name: {PROJECT}\n"
    setting.topology.close()
    assert setting.happened.count("down") == 1


def test_an_agent_elsewhere_keeps_the_folders_and_hands_over_what_is_in_them(
    setting: Setting,
) -> None:
    setting.agent.form = "container"
    assert setting.run() is None
    setting.topology.close()
    assert setting.happened == [
        *("create parents", "make topology-1", "stats", "events", "up", "follow"),
        *("before the first run", "sampler", "watch", "stop samplers of topology-1"),
        *("end of sampler", "end of events", "down", "end of stats", "remove cgroups"),
        *("fetch topology-1", "drop topology-1"),
    ]
    # The stats streams have this machine's clock, the containers another one.
    assert setting.shifts == [77]
    assert not setting.directory.shared.exists()


def test_the_agent_is_told_whom_and_what_to_watch(setting: Setting) -> None:
    setting.parents = CgroupParents(PROJECT, {}, {"worker": "/c/worker"}, "/c")
    setting.run()
    config, shared = setting.agent.config, setting.directory.shared / "topology-1"
    assert config is not None
    assert config.shared == str(shared)
    assert config.replies == str(setting.directory.replies / "topology-1")
    assert config.user == (0, 0)
    assert setting.agent.folder is None
    assert [(each.name, each.service, each.id) for each in config.containers] == [
        ("redis-1", "redis", "id-of-redis-1"),
        ("runner-1", "runner", "id-of-runner-1"),
        ("scheduler-1", "scheduler", "id-of-scheduler-1"),
        ("worker-1", "worker", "id-of-worker-1"),
    ]
    # The list's attributes are as old as the list.
    assert all(("reload", None) in container.calls for container in setting.engine.all)
    assert (config.service_parents, config.topology_parent) == ({"worker": "/c/worker"}, "/c")
    setting.agent.ended, setting.agent.kills = "its stream ended", {"redis-1": 2}
    assert setting.watched["sampler_end"]() == "its stream ended"
    assert setting.watched["killed"]() == {"redis-1": 2}


def test_an_agent_elsewhere_is_told_what_it_is_called_there(setting: Setting) -> None:
    setting.agent.form = "container"
    setting.run()
    config = setting.agent.config
    assert config is not None
    assert (config.shared, config.replies) == (
        "/seen/shared/topology-1",
        "/seen/replies/topology-1",
    )
    assert (config.user, setting.agent.folder) == ((1000, 1001), "topology-1")
    env = setting.topology.parts[0].environment()
    assert env["HARNESS_RUN_MOUNT"] == "/volume/shared/topology-1"
    assert env["HARNESS_PLAN_FILE"] == "/volume/inputs/topology-1/plan.json"
    assert env["HARNESS_MARKS_ACK_FILE"] == "/volume/replies/topology-1/.marks-ack"
    assert env["HARNESS_SETTLED_FILE"] == "/volume/replies/topology-1/.settled"
    assert env["HARNESS_KEYS"] == "/volume/inputs/topology-1/HARNESS_KEYS"


def test_every_sampler_is_told_to_end(setting: Setting) -> None:
    marks = setting.topology.parts[0].shared.path / "marks.csv"

    def begin() -> None:
        marks.write_text(HEADER)

    setting.topology.run(begin)
    assert marks.read_text().splitlines()[1].startswith(",stop,")


def test_all_services_of_a_traced_topology_attend_and_of_no_other(setting: Setting) -> None:
    part = setting.topology.parts[0]
    assert part._overrides() == []
    part.common.plan = part.common.plan.traced()
    part.common.environment = {"redis": {"A": "1"}}

    (path,) = part._overrides()

    attending = {"HARNESS_ATTENDING": "/harness/run/.attending"}
    services = json.loads(path.read_text())["services"]
    assert services.pop("redis") == {"environment": attending | {"A": "1"}}
    assert set(services) == {"runner", "scheduler", "worker"}
    assert all(found == {"environment": attending} for found in services.values())


def test_only_podman_is_told_of_no_size(setting: Setting) -> None:
    share = setting.topology.parts[0]
    assert "HARNESS_SECRETS_SIZE" not in share.environment()
    share.node.engine = replace(share.node.engine, name="Podman")
    assert share.environment()["HARNESS_SECRETS_SIZE"] == ""


def test_how_it_ended_is_returned_and_what_it_is_is_told(setting: Setting) -> None:
    setting.ending = ENDED
    assert setting.run() == ENDED
    assert setting.topology.facts() == {
        "project": PROJECT,
        "runs": [1, 4],
        "malloc": {
            "redis": [],
            "runner": [],
            "scheduler": [],
            "worker": ["MALLOC_A=1", "MALLOC_B=2"],
        },
    }
    assert setting.topology.lacks == {"redis-1": "hidden"}
    assert setting.watched["rows_in_all"] == 4
    assert setting.watched["start_timeout_s"] == 2 * PLAN.general.start_timeout
    assert setting.watched["run_timeout_s"] > 0
    assert "stacks of 4 in 0001-none-1" not in setting.happened


def test_why_there_are_no_parents_is_told(setting: Setting) -> None:
    setting.parents = CgroupParents(PROJECT, reason="not root")
    setting.run()
    assert setting.topology.lacks == {"cgroup parents": "not root", "redis-1": "hidden"}
    setting.topology.close()
    assert "remove cgroups" not in setting.happened


def test_a_time_out_asks_everybody_what_they_were_doing(setting: Setting) -> None:
    setting.ending = Ending(Outcome.TIMEOUT, "too long")

    def begin() -> None:
        setting.topology.parts[0].shared.path.joinpath("marks.csv").write_text(
            HEADER + f"{RUNS[0]},run_start,1,1\n"
        )

    assert setting.topology.run(begin) == setting.ending
    assert [what for what in setting.happened if what.startswith("stacks of 4")]


def test_an_engine_that_is_gone_is_not_asked_to_stop_the_runner(setting: Setting) -> None:
    setting.ending = Ending(Outcome.INFRASTRUCTURE, "the engine was restarted", ENGINE)
    setting.run()
    assert "stop" not in dict(setting.engine.all[1].calls)


def test_a_runner_that_has_ended_need_not_stop(setting: Setting) -> None:
    def end() -> None:
        setting.engine.all[1].error = APIError("not running")

    setting.on["watch"] = end
    assert setting.run() is None
    assert setting.engine.all[1].calls[-1] == ("stop", {"timeout": 3})


@pytest.mark.parametrize(
    ("step", "error", "expected"),
    [
        (
            "up",
            InfrastructureError("docker compose up failed: no such image"),
            Ending(Outcome.INFRASTRUCTURE, "docker compose up failed: no such image", "topology"),
        ),
        (
            "up",
            ComposeTimeoutError("docker compose up took longer than 120 s"),
            Ending(
                Outcome.TIMEOUT,
                "docker compose up took longer than 120 s (--start-timeout)",
                "topology",
            ),
        ),
        (
            "follow",
            DockerException("no\n such  container"),
            Ending(Outcome.INFRASTRUCTURE, "the engine says: no such container", ENGINE),
        ),
        (
            "sampler",
            OSError(13, "Permission denied", "/runs/cgroup.csv"),
            Ending(Outcome.INFRASTRUCTURE, "/runs/cgroup.csv: Permission denied", "run directory"),
        ),
        (
            "sampler",
            InfrastructureError("the memory sampler did not start: ulimit -Hn"),
            Ending(
                Outcome.INFRASTRUCTURE,
                "the memory sampler did not start: ulimit -Hn",
                "topology",
            ),
        ),
        (
            "sampler",
            OSError("strange"),
            Ending(Outcome.INFRASTRUCTURE, "strange", "run directory"),
        ),
    ],
)
def test_what_fails_while_it_starts_is_how_its_run_ended(
    setting: Setting, step: str, error: Exception, expected: Ending
) -> None:
    setting.fails[step] = error
    assert setting.run() == expected
    setting.topology.close()
    assert setting.happened[-6:-4] == ["end of events", "down"]
    assert setting.noted() == []


@pytest.mark.parametrize("step", ["create parents", "make topology-1"])
def test_an_agent_that_is_gone_before_it_starts_is_how_its_run_ended(
    setting: Setting, step: str
) -> None:
    setting.fails[step] = InfrastructureError("the memory sampler's agent ended: killed")
    assert setting.run() == Ending(
        Outcome.INFRASTRUCTURE, "the memory sampler's agent ended: killed", "topology"
    )
    setting.topology.close()
    assert "up" not in setting.happened
    assert ("remove cgroups" in setting.happened) == (step != "create parents")
    assert setting.noted() == []


@pytest.mark.parametrize("error", [InfrastructureError("no"), DockerException("no")])
def test_an_engine_that_is_gone_is_at_fault_for_whatever_failed(
    setting: Setting, error: Exception
) -> None:
    setting.fails["up"] = error
    setting.engine.gone = DockerException("no socket")
    expected = Ending(Outcome.INFRASTRUCTURE, "the engine stopped answering: no socket", ENGINE)
    assert setting.run() == expected


def test_what_does_not_become_ready_is_asked_what_it_waits_for(setting: Setting) -> None:
    setting.fails["up"] = InfrastructureError("worker-1 is unhealthy")
    setting.engine.add("worker-1")
    setting.run()
    assert [what for what in setting.happened if what.startswith("stacks of 1")]


def test_a_signal_while_it_starts_still_takes_it_down(setting: Setting) -> None:
    setting.fails["watch"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        setting.run()
    assert ("stop", {"timeout": 3}) in setting.engine.all[1].calls
    setting.topology.close()
    assert "down" in setting.happened
    assert setting.noted() == []


def test_one_that_is_kept_stays_and_is_noted_as_kept(setting: Setting) -> None:
    setting.run()
    setting.topology.keep()
    setting.topology.close()
    assert "down" not in setting.happened
    assert "remove cgroups" not in setting.happened
    # What there is comes home, and stays where it is, as the agent's volume does.
    assert "fetch topology-1" in setting.happened
    assert "drop topology-1" not in setting.happened
    assert setting.agent.kept
    assert setting.noted() == [True]
    assert len(setting.engine.all) == 4


def test_an_engine_that_does_not_come_back_leaves_it_in_place_with_a_word(
    setting: Setting,
) -> None:
    setting.run()
    setting.engine_answers = False
    setting.topology.close()
    assert "down" not in setting.happened
    assert setting.said[-1] == (
        f"fine: the engine does not answer: {PROJECT} is left in place;"
        f" 'harness clean {PROJECT}' removes it"
    )
    assert setting.noted() == [False]


def test_what_cannot_be_taken_down_stays_noted(setting: Setting) -> None:
    setting.run()
    setting.fails["down"] = InfrastructureError("docker compose down failed")
    with pytest.raises(InfrastructureError, match="down failed"):
        setting.topology.close()
    assert setting.noted() == [False]
    # Its rows are taken in, and what it can still write to stays.
    assert setting.directory.shared.is_dir()
    assert "end of stats" in setting.happened
    assert setting.happened[-2:] == ["remove cgroups", "fetch topology-1"]


def test_logs_that_cannot_be_saved_are_a_warning(setting: Setting) -> None:
    setting.run()
    (setting.directory.path / "logs").write_text("in the way")
    setting.topology.close()
    assert setting.said[-1].startswith("fine: the logs could not be saved: ")
    assert setting.noted() == []


def test_rows_that_do_not_fit_here_are_told(setting: Setting) -> None:
    setting.run()
    setting.unwritten = "/runs/marks.csv: No space left on device"
    setting.topology.close()
    said = f"suspicious: not all that containers wrote is here: {setting.unwritten}."
    assert f"{said} All figures are of the rest." in setting.said


def test_a_cgroup_that_stays_is_a_warning(setting: Setting) -> None:
    setting.agent.left = ["/cgroup/x"]
    setting.run()
    setting.topology.close()
    assert setting.said[-1] == "fine: /cgroup/x could not be removed"


def test_the_containers_are_told_what_is_theirs(setting: Setting) -> None:
    setting.run()
    env = setting.topology.parts[0].environment()
    shared = setting.directory.shared / "topology-1"
    assert env["HARNESS_RUN_MOUNT"] == str(shared)
    assert env["HARNESS_USER"] == "1000:1001"
    assert env["HARNESS_CGROUP_WORKER"] == f"/{PROJECT}/worker"
    assert env["HARNESS_WORKERS"] == "2"
    assert env["HARNESS_WORKER_MEMORY_LIMIT"] == str(10**9)
    assert env["HARNESS_IMAGE_DASK"] == "dask:1"
    assert env["HARNESS_MARKS_ACK"] == "1"
    assert "--places" not in env["HARNESS_RUNNER_COMMAND"]
    # All that the host answers is beside what they can write.
    for name in ("HARNESS_PLAN_FILE", "HARNESS_MARKS_ACK_FILE", "HARNESS_SETTLED_FILE"):
        assert str(setting.directory.path) in env[name]
        assert not env[name].startswith(f"{setting.directory.shared}/")


def test_a_topology_of_some_runs_runs_those_alone(setting: Setting) -> None:
    setting.topology = setting.topology_of(range(2, 4), number=2)
    env = setting.topology.parts[0].environment()
    assert env["HARNESS_RUNNER_COMMAND"].endswith(" --places 3 4")
    assert setting.run() is None
    assert setting.watched["rows_in_all"] == 2
    assert setting.topology.facts()["runs"] == [3, 4]
    setting.topology.close()
    # Nothing of the first one's is overwritten.
    logs = setting.directory.path / "logs" / "topology-2"
    assert (logs / "runner-1.log").read_bytes() == b"a line\n"
    assert (setting.directory.path / "compose" / "project-2.yaml").exists()


def test_it_has_begun_when_its_marks_say_so(setting: Setting) -> None:
    assert not setting.topology.has_begun(set())
    setting.run()
    assert not setting.topology.has_begun(set())
    marks = setting.topology.parts[0].shared.path / "marks.csv"
    marks.write_text(HEADER + f"{RUNS[1]},run_start,1,1\n,stop,2,2\n")
    assert setting.topology.has_begun({RUNS[0]})
    assert not setting.topology.has_begun({RUNS[1]})


def test_rows_of_its_own_runs_alone_are_taken_in(setting: Setting) -> None:
    setting.topology = setting.topology_of(range(2))

    def write() -> None:
        rows = [csv_line([run, "none", 1, "ok", "", ""]) for run in RUNS]
        path = setting.topology.parts[0].shared.path / "outcomes.csv"
        path.write_text("".join([csv_line(columns(OutcomeRow)), *rows]))

    setting.topology.run(write)
    setting.topology.close()
    lines = setting.directory.outcomes.read_text().splitlines()
    assert [line.partition(",")[0] for line in lines[1:]] == RUNS[:2]
    assert setting.said[-1].startswith(
        "suspicious: outcomes.csv: 2 rows of the containers left out"
    )
