"""When a rerun is the same answer, when it is not, and when nobody can say."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.analysis.compare import METRICS, resolution_bytes
from harness.analysis.readers import read_session
from harness.reproduce.text import reproduction_text
from harness.reproduce.verdict import Reproduced, judge
from harness.results.rows import OutcomeRow, ResultRow, columns
from tests.rundirs import write_run_directory

SECOND = 10**9


def session(path: Path, makespans_s: Sequence[float], **machine: object) -> Path:
    """Write a run directory without memory: one mode, a run for each makespan."""
    path.mkdir()
    results, outcomes, marks = [], [], []
    clock = 0
    for number, makespan_s in enumerate(makespans_s, 1):
        run_id = f"{number:04d}-none-{number}"
        row = [
            "ThreadExecutor",
            "None",
            "none",
            "1-2",
            "1000-1000-1000",
            1,
            0.5,
            clock / SECOND,
            clock / SECOND + makespan_s,
            makespan_s,
        ]
        results.append(row)
        outcomes.append([run_id, "none", number, "ok", ""])
        end = clock + round(makespan_s * SECOND)
        marks += [[run_id, "run_start", clock, clock], [run_id, "run_end", end, end]]
        clock = end + SECOND
    for name, header, rows in (
        ("results.csv", columns(ResultRow), results),
        ("outcomes.csv", columns(OutcomeRow), outcomes),
        ("marks.csv", ["run_id", "mark", "t_mono_ns", "t_unix_ns"], marks),
    ):
        with (path / name).open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
    manifest = {
        "machine": {"cpus": 2, "kernel": "6.1"} | machine,
        "plan": {"workload": {"seed": 0}},
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


PUBLISHED = (1.50, 1.51, 1.52, 1.53, 1.54)


def verdicts(tmp_path: Path, again: Sequence[float], threshold: float = 0.05) -> dict[str, str]:
    published = session(tmp_path / "published", PUBLISHED)
    found = judge(published, session(tmp_path / "again", again), threshold)
    return {row.metric.name: row.verdict.value for row in found.rows} | {"": found.verdict.value}


@pytest.mark.parametrize(
    ("again", "word", "verdict"),
    [
        ((1.49, 1.51, 1.52, 1.53, 1.55), "equivalent", "reproduced"),
        # Another value, by less than matters.
        ((1.53, 1.54, 1.55, 1.56, 1.57), "equivalent", "reproduced"),
        ((2.0, 2.1, 2.2, 2.3, 2.4), "worse", "not reproduced"),
        # Better is another answer, too.
        ((1.0, 1.01, 1.02, 1.03, 1.04), "better", "not reproduced"),
        ((1.5, 1.6), "undecided", "undecided"),
        ((1.0, 1.2, 1.5, 1.9, 2.4), "undecided", "undecided"),
    ],
)
def test_makespan_and_its_ratio(
    tmp_path: Path, again: Sequence[float], word: str, verdict: str
) -> None:
    found = verdicts(tmp_path, again)
    assert found["makespan"] == found["makespan_per_ideal"] == word
    # Without samples, memory can be neither.
    assert found["net_peak"] == found["peak_per_payload"] == "not comparable"
    assert found[""] == verdict


def test_the_threshold_is_the_readers_to_choose(tmp_path: Path) -> None:
    assert verdicts(tmp_path, (2.0, 2.1, 2.2, 2.3, 2.4), threshold=1.0)["makespan"] == "equivalent"


def test_every_metric_has_a_row(tmp_path: Path) -> None:
    assert set(verdicts(tmp_path, PUBLISHED)) == {metric.name for metric in METRICS} | {""}


def test_what_differs_besides_is_said_and_times_of_another_machine_do_not_count(
    tmp_path: Path,
) -> None:
    published = session(tmp_path / "published", PUBLISHED, cpu_model="A", cpus=2)
    again = session(tmp_path / "again", [2 * s for s in PUBLISHED], cpu_model="B", cpus=64)
    found = judge(published, again, 0.05)
    assert found.verdict is Reproduced.UNDECIDED
    text = reproduction_text(found, ["compose/dask.yaml"])
    assert "CPU: A when published, B here" in text
    assert "CPUs: 2 when published, 64 here" in text
    assert "compose/dask.yaml: not the file of the published run" in text
    assert text.endswith("Verdict: undecided")
    assert "makespan" not in {row.metric.name for row in found.counted}


MB = 1_000_000
OWNED = [100 * MB, 101 * MB, 99 * MB, 100 * MB, 102 * MB]
NONE = [2 * value for value in OWNED]


@pytest.mark.parametrize(
    ("again", "verdict", "conclusion"),
    [
        ({"none": NONE, "owned-proxy": OWNED}, "reproduced", "same"),
        # Half as much again of everything: other figures that say the same.
        (
            {"none": [v * 3 // 2 for v in NONE], "owned-proxy": [v * 3 // 2 for v in OWNED]},
            "not reproduced",
            "same",
        ),
        ({"none": OWNED, "owned-proxy": NONE}, "not reproduced", "other"),
        ({"none": NONE[:2], "owned-proxy": OWNED[:2]}, "reproduced", "undecided"),
        ({"none": NONE[:1], "owned-proxy": OWNED[:1]}, "undecided", "undecided"),
    ],
)
def test_figures_and_what_they_say_are_two_answers(
    tmp_path: Path, again: dict[str, list[int]], verdict: str, conclusion: str
) -> None:
    published = write_run_directory(
        tmp_path / "published", {"none": NONE, "owned-proxy": OWNED}, events=False
    )
    here = write_run_directory(tmp_path / "here", again, events=False)
    found = judge(published.path, here.path, 0.05)
    assert (found.verdict.value, found.conclusion) == (verdict, conclusion)
    beside = next(c for c in found.conclusions if "beside" in c.what)
    assert beside.what == "net peak of owned-proxy beside none"
    assert beside.published == "-50 %"
    assert reproduction_text(found, []).endswith(f"Verdict: {verdict}; conclusion: {conclusion}")


def test_resolution_follows_from_cpus_and_containers(tmp_path: Path) -> None:
    found = read_session(session(tmp_path / "a", PUBLISHED, cpus=4))
    assert resolution_bytes(found) == 4 * 64 * 4096
