"""Whether what went less than well matters, and that terminal, page and summary agree on it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.figures import group_runs
from harness.analysis.grades import Finding, Grade, findings, warning, worst
from harness.analysis.readers import read_session
from harness.report.write import write_report
from tests.rundirs import write_peaks, write_run_directory

MB = 1_000_000
WELL: dict[str, Any] = {
    "bounds_from": "defaults: nothing was calibrated here",
    "identity": {
        "agrees": True,
        "readings": 900,
        "p95_bytes": 1000,
        "bound_bytes": MB,
        "largest_bytes": 2000,
        "largest_at": "",
    },
    "longest_gap_ns": {"cgroup": 30_000_000, "inside": 500_000_000},
    "clocks": {
        "cgroup": {"kept": 0.99, "interval_ns": 20_000_000, "missed": 3, "late_p99_ns": 1_000_000},
        "inside": {"kept": 0.746, "interval_ns": 10**8, "missed": 643, "late_p99_ns": 3_000_000},
    },
    "baseline": {
        "verdicts": {"settled": 3},
        "timed_out": [],
        "bound_bytes": MB,
        "window_ns": 10**8,
        "not_trimmed": [],
    },
    "absent": {},
}


def found(tmp_path: Path, *, peaks: bool = False, **changed: Any) -> dict[str, Finding]:
    """Return the findings of a session with such a quality.json, by the beginning of their text."""
    directory = write_run_directory(tmp_path / "run", {"none": [10 * MB] * 3})
    if peaks:
        write_peaks(directory, {"0001-none-1": 200 * MB}, baseline=110 * MB)
    (directory.path / "quality.json").write_text(json.dumps(WELL | changed))
    all_of_them = findings(read_session(directory.path))
    return {each.what.partition(":")[0].partition(" (")[0]: each for each in all_of_them}


def test_a_view_that_no_figure_is_of_may_miss_what_it_likes(tmp_path: Path) -> None:
    all_of_them = found(tmp_path)
    assert worst(list(all_of_them.values())) is Grade.FINE
    inside = all_of_them["inside view"]
    assert inside.grade is Grade.FINE
    assert "74.6 % of the ticks at 100 ms, 643 missed" in inside.what
    assert "No figure is of this view" in inside.why


@pytest.mark.parametrize(
    ("kept", "gap_ms", "peaks", "grade"),
    [
        (0.95, 500, False, Grade.FINE),
        (0.8, 500, False, Grade.SUSPICIOUS),
        (0.4, 500, False, Grade.DO_NOT_USE),
        (0.99, 3000, False, Grade.DO_NOT_USE),
        # The kernel's own peaks miss nothing.
        (0.4, 500, True, Grade.SUSPICIOUS),
    ],
)
def test_ticks_missed_matter_where_peaks_are_of_samples(
    tmp_path: Path, kept: float, gap_ms: int, peaks: bool, grade: Grade
) -> None:
    clock = WELL["clocks"]["cgroup"] | {"kept": kept}
    all_of_them = found(
        tmp_path,
        peaks=peaks,
        clocks={"cgroup": clock},
        longest_gap_ns={"cgroup": gap_ms * 1_000_000},
    )
    assert all_of_them["cgroup view"].grade is grade


@pytest.mark.parametrize(
    ("pair", "off", "grade"),
    [
        ("inside_against_cgroup", 2 * MB, Grade.SUSPICIOUS),
        ("identity", 11 * MB, Grade.DO_NOT_USE),
        ("docker_against_cgroup", 11 * MB, Grade.FINE),
    ],
)
def test_views_that_disagree(tmp_path: Path, pair: str, off: int, grade: Grade) -> None:
    figures = WELL["identity"] | {"agrees": False, "p95_bytes": off}
    all_of_them = found(tmp_path, **{pair: figures})
    (one,) = [each for each in all_of_them.values() if "NOT WITHIN 1.00 MB" in each.what]
    assert one.grade is grade


@pytest.mark.parametrize(("late", "grade"), [(1, Grade.SUSPICIOUS), (2, Grade.DO_NOT_USE)])
def test_runs_that_began_before_memory_was_flat_are_named(
    tmp_path: Path, late: int, grade: Grade
) -> None:
    names = [f"000{n}-none-{n}" for n in range(1, late + 1)]
    verdicts = {"settled": 3 - late, "timed out": late}
    baseline = WELL["baseline"] | {"verdicts": verdicts, "timed_out": names, "not_trimmed": ["x"]}
    all_of_them = found(tmp_path, baseline=baseline)
    assert all_of_them["baselines"].grade is grade
    assert all_of_them["baselines"].what.endswith(f"not flat before {', '.join(names)}")
    assert all_of_them["could not be trimmed"].grade is Grade.FINE


def test_what_could_not_be_read_is_graded_too(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [10 * MB] * 3})
    session = dataclasses.replace(
        read_session(directory.path),
        problems=("tasks.csv: row 3: too few cells", "run: 0001: no memory figures: too few"),
    )
    assert [each.grade for each in findings(session)] == [Grade.DO_NOT_USE, Grade.SUSPICIOUS]
    assert warning("warning: x.csv: 2 rows left out").startswith("suspicious: x.csv: 2 rows left")


def test_page_and_summary_say_the_same(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [10 * MB] * 3})
    baseline = WELL["baseline"] | {"timed_out": ["0001-none-1"]}
    (directory.path / "quality.json").write_text(json.dumps(WELL | {"baseline": baseline}))
    session = read_session(directory.path)
    write_report(directory.path, [session], group_runs([session]))
    (told,) = json.loads((directory.path / "summary.json").read_text())["sessions"]
    assert told["grade"] == "suspicious"
    assert told["warnings"] == [each.as_dict() for each in findings(session)]
    page = (directory.path / "report.html").read_text()
    assert '<strong class="suspicious">suspicious</strong>: baselines' in page
    assert page.index("Before you use these figures") < page.index("Memory over time</h2>")
    assert '<table id="table-trust"' in page
