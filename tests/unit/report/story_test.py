"""The first sentence of a report."""

from __future__ import annotations

from pathlib import Path

from harness.analysis.figures import Group, group_runs
from harness.analysis.readers import read_session
from harness.report.story import circumstances, story
from tests.rundirs import write_run_directory

MB = 1_000_000
PAPER = Path(__file__).parents[2] / "data" / "paper"


def groups(place: Path, peaks: dict[str, list[int]]) -> list[Group]:
    directory = write_run_directory(place, peaks, events=False)
    return group_runs([read_session(directory.path)])


def around(mb: int, runs: int = 5) -> list[int]:
    return [mb * MB + step * MB // 10 for step in range(runs)]


def test_who_needs_how_much_more_where_and_how_sure(tmp_path: Path) -> None:
    found = groups(
        tmp_path / "run",
        {
            "none": around(300),
            "default-proxy": around(124),
            "manual-proxy": around(100),
            "owned-proxy": around(101),
        },
    )
    assert story(found) == (
        "At its peak manual-proxy and owned-proxy need 100 MB above the baseline, default-proxy"
        " 124 MB (+24 %), none 300 MB (3.0 times as much). In none, the redis holds 300 MB of it."
        " Five runs of each."
    )


def test_what_is_not_decided_says_what_it_would_take(tmp_path: Path) -> None:
    found = groups(tmp_path / "run", {"none": around(200, 2), "owned-proxy": around(100, 2)})
    assert story(found) == (
        "At its peak owned-proxy needs 100 MB above the baseline, none 200 MB (not decided)."
        " In none, the redis holds 200 MB of it. Two runs of each: it would take 1 more run of"
        " each."
    )


def test_differences_below_the_resolution_are_none(tmp_path: Path) -> None:
    found = groups(tmp_path / "run", {"none": [50_000] * 5, "owned-proxy": [90_000] * 5})
    assert story(found) == (
        "No mode needs more than 1.57 MB above its baseline: that is less than can be told apart"
        " here."
    )


def test_one_mode_of_the_host_alone() -> None:
    found = group_runs([read_session(PAPER / "polaris-default-proxy")])
    assert story(found) == (
        "At its peak default-proxy needs 37.6 GB above the baseline. Three runs."
    )


def test_where_and_when_it_was_run(tmp_path: Path) -> None:
    (group,) = groups(tmp_path / "run", {"none": around(100)})
    (line,) = circumstances([group.session])
    assert line == "2023-11-14, 18 s, Linux 6.1, Docker 28.0"
