"""What is found of benches that are gone, what is removed, and what must never be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from docker import DockerClient

from harness.core.errors import InfrastructureError
from harness.images.address import Address
from harness.results.directory import RunDirectory
from harness.results.intake import Intake, Known
from harness.results.rows import OutcomeRow, columns, csv_line
from harness.results.shared import SharedFolder
from harness.sampling.report import FRAGMENTS
from harness.topology import leftovers, ownership, records
from harness.topology.engine import HERE, OWNER_LABEL, RUN_LABEL
from harness.topology.records import BenchProcess, Record, State
from tests.fake_engine import PROJECT, FakeClock, FakeEngine

OTHER = "wmhffff0000"
OURS = BenchProcess.current()
# What this very process has started is not left over: the one that started it runs, too.
RUNNING = replace(OURS, pid=os.getppid(), started=records._started(os.getppid()) or 0)
ENDED = str(replace(OURS, started=OURS.started + 1))
ELSEWHERE = str(replace(OURS, host=f"not-{OURS.host}"))
FOREIGN = (
    "",
    "benchmark-12",
    "wmh0123",
    f"{PROJECT}0",
    f"x{PROJECT}",
    PROJECT.upper(),
    "wmh/../abcd",
)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(autouse=True)
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Cgroups by project, in place of this machine's; and no second passes by."""
    found: dict[str, list[str]] = {}
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(leftovers, "time", FakeClock())
    monkeypatch.setattr(leftovers, "project_cgroups", lambda project: found.get(project, []))
    monkeypatch.setattr(leftovers, "all_project_cgroups", lambda: {*found, "docker", "user"})
    monkeypatch.setattr(leftovers, "remove_cgroups", lambda project: found.pop(project, []))
    return found


def remove_all(client: DockerClient, project: str, tree: leftovers.Tree | None = None) -> list[str]:
    """Remove all of a project at one engine."""
    here = leftovers.Site("", client, tree or leftovers.OwnTree())
    return leftovers.remove_everywhere([here], project, keep_note=False)


def fill(engine: FakeEngine, project: str, owner: str = ENDED) -> None:
    engine.add("runner-1", project=project, owner=owner)
    engine.add("worker-1", project=project, owner=owner, status="exited")
    engine.add_thing("network", f"{project}_default", {RUN_LABEL: project})
    engine.add_thing("volume", f"{project}_data", {RUN_LABEL: project})


def names(engine: FakeEngine) -> list[str]:
    return [*(c.name for c in engine.all), *(thing.name for thing in engine.things)]


def test_everything_of_a_project_is_found(
    engine: FakeEngine, cgroups: dict[str, list[str]]
) -> None:
    fill(engine, OTHER)
    fill(engine, PROJECT, str(RUNNING))
    engine.add_thing("network", "bridge")
    cgroups[OTHER] = ["/sys/fs/cgroup/" + OTHER]
    records.write(Record(OTHER, ENDED, "/runs/a"))
    mine, other = leftovers.find(engine.client)
    assert (mine.project, mine.state, mine.run_dir) == (PROJECT, State.RUNNING, "")
    assert (other.project, other.state, other.run_dir) == (OTHER, State.ENDED, "/runs/a")
    assert other.things() == [
        f"container {OTHER}-runner-1",
        f"container {OTHER}-worker-1",
        f"network {OTHER}_default",
        f"volume {OTHER}_data",
        f"cgroup /sys/fs/cgroup/{OTHER}",
    ]


def test_what_this_process_has_started_is_not_left_over(engine: FakeEngine) -> None:
    fill(engine, PROJECT, str(OURS))
    fill(engine, OTHER, str(RUNNING))
    assert [entry.project for entry in leftovers.find(engine.client)] == [OTHER]


def test_an_agents_volume_comes_after_the_topologies_that_used_it(engine: FakeEngine) -> None:
    agents = "wmh00000000"
    engine.add_thing("volume", f"{agents}-node", {RUN_LABEL: agents, OWNER_LABEL: ENDED})
    fill(engine, OTHER)
    fill(engine, PROJECT)
    found = leftovers.find(engine.client)
    assert [entry.project for entry in found] == [PROJECT, OTHER, agents]
    # Its container is gone; the volume says whose it was.
    assert found[-1].state == State.ENDED


@pytest.mark.parametrize("project", FOREIGN)
def test_what_is_not_a_benchs_is_neither_found_nor_removed(
    engine: FakeEngine, project: str
) -> None:
    fill(engine, project)
    records.write(Record(project.replace("/", "_"), ENDED, "/runs/a"))
    before = names(engine)
    assert leftovers.find(engine.client) == []
    remove_all(engine.client, PROJECT)
    assert names(engine) == before


