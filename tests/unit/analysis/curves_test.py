from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.analysis.curves import band, run_curve, thin, thin_together, typical_run
from harness.analysis.figures import Group, group_runs, reference
from harness.analysis.readers import read_session
from tests.rundirs import BASELINE, write_run_directory

MB = 1_000_000
BASE = sum(BASELINE.values())


def groups(path: Path, peaks: dict[str, list[int]]) -> list[Group]:
    return group_runs([read_session(write_run_directory(path, peaks).path)])


def test_runs_are_aligned_at_their_start(tmp_path: Path) -> None:
    (group,) = groups(tmp_path / "run", {"none": [10 * MB, 30 * MB, 20 * MB]})
    net, absolute = band(group, net=True), band(group, net=False)
    assert net is not None
    assert absolute is not None
    before = net.t_s < -0.02
    assert before.any()
    assert (net.median[before] == 0).all()
    assert (absolute.median[before] == BASE).all()
    assert np.nanmax(net.high) == 30 * MB
    assert np.nanmax(net.median) == 20 * MB
    assert net.t_s[int(np.nanargmax(net.high))] == pytest.approx(1.0, abs=0.03)
    assert net.t_s[-1] == pytest.approx(2.0, abs=0.03), "nothing after the end"


def test_the_line_is_a_run_that_there_was(tmp_path: Path) -> None:
    # Of runs of other lengths a mean would jump where the shorter ends, and peak where none did.
    makespans = {"none": [2.0, 2.0, 2.0]}
    peaks = {"none": [10 * MB, 40 * MB, 20 * MB]}
    directory = write_run_directory(tmp_path / "r", peaks, makespans=makespans)
    (group,) = group_runs([read_session(directory.path)])
    found, memory = band(group, net=True), group.session.memory
    assert found is not None
    assert memory is not None
    third = group.figures[2]
    assert typical_run(group) is third
    curve = run_curve(memory, third)
    net = dict(zip(curve.t_s.round(3).tolist(), (curve.total - BASE).tolist(), strict=True))
    drawn = dict(zip(found.t_s.round(3).tolist(), found.median.tolist(), strict=True))
    shared = [t for t in drawn if t in net and not np.isnan(drawn[t])]
    assert len(shared) > 50
    assert {t: drawn[t] for t in shared} == {t: net[t] for t in shared}


def test_a_service_alone_has_a_band_too(tmp_path: Path) -> None:
    (group,) = groups(tmp_path / "run", {"none": [10 * MB]})
    worker = band(group, net=True, scope="worker")
    assert worker is not None
    assert (worker.median == 0).all()


def test_a_runs_curve_goes_on_after_its_end(tmp_path: Path) -> None:
    (group,) = groups(tmp_path / "run", {"none": [10 * MB]})
    memory = group.session.memory
    assert memory is not None
    curve = run_curve(memory, group.figures[0])
    assert set(curve.services) == {"redis", "worker"}
    assert curve.t_s[-1] > 2.2
    assert curve.total.max() == BASE + 10 * MB


def test_of_equal_peaks_the_typical_run_has_the_median_makespan(tmp_path: Path) -> None:
    makespans = {"none": [3.0, 1.0, 2.0]}
    directory = write_run_directory(tmp_path / "r", {"none": [1, 1, 1]}, makespans=makespans)
    (group,) = group_runs([read_session(directory.path)])
    assert typical_run(group).run.makespan_s == 2


def test_groups_are_modes_and_named_after_sessions_where_they_share_one(tmp_path: Path) -> None:
    sessions = []
    for name, modes in (("a", ["owned-proxy", "none"]), ("b", ["none"])):
        directory = write_run_directory(tmp_path / name, {mode: [MB] for mode in modes})
        sessions.append(read_session(directory.path))
    found = group_runs(sessions)
    assert [group.label for group in found] == ["owned-proxy", "none (a)", "none (b)"]
    first = reference(found)
    assert first is not None
    assert first.label == "none (a)"
    topology = found[0].topology
    assert topology is not None
    assert (topology.net_peak.median, topology.containers) == (MB, 3)


@pytest.mark.parametrize("seed", range(8))
def test_the_highest_and_lowest_value_are_kept_however_short(seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = rng.normal(100, 1, 100_000)
    peak, trough = rng.choice(len(levels), 2, replace=False)
    levels[peak], levels[trough] = 1000, -1000
    kept = thin(levels, 500)
    assert len(kept) <= 510
    assert {int(peak), int(trough)} <= set(kept.tolist())


def test_every_stretch_keeps_its_own_peak() -> None:
    levels = np.zeros(100_000)
    peaks = np.arange(500, 100_000, 1000)
    levels[peaks] = np.arange(1, len(peaks) + 1)
    assert set(peaks.tolist()) <= set(thin(levels, 400).tolist())


def test_the_ends_are_kept_and_the_order() -> None:
    kept = thin(np.sin(np.arange(50_000) / 100), 200)
    assert (kept[0], kept[-1]) == (0, 49_999)
    assert (np.diff(kept) > 0).all()


def test_few_values_stay_as_they_are() -> None:
    assert thin(np.asarray([3.0, 1.0, 2.0]), 100).tolist() == [0, 1, 2]
    assert len(thin(np.asarray([np.nan, np.nan]), 100)) == 0


def test_a_gap_stays_a_gap() -> None:
    levels = np.ones(10_000)
    levels[4000:6000] = np.nan
    drawn = levels[thin(levels, 100)]
    assert np.isnan(drawn).sum() == 1
    assert not np.isnan(drawn[[0, -1]]).any()


def test_a_stack_keeps_the_peaks_of_each_of_its_series() -> None:
    first, second = np.zeros(50_000), np.zeros(50_000)
    first[12_345], second[34_567] = 9, 9
    kept = set(thin_together([first, second], 400).tolist())
    assert {12_345, 34_567} <= kept
