"""Graphs, run with threads in all modes: each object lives from its producer to its last reader."""

from __future__ import annotations

from graphlib import CycleError
from pathlib import Path

import pytest

from harness.connectors import Held
from harness.core.errors import MeasuredFailure
from harness.plan import Plan
from harness.plan.graph import Graph, Start, Task, levels_of
from harness.plan.prediction import START, boundaries
from harness.results.conversation import MarkWriter
from harness.results.directory import RunDirectory
from harness.results.rows import ObjectsRow, OutcomeRow, ResultRow, read_rows
from harness.results.schema import CompletionRow, PredictionRow, StorageRow, TaskRow
from harness.workflow.modes import DataManager
from harness.workflow.runner import PlanRunner
from tests.workflows import wfformat_plan

FRAME = 3
"""Bytes that ProxyStore puts before each object."""
# Start a, b; split; left, right; late and join; report. Sizes 100, 50; 60; 10, 0; 7, 5; 0.
NEEDED = {START: (2, 150), 0: (1, 60), 1: (2, 10), 2: (1, 5), 3: (1, 0), 4: (0, 0)}
PEAK = {START: (2, 150), 0: (3, 210), 1: (3, 70), 2: (4, 22), 3: (2, 5), 4: (1, 0)}
KEPT = {START: (2, 150), 0: (3, 210), 1: (5, 220), 2: (7, 232), 3: (8, 232), 4: (8, 232)}


def execute(plan: Plan, path: Path) -> RunDirectory:
    directory = RunDirectory(path)
    directory.path.mkdir(exist_ok=True)
    with MarkWriter(directory.marks) as marks:
        PlanRunner(plan, directory, marks).execute()
    return directory


def audited(plan: Plan) -> Plan:
    general = plan.general.model_copy(update={"audit_stages": True})
    return plan.model_copy(update={"general": general})


def test_what_must_be_alive_at_each_level() -> None:
    workload = wfformat_plan(with_barriers=True).workload
    for mode in ("manual-proxy", "owned-proxy"):
        found = {b.stage: b for b in boundaries(workload, mode)}
        assert {stage: (b.held.objects, b.held.size_bytes) for stage, b in found.items()} == NEEDED
        assert {stage: (b.peak.objects, b.peak.size_bytes) for stage, b in found.items()} == PEAK
    found = {b.stage: b for b in boundaries(workload, "default-proxy")}
    assert {stage: (b.held.objects, b.held.size_bytes) for stage, b in found.items()} == KEPT
    for boundary in boundaries(workload, "none"):
        assert (boundary.held, boundary.peak) == (Held(0, 0), Held(0, 0))
        assert boundary.ideal_bytes == NEEDED[boundary.stage][1]


def test_without_barriers_only_start_and_end_are_boundaries() -> None:
    workload = wfformat_plan().workload
    manual = list(boundaries(workload, "manual-proxy"))
    assert [(b.stage, b.held, b.ideal_bytes) for b in manual] == [
        (START, Held(2, 150), 150),
        (4, Held(0, 0), 0),
    ]
    assert manual[1].peak == Held(3, 210)
    kept = list(boundaries(workload, "default-proxy"))
    assert (kept[1].held, kept[1].peak) == (Held(8, 232), Held(8, 232))


def test_the_storage_holds_what_is_predicted_at_every_level(tmp_path: Path) -> None:
    plan = audited(wfformat_plan(with_barriers=True, scale_time=0.0))
    directory = execute(plan, tmp_path / "run")
    predicted = {
        (row.data_management, row.stage): (row.objects, row.size_bytes)
        for row in read_rows(directory.predictions, PredictionRow)
    }
    asked = [row for row in read_rows(directory.storage, StorageRow) if row.mark == "stage"]
    assert len(asked) == 3 * 6
    for row in asked:
        assert row.stage is not None
        mode = row.run_id.split("-", 1)[1].rpartition("-")[0]
        objects, size = predicted[mode, row.stage]
        assert (row.objects, row.size_bytes - FRAME * row.objects) == (objects, size), row
    assert not directory.completions.exists()
    assert [row.objects_left for row in read_rows(directory.objects, ObjectsRow)] == [0] * 4