def test_cgroups_alone_are_found_and_are_nobodys(
    engine: FakeEngine, cgroups: dict[str, list[str]]
) -> None:
    cgroups.clear()
    cgroups["wmh0badcafe"] = ["/sys/fs/cgroup/memory/wmh0badcafe"]
    found = {entry.project: entry for entry in leftovers.find(engine.client)}
    assert found["wmh0badcafe"].things() == ["cgroup /sys/fs/cgroup/memory/wmh0badcafe"]
    # Only whoever names it removes it.
    assert found["wmh0badcafe"].state == State.UNKNOWN
    assert not {"docker", "user"} & set(found)


def test_a_note_alone_is_found() -> None:
    records.write(Record(PROJECT, ENDED, "/runs/a", kept=True))
    (found,) = leftovers.find(FakeEngine().client)
    assert (found.state, found.things(), found.run_dir) == (State.ENDED, [], "/runs/a")


@pytest.mark.parametrize(
    ("owner", "state"),
    [
        (ENDED, State.ENDED),
        (str(RUNNING), State.RUNNING),
        (ELSEWHERE, State.UNKNOWN),
        ("nobody", State.UNKNOWN),
    ],
    ids=["ended", "running", "elsewhere", "nobody"],
)
def test_the_containers_say_whether_their_bench_runs(
    engine: FakeEngine, owner: str, state: State
) -> None:
    fill(engine, PROJECT, owner)
    (found,) = leftovers.find(engine.client)
    assert found.state == state


def test_a_note_that_knows_outweighs_the_containers(engine: FakeEngine) -> None:
    fill(engine, PROJECT, ENDED)
    records.write(Record(PROJECT, str(RUNNING), "/runs/a"))
    (found,) = leftovers.find(engine.client)
    assert found.state == State.RUNNING
    # One that does not know leaves it to them.
    records.write(Record(PROJECT, ELSEWHERE, "/runs/a"))
    (found,) = leftovers.find(engine.client)
    assert found.state == State.ENDED


def test_only_that_project_is_removed(engine: FakeEngine, cgroups: dict[str, list[str]]) -> None:
    fill(engine, PROJECT)
    fill(engine, OTHER)
    cgroups |= {PROJECT: ["/c/1"], OTHER: ["/c/2"]}
    for project in (PROJECT, OTHER):
        records.write(Record(project, ENDED, "/runs/gone"))
    kept = [name for name in names(engine) if name.startswith(OTHER)]
    assert remove_all(engine.client, PROJECT) == []
    assert names(engine) == kept
    assert cgroups == {OTHER: ["/c/2"]}
    assert [record.project for record in records.all_records()] == [OTHER]
    assert [what for what, _ in engine.removed] == [
        "container runner-1",
        "container worker-1",
        f"network {PROJECT}_default",
        f"volume {PROJECT}_data",
    ]
    # Running ones too, and with the volumes that have no name.
    assert engine.removed[0][1] == {"force": True, "v": True}
    assert engine.removed[-1][1] == {"force": True}


