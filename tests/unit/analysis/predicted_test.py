from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.predicted import Comparison, predictions
from harness.analysis.session import Session
from harness.results.directory import RunDirectory
from harness.results.rows import ObjectsRow, RowWriter, read_table
from harness.results.schema import CompletionRow, PredictionRow, StorageRow
from harness.workflow.runner import write_predictions
from harness.workloads.stages import Stages as Workload

WORKLOAD = Workload(
    modes=("default-proxy", "owned-proxy"),
    stage_task_counts=(2, 1),
    stage_bytes_sizes=(1000, 500, 100),
    task_sleep=0.0,
)


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    found = RunDirectory(tmp_path)
    write_predictions(found.predictions, WORKLOAD)
    return found


def session(directory: RunDirectory) -> Session:
    files: dict[str, tuple[Path, type[Any]]] = {
        "predictions": (directory.predictions, PredictionRow),
        "objects": (directory.objects, ObjectsRow),
        "storage": (directory.storage, StorageRow),
        "completions": (directory.completions, CompletionRow),
    }
    tables = {
        name: [dataclasses.asdict(row) for row in read_table(path, kind).rows]
        for name, (path, kind) in files.items()
        if path.exists()
    }
    return Session(directory.path, "harness", None, (), None, tables=tables)


def test_the_difference_in_percent() -> None:
    assert Comparison(1000, 1010).off_percent == pytest.approx(1.0)
    assert Comparison(0, 0).off_percent == 0.0
    assert Comparison(0, 5).off_percent is None


def test_the_worst_run_and_the_worst_stage_are_shown(directory: RunDirectory) -> None:
    with RowWriter(directory.objects, ObjectsRow) as objects:
        for number, measured in enumerate((3100, 3131, 3100)):
            run_id = f"000{number}-default-proxy-{number}"
            objects.write(ObjectsRow(run_id, "default-proxy", 5, 3100, 5, measured, 0, 0))
    with RowWriter(directory.storage, StorageRow) as storage:
        for stage, measured in ((-1, 2000), (0, 1020), (1, 100), (2, 0)):
            for run_id in ("warm-up-1-of-0003-owned-proxy-1", "0003-owned-proxy-1"):
                row = StorageRow(run_id, "stage", 0, stage, 1, 1, measured, None, None)
                storage.write(row)
        storage.write(StorageRow("0003-owned-proxy-1", "run_end", None, None, 1, 1, 7, None, None))
    default, owned = predictions(session(directory))
    assert default.at_end == Comparison(3100, 3131, 5)
    assert (default.fullest, default.audits) == (None, 0)
    assert (default.peak_bytes, default.ideal_bytes) == (3100, 2000)
    assert owned.at_end is None
    assert owned.audits == 8
    assert owned.fullest == Comparison(2000, 2000, 1)
    assert owned.worst == Comparison(1000, 1020, 1)
    assert owned.peak_bytes == 3000
    assert (default.objects_at_end, default.objects_left) == (5, 0)
    assert default.at_end.off_percent == 1.0
    assert owned.worst.off_percent == 2.0


def test_payloads_of_no_bytes_have_their_frames() -> None:
    assert Comparison(0, 6, objects=2).off_percent == 0.0
    assert Comparison(0, 600, objects=2).off_percent is None


def test_a_completion_may_hold_what_was_under_way(directory: RunDirectory) -> None:
    with RowWriter(directory.completions, CompletionRow) as completions:
        for task, measured in enumerate((100, 120, 150, 153)):
            row = CompletionRow("0002-owned-proxy-1", 0, 0, task, 1, 1, measured, 1, 100, 2, 150)
            completions.write(row)
    default, owned = predictions(session(directory))
    assert (default.completion, default.completions) == (None, 0)
    assert owned.completions == 4
    assert owned.completion is not None
    assert (owned.completion.predicted_bytes, owned.completion.measured_bytes) == (150, 153)
    assert owned.completion.off_percent == 2.0


def test_no_predictions_no_comparison(tmp_path: Path) -> None:
    assert predictions(session(RunDirectory(tmp_path))) == []
