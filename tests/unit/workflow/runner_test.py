"""Plans executed for real, on pools and Dask threads, with the file connector."""

from __future__ import annotations

import csv
import gc
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from proxystore.connectors.file import FileConnector
from proxystore.store.base import Store

from harness.core.errors import MeasuredFailure
from harness.plan import Plan
from harness.results.conversation import MarkWriter, Settled
from harness.results.directory import RunDirectory
from harness.results.events import PhaseRow, PredictionRow, StorageRow, TaskRow
from harness.results.rows import ObjectsRow, OutcomeRow, ResultRow, read_rows
from harness.workflow.runner import PlanRunner
from harness.workflow.tasks import payload

PSBENCH_COLUMNS = (
    "executor,connector,data_management,stage_task_counts,stage_bytes_sizes,stage_repeat,"
    "task_sleep,workflow_start_timestamp,workflow_end_timestamp,workflow_makespan_s"
)
MARKS = (
    *("baseline_start", "baseline_end", "run_start", "run_end"),
    *("after_start", "trimmed", "after_end"),
)
ALL_MODES = ["none", "default-proxy", "manual-proxy", "owned-proxy"]


def make_plan(tmp_path: Path, executor: dict[str, object], **workload: object) -> Plan:
    name = str(executor.pop("name"))
    return Plan.model_validate(
        {
            "executor_name": name,
            "executor": executor,
            "connector_name": "file",
            "connector": {"directory": str(tmp_path / "objects")},
            "workload": {
                "modes": ALL_MODES,
                "stage_task_counts": [2, 1, 3],
                "stage_bytes_sizes": [1000, 2000, 3000, 4000],
                "stage_repeat": 8,
                "task_sleep": 0.0,
                **workload,
            },
            "general": {"repeat": 2},
        }
    )


