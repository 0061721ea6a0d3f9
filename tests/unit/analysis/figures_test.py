from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.curves import band, run_curve, typical_run
from harness.analysis.figures import Group, group_runs, session_figures
from harness.analysis.readers import read_session
from harness.analysis.series import TOPOLOGY, service_of
from harness.results.conversation import AFTER_START, BASELINE_END, RUN_END, RUN_START
from harness.results.directory import RunDirectory
from harness.results.rows import RowWriter
from harness.results.schema import LedgerRow, PeakRow
from tests.rundirs import BASELINE, MS, PERIOD_NS, START_NS, write_peaks, write_run_directory

MB = 1_000_000
BASE = sum(BASELINE.values())


def group_of(directory: RunDirectory) -> Group:
    (group,) = group_runs([read_session(directory.path)])
    return group


def keep_rows(path: Path, wanted: Callable[[dict[str, str]], bool]) -> None:
    """Leave only some rows in a CSV file."""
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        names = list(rows.fieldnames or [])
        kept = [",".join(row[name] for name in names) for row in rows if wanted(row)]
    path.write_text("\n".join([",".join(names), *kept]) + "\n")


def write_ledger(directory: RunDirectory, run_id: str, usage: dict[str, int]) -> None:
    """Write the ledger of the whole topology at some marks; all of it is anonymous memory."""
    with RowWriter(directory.ledger, LedgerRow) as rows:
        for mark, size in usage.items():
            rows.write(
                LedgerRow(
                    run_id,
                    mark,
                    *("topology", "topology", size, size, 0, 0, 0, 0, None, None, 0, 0, 0, 0),
                    file_bytes=0,
                    t_mono_ns=1,
                )
            )


def test_the_kernels_peak_and_baseline_stand_where_they_were_read(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [30 * MB]})
    write_peaks(directory, {"0001-none-1": 200 * MB}, baseline=120 * MB)
    scopes = {scope.scope: scope for scope in group_of(directory).scopes}
    topology = scopes[TOPOLOGY]
    assert (topology.baseline.median, topology.net_peak.median) == (120 * MB, 80 * MB)
    assert (topology.peak_kinds, topology.view, topology.coverage.low) == (("kernel",), "cgroup", 1)
    assert scopes["redis"].peak_kinds == ("sampled at 20 ms",)
    assert scopes["worker"].containers == 2


def test_every_net_figure_is_less_the_use_at_run_start(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [30 * MB]}, events=False)
    # What grew between the end of the baseline and the start of the run is nobody's net memory.
    usage = {BASELINE_END: 100 * MB, RUN_START: 104 * MB, RUN_END: 134 * MB, AFTER_START: 110 * MB}
    write_ledger(directory, "0001-none-1", usage)
    topology = group_of(directory).topology
    assert topology is not None
    assert topology.baseline.median == 104 * MB
    assert topology.after is not None
    assert topology.after.median == 6 * MB
    parts = topology.parts["usage_bytes"], topology.parts["anon_bytes"]
    assert [part and part.median for part in parts] == [30 * MB, 30 * MB]
    assert topology.net_peak.median == BASE + 30 * MB - 104 * MB
    assert topology.net_mean.median == topology.mean.median - 104 * MB


def test_without_the_cgroup_view_a_topologys_peak_is_that_of_the_sum(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [MB]})
    directory.memory("cgroup").unlink()
    # Two containers that take turns: each goes up by 100 MB, never both at once.
    lines = ["run_id,container,t_mono_ns,cg_usage_bytes"]
    for tick in range(-10, 110):
        at = START_NS + tick * 20 * MS - MS
        for number in (1, 2):
            mine = 10 <= tick < 50 if number == 1 else 55 <= tick < 95
            lines.append(f",worker-{number},{at},{50 * MB + (100 * MB if mine else 0)}")
    directory.memory("inside").write_text("\n".join(lines) + "\n")
    # A peak of the cgroup view has no place beside samples of another.
    write_peaks(directory, {"0001-none-1": 900 * MB}, baseline=1)
    topology = group_of(directory).topology
    assert topology is not None
    assert (topology.view, topology.peak_kinds) == ("inside", ("sampled at 20 ms",))
    assert (topology.baseline.median, topology.net_peak.median) == (100 * MB, 100 * MB)


