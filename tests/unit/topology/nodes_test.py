"""The file of nodes: what it may say, and what goes where."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.clock import Reference
from harness.core.errors import InfrastructureError, UsageError
from harness.plan import Plan
from harness.results.rows import read_table
from harness.results.schema import NodeRow
from harness.sampling.clocks import Offset
from harness.topology.compose import plan_files
from harness.topology.joined import shared_volumes
from harness.topology.nodes import Clocks, Node, Placed, read_nodes, require_swarm, spanning
from tests.bench_plans import bench_plan

TWO = """
[[nodes]]
name = "a"
{a}
[[nodes]]
name = "b"
engine = "tcp://10.0.0.2:2376"
{b}
"""


def placed(tmp_path: Path, text: str, **topology: Any) -> list[Placed]:
    path = tmp_path / "nodes.toml"
    path.write_text(text)
    plan = bench_plan(nodes=str(path), **topology)
    return read_nodes(plan, plan_files(plan))


def refusal(tmp_path: Path, text: str, **topology: Any) -> str:
    with pytest.raises(UsageError) as caught:
        placed(tmp_path, text, **topology)
    said = str(caught.value)
    assert "\n" not in said
    prefix = f"--nodes {tmp_path / 'nodes.toml'}: "
    assert said.startswith(prefix)
    return said.removeprefix(prefix)


def test_without_a_file_there_is_one_node_with_everything() -> None:
    plan = bench_plan()
    (node,) = read_nodes(plan, plan_files(plan))
    assert node.name == ""
    assert node.workers == (1, 2)
    assert node.all_services == ["redis", "runner", "scheduler", "worker"]


@pytest.mark.parametrize(
    ("a", "b", "workers"),
    [
        ("", "", ((1,), (2,))),
        ("workers = 0", "", ((), (1, 2))),
        ("workers = 2", "workers = 0", ((1, 2), ())),
        ("weight = 3", "weight = 1", ((1, 2), ())),
        ("weight = 0", "", ((), (1, 2))),
    ],
)
def test_workers_are_counted_or_weighed(
    a: str, b: str, workers: tuple[tuple[int, ...], ...], tmp_path: Path
) -> None:
    found = placed(tmp_path, TWO.format(a=a, b=b))
    assert tuple(node.workers for node in found) == workers
    assert found[1].place.environment() == {"DOCKER_HOST": "tcp://10.0.0.2:2376"}
    assert found[0].place.environment() == {}


def test_services_are_on_the_first_unless_said_otherwise(tmp_path: Path) -> None:
    first, second = placed(tmp_path, TWO.format(a="", b='services = ["redis"]'))
    assert first.services == {"runner", "scheduler"}
    assert second.services == {"redis"}
    assert second.all_services == ["redis", "worker"]


def test_certificates_are_found_from_where_the_command_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = placed(tmp_path, TWO.format(a="", b='certificates = "keys"'))
    assert found[1].place.environment()["DOCKER_CERT_PATH"] == str(tmp_path / "keys")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodes = 3", "nodes: Input should be a valid list; docs/cluster.md shows such a file"),
        ("x", "not TOML: Expected '=' after a key in a key/value pair (at end of document)"),
        (TWO.format(a='naem = "c"', b=""), "nodes.0.naem: Extra inputs are not permitted;"),
        (TWO.format(a="workers = -1", b=""), "nodes.0.workers: Input should be greater than"),
        (TWO.replace('"b"', '"a"').format(a="", b=""), "two nodes are called a: give each a"),
        (
            TWO.format(a="workers = 2", b="workers = 1"),
            "its nodes have 3 workers in all, the plan has 2: change one of the two",
        ),
        (
            TWO.format(a="weight = 0", b="weight = 0"),
            "no node without 'workers' has a weight: 2 workers are left",
        ),
        (
            TWO.format(a='services = ["scheduller"]', b=""),
            "a: no service scheduller: choose from redis, runner, scheduler",
        ),
        (TWO.format(a="", b='services = ["runner"]'), "the runner is on the first node: put b"),
        (TWO.format(a="", b='context = "far"'), "b: name an engine or a context, not both"),
        (TWO.format(a='certificates = "x"', b=""), "a: certificates are of an engine: name it"),
    ],
)
def test_what_cannot_be_is_one_line_with_the_remedy(text: str, said: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, text).startswith(said)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    plan = bench_plan(nodes=str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match=r"none\.toml: No such file or directory: name a file"):
        read_nodes(plan, plan_files(plan))


def test_files_need_a_folder_that_all_see(tmp_path: Path) -> None:
    path = tmp_path / "nodes.toml"
    path.write_text(TWO.format(a="", b=""))
    plan = bench_plan(nodes=str(path))
    shape = plan.model_dump() | {"connector_name": "file", "connector": {"directory": "/x"}}
    with pytest.raises(UsageError, match="needs a folder that all nodes see: name it with --shar"):
        read_nodes(Plan.model_validate(shape), plan_files(Plan.model_validate(shape)))
    shape["topology"] |= {"shared_dir": "/net/objects"}
    plan = Plan.model_validate(shape)
    assert len(read_nodes(plan, plan_files(plan))) == 2


class Engine:
    """An engine, as far as it says which swarm it is in."""

    def __init__(self, number: str, swarm: dict[str, Any], members: tuple[str, ...] = ()) -> None:
        self.number, self.swarm = number, swarm
        self.nodes = SimpleNamespace(list=lambda: [SimpleNamespace(id=each) for each in members])

    def info(self) -> dict[str, Any]:
        return {"ID": self.number, "Swarm": self.swarm}


def node(name: str, engine: Any = None, agent: Any = None, **placed: Any) -> Node:
    nothing: Any = None
    return Node(Placed(name, **placed), engine, nothing, agent)


MANAGER: dict[str, Any] = {"ControlAvailable": True, "LocalNodeState": "active", "NodeID": "n1"}
MEMBER: dict[str, Any] = {"LocalNodeState": "active", "NodeID": "n2"}


def test_engines_of_one_swarm_can_be_joined() -> None:
    first = node("a", Engine("1", MANAGER, ("n1", "n2")))
    require_swarm([first, node("b", Engine("2", MEMBER))])
    # One node needs none.
    require_swarm([node("", Engine("1", {}))])


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (
            Engine("1", {}),
            Engine("2", {}),
            r"node a: is no manager .*'docker swarm init",
        ),
        (
            Engine("1", MANAGER, ("n1",)),
            Engine("2", MEMBER),
            "node b: is not in the swarm of a: r",
        ),
        (Engine("1", MANAGER), Engine("2", {}), "node b: is not in the swarm of a"),
        (
            Engine("1", MANAGER),
            Engine("1", MANAGER),
            "a and b are one engine: name each",
        ),
    ],
)
def test_engines_that_are_no_swarm_are_named(first: Engine, second: Engine, said: str) -> None:
    with pytest.raises(InfrastructureError, match=said):
        require_swarm([node("a", first), node("b", second)])


def test_a_scope_of_which_a_part_is_here_has_the_nodes_name() -> None:
    first = node("a", workers=(1,), services=frozenset({"redis", "runner"}))
    second = node("b", workers=(2,))
    assert spanning([first, second], first) == {"worker": "worker@a", "topology": "topology@a"}
    assert spanning([first, second], second) == {"worker": "worker@b", "topology": "topology@b"}
    assert spanning([first], first) == {}


class Agent:
    """An agent whose clock is as far off as it is told."""

    def __init__(self, clock: str, *offsets: Offset) -> None:
        self.coming = list(offsets)
        self.offset = Offset(0, 0, 0)
        self.relay = SimpleNamespace(clock=clock, ask=lambda _: {"mono_ns": 900, "unix_ns": 5900})

    def measure_clock(self) -> None:
        if self.coming:
            self.offset = self.coming.pop(0)


def test_clocks_are_told_against_that_of_the_first_node(tmp_path: Path) -> None:
    # Home's clock is a third one.
    first = node("a", agent=Agent("one", Offset(0, 1000, 3), Offset(0, 1001, 3)))
    second = node("b", agent=Agent("two", Offset(0, -200, 4), Offset(0, -210, 4)))
    third = node("c", agent=Agent("one", Offset(0, 1000, 3)))
    clocks = Clocks([first, second, third], tmp_path / "nodes.csv")
    clocks.measure(7, "start")
    clocks.take()
    clocks.measure(7, "end")
    assert second.clock == Reference("one", -1200, 5000)
    assert first.clock == third.clock == Reference()
    found = read_table(tmp_path / "nodes.csv", NodeRow).rows
    assert found[1] == NodeRow("b", "start", 7, 900, -1200, 7, "measured")
    assert found[4] == NodeRow("b", "end", 7, 900, -1211, 7, "measured")
    assert [row.clock for row in found if row.node in ("a", "c")] == ["same"] * 4


def test_one_node_has_no_clocks_to_measure(tmp_path: Path) -> None:
    clocks = Clocks([node("", agent=Agent("one"))], tmp_path / "nodes.csv")
    clocks.measure(1, "start")
    assert not (tmp_path / "nodes.csv").exists()


def test_a_clock_goes_through_a_variable() -> None:
    known = Reference("0f-1 time:[4026531834]", -5_000_000_000_000, 1_700_000_000_000_000_000)
    assert Reference.parse(str(known)) == known
    assert Reference.parse("") == Reference.parse("x y z") == Reference()
    mono_ns, unix_ns = known.now()
    assert unix_ns - mono_ns == known.unix_minus_mono_ns


def test_volumes_that_workers_share_with_services_are_handed_over() -> None:
    def volume(name: str, place: str) -> dict[str, str]:
        return {"type": "volume", "source": name, "target": place}

    whole = {
        "services": {
            "worker": {"volumes": [volume("secrets", "/s"), volume("own", "/o"), {"type": "bind"}]},
            "redis": {"volumes": [volume("secrets", "/elsewhere")]},
            "broker": {"volumes": [volume("state", "/x")]},
            "runner": {},
        }
    }
    assert shared_volumes(whole, frozenset({"redis", "broker", "runner"})) == {"secrets": "/s"}
    assert json.loads(json.dumps(whole)) == whole