def test_the_storage_holds_what_the_order_predicts_at_every_completion(tmp_path: Path) -> None:
    plan = audited(wfformat_plan(scale_time=0.05))
    directory = execute(plan, tmp_path / "run")
    rows = read_rows(directory.completions, CompletionRow)
    assert len(rows) == 3 * 5
    for row in rows:
        assert row.least_objects <= row.objects <= row.most_objects
        assert row.least_bytes <= row.size_bytes <= row.most_bytes
    manual = [row for row in rows if row.run_id == "0003-manual-proxy-1"]
    # The equal tasks take 50 and 100 ms: when the first is done, the other has stored nothing.
    assert [(row.stage, row.task, row.least_bytes, row.most_bytes) for row in manual] == [
        (0, 0, 60 + FRAME, 60 + FRAME),
        (1, 0, 70 + 2 * FRAME, 70 + 2 * FRAME),
        (1, 1, 10 + 2 * FRAME, 10 + 2 * FRAME),
        (2, 0, 5 + FRAME, 5 + FRAME),
        (3, 0, FRAME, FRAME),
    ]
    assert [row.objects_left for row in read_rows(directory.objects, ObjectsRow)] == [0] * 4


def test_no_task_starts_before_what_it_waits_for(tmp_path: Path) -> None:
    directory = execute(wfformat_plan(scale_time=0.02), tmp_path / "run")
    tasks = read_rows(directory.tasks, TaskRow)
    assert [(row.stage, row.task, row.bytes_in, row.bytes_out) for row in tasks[:5]] == [
        (0, 0, 150, 60),
        (1, 0, 60, 10),
        (1, 1, 60, 0),
        (2, 0, 17, 5),
        (3, 0, 5, 0),
    ]
    for before, after in ((0, 1), (0, 2), (1, 3), (2, 3), (3, 4)):
        first, second = tasks[before].finished_mono_ns, tasks[after].started_mono_ns
        assert first is not None
        assert second is not None
        assert first < second


@pytest.mark.parametrize(("barriers", "least_s"), [(True, 2.75), (False, 2.75)])
def test_results_say_what_the_graph_was(barriers: bool, least_s: float, tmp_path: Path) -> None:
    plan = wfformat_plan(with_barriers=barriers, scale_time=0.1, modes=["none"])
    (row,) = read_rows(execute(plan, tmp_path / "run").results, ResultRow)
    assert row.stage_task_counts == "1-2-1-1"
    assert row.stage_bytes_sizes == "total:157-60-10-5-0"
    assert row.stage_repeat == 1
    assert row.task_sleep * 4 == pytest.approx(least_s / 10)
    assert row.workflow_makespan_s > least_s / 10


def test_a_late_branch_need_not_wait_without_barriers() -> None:
    start = (Start("s", 1),)
    graph = Graph(
        start,
        (
            (Task("long", (0,), 1, 5.0), Task("short", (0,), 1, 1.0)),
            (Task("x", (1,), 1, 1.0), Task("y", (2,), 1, 5.0)),
        ),
    )
    assert graph.least_s(barriers=True) == 10.0
    assert graph.least_s(barriers=False) == 6.0
    assert graph.schedule(None).length_s == 6.0
    assert graph.schedule(1).length_s == 12.0
    assert graph.schedule(1, overhead_s=0.5).length_s == 14.0
    assert graph.schedule(2).most == Held(4, 4)


def test_levels_follow_what_is_waited_for() -> None:
    needs = {"d": ["b", "c"], "a": [], "b": ["a"], "c": ["a", "b"], "e": []}
    assert levels_of(needs) == [["a", "e"], ["b"], ["c"], ["d"]]
    with pytest.raises(CycleError) as found:
        levels_of({"x": ["y"], "y": ["x"], "z": []})
    assert found.value.args[1] in (["x", "y", "x"], ["y", "x", "y"])
    with pytest.raises(CycleError) as found:
        levels_of({"z": ["z"]})
    assert found.value.args[1] == ["z", "z"]


def test_a_run_without_barriers_ends_when_its_time_is_up(tmp_path: Path) -> None:
    plan = wfformat_plan(modes=["owned-proxy"])
    general = plan.general.model_copy(update={"run_timeout": 0.3})
    with pytest.raises(MeasuredFailure, match=r"longer than 0\.3 s"):
        execute(plan.model_copy(update={"general": general}), tmp_path / "run")
    (row,) = read_rows(RunDirectory(tmp_path / "run").outcomes, OutcomeRow)
    assert row.outcome == "timeout"


def test_a_task_that_fails_ends_a_run_without_barriers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_inputs: bytes, label: str, **_options: object) -> None:
        raise RuntimeError(f"no {label}")

    monkeypatch.setattr(DataManager, "task", staticmethod(failing))
    with pytest.raises(MeasuredFailure, match="RuntimeError: no 0/0/split"):
        execute(wfformat_plan(modes=["none"]), tmp_path / "run")
    (task,) = read_rows(RunDirectory(tmp_path / "run").tasks, TaskRow)
    assert (task.stage, task.received_mono_ns) == (0, None)
