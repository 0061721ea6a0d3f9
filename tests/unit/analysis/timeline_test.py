from __future__ import annotations

from pathlib import Path

import pytest

from harness.analysis.readers import read_session
from harness.analysis.timeline import Boundary, boundaries, steps, task_bars
from tests.rundirs import write_run_directory


def test_tasks_boundaries_and_predictions_are_on_the_runs_axis(tmp_path: Path) -> None:
    write_run_directory(tmp_path / "run", {"none": [1], "owned-proxy": [1]})
    session = read_session(tmp_path / "run")
    none, owned = session.runs
    bars = task_bars(session, owned)
    assert [(bar.stage, bar.task, bar.worker) for bar in bars] == [
        (0, 0, "worker-1"),
        (0, 1, "worker-2"),
        (1, 0, "worker-1"),
    ]
    assert bars[0].submitted_s == pytest.approx(0.1)
    assert bars[0].received_s == pytest.approx(0.9)
    ends = boundaries(bars)
    assert ends == [Boundary(0, -1, 0.1), Boundary(0, 0, 0.92), Boundary(0, 1, 1.8)]
    must = steps(session, owned, ends)
    assert [round(step.t_s, 2) for step in must] == [0.1, 0.92, 1.8, 1.8]
    assert [step.held_bytes for step in must] == [2_000_000, 1_000_000, 100_000, 0]
    assert [step.before_bytes for step in must] == [4_000_000, 2_000_000, 200_000, 0]
    assert [step.held_bytes for step in steps(session, none, ends)] == [0, 0, 0, 0]


def test_without_these_files_there_are_none(tmp_path: Path) -> None:
    write_run_directory(tmp_path / "run", {"none": [1]}, events=False)
    session = read_session(tmp_path / "run")
    assert task_bars(session, session.runs[0]) == []
    assert boundaries([]) == []
    assert steps(session, session.runs[0], []) == []
