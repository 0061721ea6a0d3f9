"""A function of the user's own: read on the host, run in all modes, in whatever process."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.core.errors import MeasuredFailure, UsageError
from harness.core.user_module import UserModule
from harness.plan import Plan
from harness.results.conversation import MarkWriter
from harness.results.directory import RunDirectory
from harness.results.documents import clean
from harness.results.rows import ObjectsRow, OutcomeRow, ResultRow, read_rows
from harness.results.schema import TaskRow
from harness.workflow.runner import PlanRunner
from harness.workloads.python import Python

ALL_MODES = ("none", "default-proxy", "manual-proxy", "owned-proxy")
SOURCE = """
def make(size):
    return {"numbers": list(range(size))}

def total(table, *, factor=1):
    return factor * sum(table["numbers"])

def nothing(table):
    return None

def fail(table):
    raise ValueError("no such thing")

def main(client):
    table = client.submit(make, 1000).result()
    sums = client.map(total, [table, table])
    last = client.submit(total, client.borrow(table), factor=3).result()
    assert client.value(last) == 3 * sum(range(1000)), last
    assert client.submit(nothing, table).result() is None
    extra = client.proxy({"numbers": [1, 2]})
    small = client.submit(total, extra).result()
    assert client.value(small) == 3
    for each in (table, *sums, last, extra, small):
        client.evict(each)

def forgets(client):
    client.submit(make, 10).result()

def fails(client):
    client.submit(fail, 0)

def lambdas(client):
    client.submit(lambda: 1)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    Path("users_own.py").write_text(SOURCE)
    yield "users_own"
    sys.modules.pop("users_own", None)


def plan_of(word: str, *modes: str, executor: str = "thread") -> Plan:
    options = Python.from_flags({"workflow": word}).model_dump()
    return Plan.model_validate(
        {
            "executor_name": executor,
            "executor": {"max_workers": 2},
            "connector_name": "file",
            "connector": {"directory": "objects"},
            "workload_name": "python",
            "workload": {**options, "modes": modes or ALL_MODES},
            "general": {"baseline_window": 0},
        }
    )


def execute(plan: Plan) -> RunDirectory:
    directory = RunDirectory(Path("run"))
    directory.path.mkdir(exist_ok=True)
    with MarkWriter(directory.marks) as marks:
        PlanRunner(plan, directory, marks).execute()
    return directory


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_one_function_runs_in_all_modes(executor: str, module: str) -> None:
    directory = execute(plan_of(f"{module}:main", executor=executor))
    assert [row.outcome for row in read_rows(directory.outcomes, OutcomeRow)] == ["ok"] * 4
    objects = {row.data_management: row for row in read_rows(directory.objects, ObjectsRow)}
    # A table, three sums of it, one that was put in, and its sum; None is no object.
    kept = objects["default-proxy"]
    assert kept.objects_predicted == kept.objects_at_end == 6
    assert kept.bytes_predicted == kept.bytes_at_end > 1000
    for mode in ALL_MODES[2:]:
        assert objects[mode].objects_left == 0
    assert len(read_rows(directory.tasks, TaskRow)) == 4 * 6
    (counts,) = {row.stage_task_counts for row in read_rows(directory.results, ResultRow)}
    assert counts == "0"


def test_a_forgotten_object_is_a_leak_by_the_modes_rule(module: str) -> None:
    with pytest.raises(MeasuredFailure, match="1 objects at the end"):
        execute(plan_of(f"{module}:forgets", "manual-proxy"))
    # Its owner is gone with the result that nobody kept.
    execute(plan_of(f"{module}:forgets", "owned-proxy"))


def test_a_call_that_fails_fails_the_run_also_if_nobody_asks(module: str) -> None:
    with pytest.raises(MeasuredFailure, match="ValueError: no such thing"):
        execute(plan_of(f"{module}:fails", "owned-proxy"))


def test_only_functions_that_workers_can_find_are_submitted(module: str) -> None:
    with pytest.raises(MeasuredFailure, match="TypeError: submit takes a function at the top"):
        execute(plan_of(f"{module}:lambdas", "none"))


def test_the_plan_holds_the_module_as_a_bundle_reads_it(module: str) -> None:
    plan = plan_of(f"{module}:main")
    text = json.loads(json.dumps({"plan": plan.model_dump(mode="json")}))
    assert Plan.model_validate(clean(text)["plan"]) == plan
    program = plan.workload.program()
    assert program is not None
    assert program[0].load().make(2) == {"numbers": [0, 1]}


def test_a_file_is_named_as_well_as_a_module(module: str) -> None:
    assert Python.from_flags({"workflow": f"{module}.py:main"}).workflow == "users_own:main"


def test_a_module_that_is_installed_needs_no_text() -> None:
    installed = Python.from_flags({"workflow": "json.tool:main"})
    assert (installed.source, installed.sha256) == ((), "")
    assert UserModule("json", ()).load() is json


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("users_own", "is not MODULE:FUNCTION"),
        ("users_own:", "is not MODULE:FUNCTION"),
        ("users_own:nobody", "users_own.py has no function nobody"),
        ("missing.py:main", "missing.py: No such file"),
        ("../x y:main", "is not MODULE:FUNCTION, such as train:main"),
        ("broken.py:main", "broken.py is not Python: "),
    ],
)
@pytest.mark.usefixtures("module")
def test_what_cannot_be_run_is_said_in_one_line(word: str, said: str) -> None:
    Path("broken.py").write_text("def main(:\n")
    with pytest.raises(UsageError) as caught:
        Python.from_flags({"workflow": word})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("--workflow")


def test_a_strangers_plan_is_checked_too() -> None:
    for word in ("os", "a b:c", "x:y.z"):
        with pytest.raises(ValidationError):
            Python(workflow=word)
