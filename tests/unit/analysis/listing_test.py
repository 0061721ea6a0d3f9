from __future__ import annotations

import json
from pathlib import Path

from harness.analysis.listing import entries
from tests.rundirs import write_run_directory

PAPER = Path(__file__).parents[2] / "data" / "paper"


def test_our_directories_are_listed_with_plan_outcome_and_headline(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "one", {"none": [1, 1]})
    (entry,) = entries(tmp_path)
    assert (entry.name, entry.executor, entry.connector) == ("one", "dask", "redis")
    assert (entry.stages, entry.runs, entry.outcome) == ("2-1", 2, "2 ok")
    assert entry.headline == "none 2.00 s"
    metrics = {"makespan": {"median": 2.0}, "net_peak": {"median": 5_000_000}}
    summary = {"modes": [{"mode": "none", "metrics": metrics}]}
    (directory.path / "summary.json").write_text(json.dumps(summary))
    assert entries(tmp_path)[0].headline == "none 2.00 s 5.00 MB"


def test_psbenchs_directories_are_listed_too() -> None:
    found = {entry.name: entry for entry in entries(PAPER)}
    assert found["polaris-manual-proxy"].stages == "32-1 x 8"
    assert found["polaris-manual-proxy"].outcome == "3 ok"
    assert found["polaris-default-proxy"].headline == "default-proxy 166 s"


def test_nothing_in_a_directory_stops_the_list(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "results.csv").write_bytes(b"workflow_makespan_s\nx\n\xff\n")
    (broken / "manifest.json").write_text("{")
    started = tmp_path / "started"
    started.mkdir()
    (started / "manifest.json").write_text('{"plan": {"executor_name": "dask"}}')
    found = {entry.name: entry for entry in entries(tmp_path)}
    assert set(found) == {"broken", "started"}
    assert found["started"].outcome == "no runs"
    assert found["started"].connector == "?"
