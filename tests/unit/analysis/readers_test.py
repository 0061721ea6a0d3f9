from __future__ import annotations

from pathlib import Path

import pytest

from harness.analysis.figures import session_figures
from harness.analysis.readers import read_session
from harness.core.errors import UsageError
from harness.results.rows import ResultRow, columns
from harness.results.schema import HostRow
from tests.rundirs import BASELINE, LENGTH_NS, START_NS, write_peaks, write_run_directory

PAPER = Path(__file__).parents[2] / "data" / "paper"
BASE = sum(BASELINE.values())

OLD_HEADER = (
    "executor,connector,data_management,stage_task_counts,stage_bytes_sizes,task_sleep,"
    "workflow_start_timestamp,workflow_end_timestamp,workflow_makespan_s\n"
)
MEMORY_HEADER = "unix_timestamp,total_bytes,available_bytes,used_bytes,free_bytes\n"


@pytest.fixture
def psbench(tmp_path: Path) -> Path:
    directory = tmp_path / "old"
    directory.mkdir()
    (directory / "results.csv").write_text(
        OLD_HEADER + "DaskExecutor,None,none,2-1,10-10-5,1.0,100.0,102.0,2.0\n"
    )
    rows = [(99.95, 900), (100.05, 800), (101.0, 300), (101.9, 700), (102.05, 850)]
    (directory / "results-memory.csv").write_text(
        MEMORY_HEADER + "".join(f"{t},1000,{available},5,5\n" for t, available in rows)
    )
    return directory


def test_a_published_directory_says_what_the_paper_says() -> None:
    session = read_session(PAPER / "polaris-default-proxy")
    assert (session.source, session.problems) == ("psbench", ())
    workload = session.workload
    assert workload is not None
    assert workload.payload_bytes == 28_168_000_000
    assert workload.ideal_s == 80
    runs = session_figures(session)
    assert [round(f.run.makespan_s or 0, 1) for f in runs] == [165.5, 166.2, 165.4]
    for figures in runs:
        assert figures.topology is not None
        # What was in use when the run ended, less its baseline, is what the flags predict.
        assert figures.topology.net_peak_bytes > workload.payload_bytes
        assert 54e9 < figures.topology.peak_bytes < 55.5e9
        assert 17e9 < figures.topology.baseline_bytes < 18e9


def test_the_published_peaks_agree_within_a_percent_once_net() -> None:
    peaks = [
        figures.topology.net_peak_bytes
        for figures in session_figures(read_session(PAPER / "polaris-manual-proxy"))
        if figures.topology
    ]
    assert len(peaks) == 3
    assert max(peaks) / min(peaks) < 1.03
    assert peaks == pytest.approx([12.56e9, 12.74e9, 12.45e9], rel=0.001)


def test_the_old_header_and_host_memory_are_read(psbench: Path) -> None:
    session = read_session(psbench)
    assert session.problems == ()
    assert session.workload is not None
    assert (session.workload.repeat, session.workload.connector) == (1, "")
    (figures,) = session_figures(session)
    assert figures.topology is not None
    # In use is total less available, not psutil's own `used`.
    assert figures.topology.baseline_bytes == 100
    assert figures.topology.peak_bytes == 700
    assert figures.topology.leftover_bytes == 50
    assert figures.topology.peak_kind == "sampled"


def test_our_two_files_have_the_headers_of_the_published_ones() -> None:
    published = PAPER / "polaris-manual-proxy"
    header = (published / "results.csv").read_text().splitlines()[0]
    assert header == ",".join(columns(ResultRow))
    memory = (published / "results-memory.csv").read_text().splitlines()[0]
    assert memory == ",".join(columns(HostRow))


def test_results_of_another_name_are_found(psbench: Path) -> None:
    for name in ("results.csv", "results-memory.csv"):
        (psbench / name).rename(psbench / name.replace("results", "mine"))
    assert len(read_session(psbench).runs) == 1


def test_results_without_memory_still_have_makespans(psbench: Path) -> None:
    (psbench / "results-memory.csv").unlink()
    session = read_session(psbench)
    assert session.memory is None
    assert session.runs[0].makespan_s == 2
    (line,) = session.problems
    assert "results-memory.csv" in line


def test_a_run_killed_while_writing_costs_its_last_row_only(psbench: Path) -> None:
    with (psbench / "results.csv").open("a") as file:
        file.write("DaskExecutor,None,none,2-1,10-10-5,1.0,103.0,120.0,1")  # of 17.0
    with (psbench / "results-memory.csv").open("a") as file:
        file.write("102.2,1000,8")
    session = read_session(psbench)
    assert len(session.runs) == 1
    assert [line.split(": ", 1)[1][:17] for line in session.problems] == [
        "row 3: cut short;",
        "row 7: cut short;",
    ]
    assert session_figures(session)[0].topology is not None