@pytest.mark.parametrize("stuck", ["container", "network", "volume"])
def test_what_cannot_be_removed_is_told_and_keeps_its_note(
    engine: FakeEngine, stuck: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(leftovers, "time", clock)
    fill(engine, PROJECT)
    records.write(Record(PROJECT, ENDED, "/runs/a"))
    for container in engine.all:
        container.stuck = stuck == "container"
    for thing in engine.things:
        thing.stuck = stuck == thing.kind
    left = remove_all(engine.client, PROJECT)
    assert {line.partition(" ")[0] for line in left} == {stuck}
    assert [record.project for record in records.all_records()] == [PROJECT]
    # Tried again for about two seconds.
    assert len(clock.slept) == 19
    assert clock.slept[0] == 0.5


def test_what_comes_while_it_is_removed_is_removed_too(
    engine: FakeEngine, cgroups: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(engine, PROJECT)
    cgroups[PROJECT] = ["/c/1"]
    late = ["worker-2"]

    def remove_cgroups(project: str) -> list[str]:
        while late:
            engine.add(late.pop(), owner=ENDED)
        return cgroups.pop(project, [])

    monkeypatch.setattr(leftovers, "remove_cgroups", remove_cgroups)
    assert remove_all(engine.client, PROJECT) == []
    assert names(engine) == []


def test_a_dead_benchs_directory_loses_what_is_temporary_and_no_row(
    engine: FakeEngine, tmp_path: Path
) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    for path in directory.temporary_files()[1:]:
        path.write_text("x")
    (directory.path / FRAGMENTS).mkdir()
    (directory.path / FRAGMENTS / "a.json").write_text("{}")
    shared = SharedFolder(directory.shared / "topology-1")
    shared.create()
    (directory.replies / "topology-1").mkdir(parents=True)
    known = Known(runs=["0001-none-1"], modes=["none"], containers=["runner-1"])
    Intake(shared, directory, known).keep_known()
    row = csv_line(["0001-none-1", "none", 1, "ok", "", ""])
    (shared.path / "outcomes.csv").write_text(csv_line(columns(OutcomeRow)) + row)
    records.write(Record(PROJECT, ENDED, str(directory.path)))
    assert remove_all(engine.client, PROJECT) == []
    assert directory.outcomes.read_text().splitlines()[1:] == [row.strip()]
    assert [path for path in directory.temporary_files() if path.exists()] == []
    assert not (directory.path / FRAGMENTS).exists()
    assert not directory.shared.exists()
    assert records.all_records() == []


def test_what_a_dead_bench_wrote_is_its_users(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Path] = []
    monkeypatch.setattr(ownership, "give_to_user", lambda path, _: given.append(path))
    records.write(Record(PROJECT, ENDED, str(tmp_path)))
    remove_all(engine.client, PROJECT)
    assert given == [tmp_path]


def test_a_directory_that_is_gone_is_no_obstacle(engine: FakeEngine, tmp_path: Path) -> None:
    records.write(Record(PROJECT, ENDED, str(tmp_path / "gone")))
    assert remove_all(engine.client, PROJECT) == []
    assert records.all_records() == []


class Tree:
    """The cgroup tree of a machine that is not this one."""

    def __init__(self, cgroups: dict[str, list[str]]) -> None:
        self.there = cgroups

    def cgroups(self) -> dict[str, list[str]]:
        return self.there

    def remove_cgroups(self, project: str) -> list[str]:
        self.there.pop(project, None)
        return []


def test_cgroups_are_found_and_removed_where_the_engine_is(
    engine: FakeEngine, cgroups: dict[str, list[str]]
) -> None:
    cgroups |= {PROJECT: ["/here/1"]}
    tree = Tree({PROJECT: ["/there/1"], OTHER: ["/there/2"], "docker": ["/there/docker"]})
    found = leftovers.find(engine.client, tree)
    assert [(entry.project, entry.cgroups) for entry in found] == [
        (PROJECT, ["/there/1"]),
        (OTHER, ["/there/2"]),
    ]
    assert remove_all(engine.client, PROJECT, tree) == []
    assert set(tree.there) == {OTHER, "docker"}
    assert cgroups == {PROJECT: ["/here/1"]}


class FakeAgent(Tree):
    """An agent that starts, or does not."""

    made: ClassVar[list[tuple[str, str]]] = []
    fails = False

    def __init__(
        self,
        _client: object,
        _engine: object,
        _owner: object,
        form: str,
        image: str,
        *,
        place: Address,
    ):
        assert place == HERE
        super().__init__({OTHER: ["/there"]})
        self.made.append((form, image))


@contextmanager
def started(agent: FakeAgent) -> Iterator[FakeAgent]:
    if agent.fails:
        raise InfrastructureError("the agent could not be started")
    yield agent


@pytest.mark.parametrize(
    ("container", "image", "fails", "there"),
    [
        (False, "redis:1", False, False),
        (True, "", False, False),
        (True, "redis:1", True, False),
        (True, "redis:1", False, True),
    ],
)
def test_an_agent_is_started_only_where_there_is_no_other_way(
    engine: FakeEngine,
    cgroups: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    container: bool,
    image: str,
    fails: bool,
    there: bool,
) -> None:
    monkeypatch.setattr(leftovers, "wants_container", lambda *_: container)
    monkeypatch.setattr(leftovers, "some_image", lambda: image)
    monkeypatch.setattr(leftovers, "Agent", FakeAgent)
    monkeypatch.setattr(leftovers, "started", started)
    monkeypatch.setattr(FakeAgent, "made", [])
    monkeypatch.setattr(FakeAgent, "fails", fails)
    cgroups[PROJECT] = ["/here"]
    with leftovers.tree_of(engine.client) as tree:
        assert isinstance(tree, FakeAgent) == there
        assert (tree.cgroups() == {OTHER: ["/there"]}) == there
        if not there:
            assert tree.cgroups()[PROJECT] == ["/here"]
            assert tree.remove_cgroups(PROJECT) == ["/here"]
    assert FakeAgent.made == ([("container", image)] if container and image else [])