def test_a_run_that_samples_do_not_cover_has_no_figures_and_one_warning(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [10 * MB, 30 * MB, 20 * MB]})
    stopped = START_NS + PERIOD_NS + 300 * MS
    keep_rows(directory.memory("cgroup"), lambda row: int(row["t_mono_ns"]) < stopped)
    write_peaks(directory, {"0002-none-2": 900 * MB}, baseline=1)
    session = read_session(directory.path)
    assert [line.split(": ", 1)[1] for line in session.problems] == [
        "0002-none-2: no memory figures: samples cover 16 % of the run, less than 90 %",
        "0003-none-3: no memory figures: samples cover 0 % of the run, less than 90 %",
    ]
    (group,) = group_runs([session])
    assert [bool(figures.scopes) for figures in group.figures] == [True, False, False]
    assert group.topology is not None
    assert (group.topology.net_peak.low, group.topology.net_peak.high) == (10 * MB, 10 * MB)
    assert group.makespan is not None, "its makespan is known all the same"


def test_a_run_of_which_one_container_was_not_sampled_is_not_covered(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [10 * MB]})
    gone = START_NS + 500 * MS
    keep_rows(
        directory.memory("cgroup"),
        lambda row: row["container"] != "worker-2" or int(row["t_mono_ns"]) < gone,
    )
    (figures,) = session_figures(read_session(directory.path))
    assert not figures.scopes
    assert "cover 2" in figures.absent


def test_a_killed_run_is_shown_to_its_last_sample_and_counts_nowhere(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [10 * MB, 30 * MB]})
    killed = START_NS + PERIOD_NS + 1200 * MS
    keep_rows(directory.memory("cgroup"), lambda row: int(row["t_mono_ns"]) < killed)
    keep_rows(directory.marks, lambda row: int(row["t_mono_ns"]) < killed)
    text = directory.outcomes.read_text()
    directory.outcomes.write_text(text.replace("none,2,ok,", "none,2,memory,worker-1 was killed"))
    results = directory.results.read_text().splitlines(keepends=True)
    directory.results.write_text("".join(results[:2]))
    group = group_of(directory)
    one, two = group.runs
    assert group.figures == (one,)
    assert two.topology is not None
    assert two.topology.net_peak_bytes == 30 * MB
    assert group.topology is not None
    assert group.topology.net_peak.high == 10 * MB
    memory = group.session.memory
    assert memory is not None
    curve = run_curve(memory, two)
    assert curve.t_s[-1] == pytest.approx(1.2, abs=0.05)
    assert curve.total.max() == BASE + 30 * MB
    assert not group.session.problems


def test_a_killed_runs_end_is_not_looked_for_in_the_next_topology(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [10 * MB, 30 * MB]})
    died, up = START_NS + 1200 * MS, START_NS + PERIOD_NS - 350 * MS

    def sampled(row: dict[str, str]) -> bool:
        # One worker dies first; the next topology is sampled before its first mark.
        t_ns = int(row["t_mono_ns"])
        early = row["container"] == "worker-2" and t_ns > START_NS + 700 * MS
        return t_ns >= up or (t_ns < died and not early)

    keep_rows(directory.memory("cgroup"), sampled)
    keep_rows(directory.marks, lambda row: not START_NS < int(row["t_mono_ns"]) < up)
    text = directory.outcomes.read_text()
    directory.outcomes.write_text(text.replace("none,1,ok,", "none,1,killed,worker-2 is gone"))
    one, two = group_of(directory).runs
    assert one.end_ns is not None
    assert (one.end_ns - START_NS) / 1e9 == pytest.approx(1.2, abs=0.05)
    assert one.topology is not None
    # Before the worker died: with it went more than what came after.
    assert (one.topology.net_peak_bytes, one.topology.containers) == (5 * MB, 3)
    assert two.topology is not None


def test_a_mode_of_which_no_run_went_through_is_drawn_all_the_same(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [10 * MB]})
    directory.outcomes.write_text(directory.outcomes.read_text().replace(",ok,", ",timeout,slow"))
    group = group_of(directory)
    assert (group.figures, group.scopes, group.makespan) == ((), [], None)
    assert typical_run(group).topology is not None
    shown = band(group, net=True)
    assert shown is not None
    assert np.nanmax(shown.median) == 10 * MB


def test_peaks_without_a_value_are_no_peaks(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [10 * MB]})
    with RowWriter(directory.peaks, PeakRow) as rows:
        rows.write(
            PeakRow("0001-none-1", "topology", "topology", None, "max_usage", None, None, 0, 0)
        )
    topology = group_of(directory).topology
    assert topology is not None
    assert (topology.net_peak.median, topology.peak_kinds) == (10 * MB, ("sampled at 20 ms",))


def test_containers_belong_to_services() -> None:
    assert service_of("worker-12") == "worker"
    assert service_of("file-server-1") == "file-server"
    assert service_of("redis") == "redis"