def test_rows_that_contradict_themselves_are_left_out(psbench: Path) -> None:
    with (psbench / "results.csv").open("a") as file:
        file.write("DaskExecutor,None,none,2-1,10-10,1.0,103.0,105.0,2.0\n")
        file.write("DaskExecutor,None,none,x,10-10,1.0,103.0,105.0,2.0\n")
    session = read_session(psbench)
    assert len(session.runs) == 1
    (line,) = session.problems
    assert line.endswith("row 3 (and 1 more): stages and sizes do not fit together; left out")


def test_our_directory_is_read_with_its_marks(tmp_path: Path) -> None:
    write_run_directory(tmp_path / "run", {"none": [30_000_000], "owned-proxy": [10_000_000]})
    session = read_session(tmp_path / "run")
    assert (session.source, session.problems) == ("harness", ())
    assert session.modes == ["none", "owned-proxy"]
    first = session.runs[0]
    assert (first.start_ns, first.end_ns) == (START_NS, START_NS + LENGTH_NS)
    figures, other = session_figures(session)
    assert figures.topology is not None
    assert figures.topology.baseline_bytes == BASE
    assert figures.topology.net_peak_bytes == 30_000_000
    assert figures.topology.leftover_bytes == 1_000_000
    assert figures.scopes["worker"].net_peak_bytes == 0
    assert figures.scopes["worker"].containers == 2
    assert figures.topology.net_mean_bytes == pytest.approx(15e6, rel=0.03)
    assert other.topology is not None
    assert other.topology.net_peak_bytes == 10_000_000


def test_the_kernels_peak_is_taken_where_there_is_one(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [30_000_000]})
    write_peaks(directory, {"0001-none-1": 200_000_000}, baseline=120_000_000)
    (figures,) = session_figures(read_session(directory.path))
    assert figures.topology is not None
    assert figures.topology.net_peak_bytes == 80_000_000
    assert (figures.topology.peak_kind, figures.topology.peak_interval_ns) == ("max_usage", 0)
    assert figures.scopes["redis"].peak_kind == "sampled"


def test_a_killed_bench_keeps_its_finished_runs(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [1_000_000, 2_000_000]})
    for path, lines in ((directory.outcomes, 2), (directory.results, 2), (directory.marks, 7)):
        kept = path.read_text().splitlines(keepends=True)[:lines]
        path.write_text("".join(kept))
    session = read_session(directory.path)
    assert [(run.outcome, run.measured) for run in session.runs] == [
        ("ok", True),
        ("interrupted", False),
    ]
    assert [bool(figures.scopes) for figures in session_figures(session)] == [True, True]


def test_warm_ups_are_no_runs(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [1_000_000]})
    text = directory.marks.read_text()
    warm_up = "warm-up-1-of-0001-none-1,run_start,1,1\nwarm-up-1-of-0001-none-1,run_end,2,2\n"
    header, _, rows = text.partition("\n")
    directory.marks.write_text(f"{header}\n{warm_up}{rows}")
    assert [run.run_id for run in read_session(directory.path).runs] == ["0001-none-1"]


def test_without_container_samples_the_hosts_memory_serves(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [1_000_000]})
    directory.memory("cgroup").unlink()
    unix_s = 1_700_000_000 + START_NS / 1e9
    rows = [(unix_s - 0.1, 600), (unix_s + 1, 100), (unix_s + 1.9, 400)]
    directory.host_memory.write_text(
        MEMORY_HEADER + "".join(f"{t},1000,{available},1,1\n" for t, available in rows)
    )
    session = read_session(directory.path)
    assert session.memory is not None
    assert session.memory.view == "host"
    (figures,) = session_figures(session)
    assert figures.topology is not None
    assert figures.topology.net_peak_bytes == 500


def test_a_foreign_file_costs_its_own_figures(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [1_000_000]})
    directory.tasks.write_text("a,b\n1,2\n")
    directory.ledger.write_text("")
    session = read_session(directory.path)
    assert {"tasks", "ledger"} & set(session.tables) == set()
    assert session_figures(session)[0].topology is not None
    assert [line.rpartition("/")[2].partition(":")[0] for line in session.problems] == [
        "tasks.csv",
        "ledger.csv",
    ]


def test_what_is_no_run_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not a directory; name a run directory"):
        read_session(tmp_path / "missing")
    with pytest.raises(UsageError, match=r"has no results\.csv"):
        read_session(tmp_path)
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match=r"row 1: no column executor"):
        read_session(tmp_path)
    (tmp_path / "results.csv").write_text("")
    with pytest.raises(UsageError, match=r"results\.csv: empty"):
        read_session(tmp_path)