def execute(plan: Plan, tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    with MarkWriter(directory.marks) as marks:
        PlanRunner(plan, directory, marks).execute()
    return directory


EXECUTORS: list[dict[str, object]] = [
    {"name": "thread", "max_workers": 3},
    {"name": "process", "max_workers": 2},
    {"name": "dask", "workers": 2, "use_threads": True},
    {"name": "dask", "workers": 2, "use_threads": True, "pure": True},
]


@pytest.mark.parametrize("executor", EXECUTORS, ids=lambda e: "-".join(map(str, e.values())))
def test_every_mode_leaves_what_the_flags_predict(
    executor: dict[str, object], tmp_path: Path
) -> None:
    plan = make_plan(tmp_path, dict(executor))
    directory = execute(plan, tmp_path)

    outcomes = read_rows(directory.outcomes, OutcomeRow)
    assert [row.outcome for row in outcomes] == ["ok"] * 8
    assert [row.run_id for row in outcomes] == [run.run_id for run in plan.runs()]
    for row in read_rows(directory.objects, ObjectsRow):
        expected = 8 * (2 + 2 + 1 + 3) if row.data_management == "default-proxy" else 0
        assert row.objects_predicted == row.objects_at_end == expected
        # ProxyStore adds three bytes of framing to each object.
        assert row.bytes_at_end == row.bytes_predicted + 3 * expected
        assert (row.objects_left, row.bytes_left) == (0, 0)
    assert not (tmp_path / "objects").exists()


@pytest.mark.parametrize(
    "executor", [{"name": "process", "max_workers": 2}, {"name": "dask", "workers": 2}]
)
def test_the_client_fetches_nothing_that_only_workers_need(
    executor: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []
    get = Store.get

    def counting_get(self: Store[Any], key: Any, *args: Any, **kwargs: Any) -> Any:
        fetched.append(key)
        return get(self, key, *args, **kwargs)

    monkeypatch.setattr(Store, "get", counting_get)
    execute(make_plan(tmp_path, dict(executor), stage_repeat=1), tmp_path)
    assert fetched == []


def test_results_have_the_references_columns_and_units(tmp_path: Path) -> None:
    directory = execute(make_plan(tmp_path, {"name": "thread"}, stage_repeat=1), tmp_path)
    assert directory.results.read_text().splitlines()[0] == PSBENCH_COLUMNS
    rows = read_rows(directory.results, ResultRow)
    assert len(rows) == 8
    assert {row.executor for row in rows} == {"ThreadPoolExecutor"}
    assert [row.connector for row in rows] == ["None"] * 2 + ["FileConnector"] * 6
    first = rows[0]
    assert (first.stage_task_counts, first.stage_bytes_sizes) == ("2-1-3", "1000-2000-3000-4000")
    for row in rows:
        span = row.workflow_end_timestamp - row.workflow_start_timestamp
        assert span == pytest.approx(row.workflow_makespan_s, abs=0.01)


def test_marks_frame_every_run(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, {"name": "thread"}, stage_repeat=1)
    directory = execute(plan, tmp_path)
    with directory.marks.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run_id"], row["mark"]) for row in rows] == [
        (run.run_id, mark) for run in plan.runs() for mark in MARKS
    ]
    times = [int(row["t_mono_ns"]) for row in rows]
    assert times == sorted(times)


def test_a_failing_task_ends_the_plan_and_keeps_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The fourth payload made on the client is text, which the tasks refuse.
    calls = iter(range(1000))
    monkeypatch.setattr(
        "harness.workflow.workflow.payload",
        lambda *args: "text" if next(calls) == 3 else payload(*args),
    )
    plan = make_plan(tmp_path, {"name": "thread"}, stage_task_counts=[2, 1, 3], stage_repeat=1)
    with pytest.raises(MeasuredFailure, match="0002-none-2 failed: TypeError"):
        execute(plan, tmp_path)
    directory = RunDirectory(tmp_path / "run")
    outcomes = read_rows(directory.outcomes, OutcomeRow)
    assert [row.outcome for row in outcomes] == ["ok", "failed"]
    assert "expects bytes" in outcomes[1].reason
    assert len(read_rows(directory.results, ResultRow)) == 1
    assert not (tmp_path / "objects").exists()


def test_objects_that_a_mode_forbids_are_a_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the reference does: the last stage's results of a repetition stay.
    monkeypatch.setattr("harness.workflow.modes.ManualProxy.consumed", lambda *_: None)
    plan = make_plan(tmp_path, {"name": "thread"}, modes=["manual-proxy"], stage_repeat=1)
    with pytest.raises(MeasuredFailure, match="leaks: 8 objects at the end"):
        execute(plan, tmp_path)
    rows = read_rows(tmp_path / "run" / "outcomes.csv", OutcomeRow)
    assert [row.outcome for row in rows] == ["leak"]


def test_the_same_seed_gives_the_same_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = FileConnector.put
    stored: list[bytes] = []

    def noting_put(self: FileConnector, data: Any) -> Any:
        stored.append(bytes(data))
        return put(self, data)

    monkeypatch.setattr(FileConnector, "put", noting_put)
    seen = []
    for number, seed in enumerate((5, 5, 6)):
        stored.clear()
        parent = tmp_path / str(number)
        parent.mkdir()
        plan = make_plan(parent, {"name": "thread"}, modes=["default-proxy"], seed=seed)
        execute(plan, parent)
        seen.append(sorted(stored))  # tasks of a stage end in any order
    assert seen[0] == seen[1]
    # Every run has an object that workers resolve when they are ready, and it is the same.
    assert set(seen[0]) & set(seen[2]) == {min(seen[0], key=len)}
    assert len({*seen[0]}) == 1 + 8 * (2 + 2 + 1 + 3)


def test_what_starting_up_has_left_is_collected_once_and_then_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(tmp_path, {"name": "thread"}, modes=["none"], stage_repeat=1)
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    did: list[str] = []
    monkeypatch.setattr(gc, "collect", lambda: did.append("collect"))
    monkeypatch.setattr(gc, "freeze", lambda: did.append("freeze"))

    def settle(_run_id: str) -> Settled:
        did.append("baseline")
        return Settled("settled")

    with MarkWriter(directory.marks) as marks:
        PlanRunner(plan, directory, marks, settle=settle).execute()
    assert did[:2] == ["collect", "freeze"]
    assert did.count("freeze") == 1
    # Garbage of what was before is in no run's baseline.
    places = [place for place, what in enumerate(did) if what == "baseline"]
    assert [did[place - 1] for place in places] == ["collect", "collect"]


def test_a_watch_sees_the_executor_while_it_works_and_every_run_after_its_end(
    tmp_path: Path,
) -> None:
    plan = make_plan(tmp_path, {"name": "thread", "max_workers": 2}, modes=["none"], stage_repeat=1)
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    said: list[str] = []

    @contextmanager
    def watch(executor: Executor) -> Iterator[Callable[[], None]]:
        said.append(f"in {executor.submit(str, 1).result()}")
        yield lambda: said.append(directory.marks.read_text().splitlines()[-1].split(",")[1])
        said.append(f"out {executor.submit(str, 2).result()}")

    with MarkWriter(directory.marks) as marks:
        PlanRunner(plan, directory, marks, watch).execute()
    assert said == ["in 1", "after_end", "after_end", "out 2"]


def test_every_task_says_when_it_did_what(tmp_path: Path) -> None:
    plan = make_plan(
        tmp_path, {"name": "process", "max_workers": 2}, task_sleep=0.01, stage_repeat=2
    )
    directory = execute(plan, tmp_path)
    rows = read_rows(directory.tasks, TaskRow)
    assert len(rows) == 8 * 2 * (2 + 1 + 3)
    sizes = {0: 1000, 1: 2 * 2000, 2: 3000}
    for row in rows:
        times = [row.submitted_mono_ns, row.started_mono_ns, row.resolved_mono_ns]
        times += [row.finished_mono_ns, row.received_mono_ns]
        assert None not in times
        assert times == sorted(times, key=int)  # type: ignore[arg-type]
        assert int(row.finished_mono_ns or 0) - int(row.resolved_mono_ns or 0) >= 10_000_000
        assert row.bytes_in == sizes[row.stage]
        assert row.bytes_out == (2000, 3000, 4000)[row.stage]
        assert row.container is None
    assert len({row.worker for row in rows}) == 2


def test_the_tasks_of_a_run_that_failed_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.workflow.workflow.payload", lambda *_: "text")
    plan = make_plan(tmp_path, {"name": "thread"}, modes=["none"], stage_repeat=1)
    with pytest.raises(MeasuredFailure):
        execute(plan, tmp_path)
    rows = read_rows(RunDirectory(tmp_path / "run").tasks, TaskRow)
    assert [(row.stage, row.task, row.received_mono_ns) for row in rows] == [
        (0, 0, None),
        (0, 1, None),
    ]


@pytest.mark.parametrize("executor", EXECUTORS[:2], ids=lambda executor: executor["name"])
def test_the_connector_holds_what_the_flags_predict_at_every_boundary(
    tmp_path: Path, executor: dict[str, object]
) -> None:
    plan = make_plan(
        tmp_path, dict(executor), stage_bytes_sizes=[10**5, 10**6, 10**4, 10**5], stage_repeat=3
    )
    general = plan.general.model_copy(update={"audit_stages": True, "repeat": 1})
    directory = execute(plan.model_copy(update={"general": general}), tmp_path)
    predicted: dict[str, list[PredictionRow]] = {}
    for prediction in read_rows(directory.predictions, PredictionRow):
        predicted.setdefault(prediction.data_management, []).append(prediction)
    storage = [row for row in read_rows(directory.storage, StorageRow) if row.mark == "stage"]
    for mode in ALL_MODES[1:]:
        found = [row for row in storage if mode in row.run_id]
        assert len(found) == len(predicted[mode]) == 3 * 5
        for row, prediction in zip(found, predicted[mode], strict=True):
            assert (row.cycle, row.stage) == (prediction.cycle, prediction.stage)
            assert row.objects == prediction.objects
            assert row.size_bytes == pytest.approx(prediction.size_bytes, rel=0.001)
    assert not [row for row in storage if "-none-" in row.run_id]


def test_warm_ups_are_measured_and_in_no_result(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, {"name": "thread"}, modes=["none", "owned-proxy"], stage_repeat=1)
    general = plan.general.model_copy(update={"warmup": 2})
    directory = execute(plan.model_copy(update={"general": general}), tmp_path)
    assert len(read_rows(directory.results, ResultRow)) == 4
    assert len(read_rows(directory.outcomes, OutcomeRow)) == 4
    assert len(read_rows(directory.objects, ObjectsRow)) == 4
    phases = [row.run_id for row in read_rows(directory.phases, PhaseRow)]
    assert phases == [
        "warm-up-1-of-0001-none-1",
        "warm-up-2-of-0001-none-1",
        "0001-none-1",
        "0002-none-2",
        "warm-up-1-of-0003-owned-proxy-1",
        "warm-up-2-of-0003-owned-proxy-1",
        "0003-owned-proxy-1",
        "0004-owned-proxy-2",
    ]


def test_only_some_places_of_the_plan(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, {"name": "thread"}, stage_repeat=1)
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    for places in (range(2, 4), range(4, 5)):
        with MarkWriter(directory.marks) as marks:
            PlanRunner(plan, directory, marks, places=places).execute()
    outcomes = read_rows(directory.outcomes, OutcomeRow)
    assert [row.run_id for row in outcomes] == [run.run_id for run in plan.runs()[2:5]]
    modes = {row.data_management for row in read_rows(directory.predictions, PredictionRow)}
    assert modes == set(ALL_MODES)


def test_the_baseline_verdict_is_written_down(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, {"name": "thread"}, modes=["none"], stage_repeat=1)
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    verdicts = iter([Settled("settled", 7), Settled("timed out", 9_000_000)])
    with MarkWriter(directory.marks) as marks:
        PlanRunner(plan, directory, marks, settle=lambda _: next(verdicts)).execute()
    rows = read_rows(directory.phases, PhaseRow)
    assert [(row.baseline, row.spread_bytes) for row in rows] == [
        ("settled", 7),
        ("timed out", 9_000_000),
    ]
    assert {row.not_trimmed for row in rows} == {""}
