"""The page's first picture, and runs that did not go through."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.analysis.failures import failures
from harness.analysis.figures import Group, group_runs
from harness.analysis.readers import read_session
from harness.report import failed, first_screen
from harness.report.palette import mode_looks
from tests.rundirs import START_NS, UNIX_OFFSET_NS, write_run_directory

MB = 1_000_000
PAPER = Path(__file__).parents[2] / "data" / "paper"


@pytest.fixture
def groups(tmp_path: Path) -> list[Group]:
    peaks = {"none": [30 * MB, 40 * MB, 34 * MB], "owned-proxy": [10 * MB]}
    return group_runs([read_session(write_run_directory(tmp_path / "run", peaks).path)])


def test_the_mode_that_needs_least_is_on_top_of_both_charts(groups: list[Group]) -> None:
    chart = first_screen.ranked_chart(groups)
    assert chart is not None
    assert chart["layout"]["yaxis"]["categoryarray"] == ["owned-proxy", "none"]
    bar, whisker, sizes = chart["data"]
    assert (bar["name"], bar["x"]) == ("redis", [10 * MB, 34 * MB])
    assert whisker["error_x"]["arrayminus"] == [0, 4 * MB]
    assert (sizes["text"], sizes["x"]) == (["  10.0 MB", "  34.0 MB"], [10 * MB, 40 * MB])
    looks = mode_looks([(group.label, group.mode) for group in groups])
    beside = first_screen.makespan_chart(groups, looks)
    assert beside is not None
    assert beside["layout"]["yaxis"] == chart["layout"]["yaxis"]
    assert beside["data"][1]["x"] == [2.0, 2.0, 2.0]
    assert beside["layout"]["shapes"][0]["x0"] == 1.0


def test_the_legend_has_what_the_bars_have(groups: list[Group]) -> None:
    services, kinds = first_screen.legend(groups)
    assert [key.label for key in services] == ["redis"]
    assert kinds == []  # no reading told the kinds


def test_of_the_host_there_is_one_bar() -> None:
    chart = first_screen.ranked_chart(group_runs([read_session(PAPER / "polaris-default-proxy")]))
    assert chart is not None
    assert chart["data"][0]["name"] == "host"


def test_without_a_run_that_went_through_there_is_no_first_picture(tmp_path: Path) -> None:
    (group,) = broken(tmp_path / "run")
    assert first_screen.ranked_chart([group]) is None
    assert first_screen.makespan_chart([group], {}) is None


def broken(path: Path) -> list[Group]:
    """Return a run whose worker-2 was killed after 1.5 seconds, and 3 lines of its log."""
    directory = write_run_directory(path, {"none": [30 * MB]}, events=False)
    directory.results.write_text(directory.results.read_text().splitlines()[0] + "\n")
    directory.outcomes.write_text(
        "run_id,data_management,repetition,outcome,reason,service\n"
        "0001-none-1,none,1,memory,worker-2 was killed for lack of memory,worker-2\n"
    )
    end = START_NS + 1_500_000_000
    marks = [m for m in directory.marks.read_text().splitlines() if ",run_end," not in m]
    directory.marks.write_text("\n".join(m for m in marks if ",after_end," not in m) + "\n")
    memory = directory.memory("cgroup")
    head, *rows = memory.read_text().splitlines()
    kept = [row for row in rows if int(row.split(",")[2]) <= end]
    memory.write_text("\n".join([head, *kept]) + "\n")
    manifest = json.loads(directory.manifest.read_text())
    manifest["plan"]["topology"]["worker_memory_limit"] = 60 * MB
    manifest["topologies"] = [{"project": "wmh1", "runs": [1, 1]}]
    directory.manifest.write_text(json.dumps(manifest))
    (directory.path / "logs").mkdir()
    at = (START_NS + UNIX_OFFSET_NS) // 1_000_000_000
    stamp = {0: "2023-11-14T22:21:41", 9: "2023-11-14T23:21:41"}
    assert at == 1_700_000_500
    (directory.path / "logs" / "worker-2.log").write_text(
        f"{stamp[0]}.000000001Z first \x1b[2Jline\n\n{stamp[0]}Z last\n"
        f"{stamp[9]}.5Z of another run\n"
    )
    return group_runs([read_session(directory.path)])


def test_a_run_that_ran_out_of_memory_is_drawn_to_its_end(tmp_path: Path) -> None:
    (failure,) = failures(broken(tmp_path / "run"))
    assert failure.service == "worker-2"
    assert failure.end_s == pytest.approx(1.5, abs=0.03)
    assert set(failure.memory) == {"redis-1", "worker-1", "worker-2"}
    assert failure.log == ("first  [2Jline", "last")
    chart = failed.failure_chart(failure)
    assert chart is not None
    names = [trace["name"] for trace in chart["data"]]
    assert names == ["redis-1", "worker-1", "<b>worker-2</b>", "limit of each worker, 60.0 MB"]
    assert chart["data"][-1]["y"] == [60 * MB, 60 * MB]
    assert failed.said(failure) == (
        "0001-none-1 ended: out of memory after 1.5 s. The reason: worker-2 was killed for lack of"
        " memory. It used 50.0 MB of the 60.0 MB that it may use."
    )


def test_a_log_that_is_not_there_is_no_log(tmp_path: Path) -> None:
    (group,) = broken(tmp_path / "run")
    (group.session.path / "logs" / "worker-2.log").unlink()
    (failure,) = failures([group])
    assert failure.log == ()
