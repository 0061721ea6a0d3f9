"""Instances of WfFormat: what is run of them, and one line for each that cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.core.errors import UsageError
from harness.plan import Plan
from harness.plan.graph import Start, Task
from harness.results.documents import clean
from harness.workloads._instance import Instance, NotMappedError, read_instance
from harness.workloads.wfformat import WfFormat
from tests.workflows import DIAMOND, as_1_3, diamond_1_5, wfformat_plan

Change = Callable[[dict[str, Any]], object]


def refusal(document: object) -> str:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(NotMappedError) as caught:
        read_instance(data)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


def specification(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["workflow"]["specification"]
    return found


@pytest.mark.parametrize("version", ["1.3", "1.4", "1.5", "1.6"])
def test_all_versions_say_the_same(version: str) -> None:
    document = diamond_1_5()
    if version in ("1.3", "1.4"):
        document = as_1_3(document, version)
    document["schemaVersion"] = version
    # A split reads two files, two tasks read its one object, and a join reads theirs and a late
    # file.
    found = read_instance(json.dumps(document).encode())
    assert found.start == (("a.in", 100), ("b.in", 50), ("late.in", 7))
    assert [[tuple(task) for task in level] for level in found.levels] == [
        [("split", (0, 1), 60, 0.5, ())],
        [("left", (3,), 10, 1.0, ()), ("right", (3,), 0, 2.0, ())],
        [("join", (4, 5, 2), 5, 0.25, ())],
        [("report", (6,), 0, 0.0, ())],
    ]


def test_sizes_and_times_are_scaled_and_then_capped() -> None:
    plan = wfformat_plan(scale_bytes=0.5, scale_time=2, cap_bytes=40, cap_time=3.0)
    graph = plan.workload.graph()
    assert graph.start == (
        Start("start/a.in", 40),
        Start("start/b.in", 25),
        Start("start/late.in", 4),
    )
    assert graph.levels[0] == (Task("0/split", (0, 1), 30, 1.0),)
    assert [task.sleep_s for task in graph.levels[1]] == [2.0, 3.0]


def test_late_start_data_enters_late_and_a_waiting_task_reads_nothing() -> None:
    graph = wfformat_plan().workload.graph()
    assert graph.enter == ((0, 1), (), (2,), ())
    assert graph.end == ((0, 1), (3,), (2, 4, 5), (6,), (7,))


def test_tasks_without_files_are_ordered_all_the_same() -> None:
    tasks = [
        {"name": name, "id": name, "parents": parents, "children": []}
        for name, parents in (("c", ["b"]), ("a", []), ("b", ["a"]))
    ]
    took = [{"id": name, "runtimeInSeconds": 1} for name in "abc"]
    document = {
        "schemaVersion": "1.5",
        "workflow": {"specification": {"tasks": tasks}, "execution": {"tasks": took}},
    }
    found = read_instance(json.dumps(document).encode())
    # A proxy's task knows its store by its data: there is an object of no bytes for all of them.
    assert found.start == (("", 0),)
    assert [[task[:2] for task in level] for level in found.levels] == [
        [("a", (0,))],
        [("b", (0,))],
        [("c", (0,))],
    ]
    assert [level[0].after for level in found.levels] == [(), (1,), (2,)]


def test_what_a_task_changes_in_place_it_reads_as_it_was() -> None:
    document = diamond_1_5()
    specification(document)["tasks"][0]["inputFiles"].append("split.out")
    found = read_instance(json.dumps(document).encode())
    assert found.start[2] == ("split.out", 60)
    assert found.levels[0][0].inputs == (0, 1, 2)
    assert found.levels[1][0].inputs == (4,)


def test_hundreds_in_and_out() -> None:
    names = [f"t{number}" for number in range(800)]
    tasks = [
        {"name": "first", "id": "first", "outputFiles": ["f"], "children": names},
        *({"name": n, "id": n, "inputFiles": ["f"], "outputFiles": [f"{n}.o"]} for n in names),
        {"name": "last", "id": "last", "inputFiles": [f"{n}.o" for n in names]},
    ]
    files = [{"id": name, "sizeInBytes": 3} for name in ["f", *(f"{n}.o" for n in names)]]
    took = [{"id": task["name"], "runtimeInSeconds": 0} for task in tasks]
    document = {
        "schemaVersion": "1.5",
        "workflow": {
            "specification": {"tasks": tasks, "files": files},
            "execution": {"tasks": took},
        },
    }
    found = read_instance(json.dumps(document).encode())
    assert [len(level) for level in found.levels] == [1, 800, 1]
    assert len(found.levels[2][0].inputs) == 800
    assert max(map(len, found.pieces())) <= 8000
    assert Instance.of_pieces(found.pieces()) == found


def _cycle(document: dict[str, Any]) -> None:
    specification(document)["tasks"][0]["parents"] = ["join"]


def _twice(document: dict[str, Any]) -> None:
    specification(document)["tasks"][1]["id"] = "split"


def _no_file(document: dict[str, Any]) -> None:
    del specification(document)["files"][0]


def _file_twice(document: dict[str, Any]) -> None:
    specification(document)["files"] *= 2


def _two_writers(document: dict[str, Any]) -> None:
    specification(document)["tasks"][2]["outputFiles"] = ["left.out"]


def _no_parent(document: dict[str, Any]) -> None:
    specification(document)["tasks"][1]["parents"] = ["nobody"]


def _no_runtime(document: dict[str, Any]) -> None:
    document["workflow"]["execution"]["tasks"].pop()


def _no_tasks(document: dict[str, Any]) -> None:
    specification(document)["tasks"] = []


def _no_version(document: dict[str, Any]) -> None:
    document["schemaVersion"] = "0.9"


def _nothing(document: dict[str, Any]) -> None:
    document["workflow"] = {}


def _size(value: object) -> Change:
    def change(document: dict[str, Any]) -> None:
        specification(document)["files"][0]["sizeInBytes"] = value

    return change


def _runtime(value: object) -> Change:
    def change(document: dict[str, Any]) -> None:
        document["workflow"]["execution"]["tasks"][0]["runtimeInSeconds"] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_cycle, "tasks wait for each other: split -> left -> join -> split"),
        (_twice, "task 'split' is there twice"),
        (_no_file, "file 'a.in' of task 'split' is not among the files"),
        (_file_twice, "file 'a.in' is there twice"),
        (_two_writers, "file 'left.out' is written by the tasks 'left' and 'right'"),
        (_no_parent, "'nobody', a parent or child, is no task"),
        (_no_runtime, "task 'report' has no runtimeInSeconds"),
        (_no_tasks, "0 tasks: from 1"),
        (_no_version, "schemaVersion '0.9'"),
        (_nothing, "neither a specification nor tasks"),
        (_size(-1), "files.0.sizeInBytes: Input should be greater than or equal to 0"),
        (_size(1e300), "files.0.sizeInBytes: Input should be less than or equal to"),
        (_size("5"), "files.0.sizeInBytes: Input should be a valid number"),
        (_size(None), "files.0.sizeInBytes: Input should be a valid number"),
        (_runtime(float("nan")), "runtimeInSeconds: Input should be a finite number"),
        (_runtime(float("inf")), "runtimeInSeconds: Input should be a finite number"),
        (_runtime(-0.1), "runtimeInSeconds: Input should be greater than or equal to 0"),
        (_runtime([]), "runtimeInSeconds: Input should be a valid number"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(change: Change, said: str) -> None:
    document = diamond_1_5()
    change(document)
    assert said in refusal(document)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"schemaVersion": "1.5"}'],
    ids=["empty", "half", "list", "null", "not UTF-8", "deep", "no workflow"],
)
def test_what_is_no_instance_is_said_in_one_line(data: bytes) -> None:
    assert refusal(data).startswith("not WfFormat: ")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        _grown := (
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(["workflow", "tasks", "files", "schemaVersion", "name", "id"])
                    | st.text(),
                    inner,
                )
            )
        ),
    )
)
def test_any_json_is_an_instance_or_refused(document: object) -> None:
    refusal(document)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "no.json"
    with pytest.raises(UsageError, match=r"^--workflow .*no\.json: No such file or directory"):
        WfFormat.from_flags({"workflow": str(missing)})
    with pytest.raises(UsageError, match=r"^--workflow: is required"):
        WfFormat.from_flags({})


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "wrong\n.json"
    path.write_text("{}")
    with pytest.raises(UsageError) as caught:
        WfFormat.from_flags({"workflow": str(path)})
    assert "\n" not in str(caught.value)
    assert "not WfFormat: schemaVersion: Field required" in str(caught.value)


def test_a_scale_that_makes_too_much_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^--scale-bytes: input should be less than"):
        WfFormat.from_flags({"workflow": str(DIAMOND), "scale_bytes": 1e300})
    with pytest.raises(ValidationError, match="a task takes more than"):
        wfformat_plan(scale_time=1e6, instance=_one_task(seconds=1e6))
    with pytest.raises(ValidationError, match="an object has 1000000000000000000 bytes"):
        wfformat_plan(scale_bytes=1e6, instance=_one_task(size=10**12))


def _one_task(size: int = 0, seconds: float = 0) -> tuple[str, ...]:
    return (json.dumps([[["", 0]], [[["t", [0], size, seconds, []]]]]),)


@pytest.mark.parametrize(
    "instance",
    [
        [],
        ["[]"],
        ["[[],[]]"],
        ["[[],[[]]]"],
        ['[[["a",1]],[[["t",[1],0,0,[]]]]]'],
        ['[[["a",1]],[[["t",[-1],0,0,[]]]]]'],
        ['[[["a",1]],[[["t",[],0,0,[]]]]]'],
        ['[[["a",1]],[[["t",[0],-5,0,[]]]]]'],
        ['[[["a",1]],[[["t",[0],0,NaN,[]]]]]'],
        ["[" * 5000],
    ],
)
def test_a_strangers_plan_is_checked_too(instance: list[str]) -> None:
    with pytest.raises(ValidationError):
        wfformat_plan(instance=tuple(instance))


def test_the_plan_holds_what_is_run_as_a_bundle_reads_it() -> None:
    plan = wfformat_plan()
    assert plan.model_dump()["workload"]["workflow"] == DIAMOND.name
    manifest = clean(json.loads(json.dumps({"plan": plan.model_dump(mode="json")})))
    assert Plan.model_validate(manifest["plan"]) == plan
    copied = Plan.model_validate_json(plan.model_dump_json())
    assert copied == plan
    assert copied.workload.graph() == plan.workload.graph()
    dumped = plan.model_dump(mode="json")
    assert dumped["workload_name"] == "wfformat"
    assert len(dumped["workload"]["sha256"]) == 64
