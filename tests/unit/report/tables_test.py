from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.analysis.figures import group_runs
from harness.analysis.readers import read_session
from harness.report import evidence
from harness.report.tables import as_text, between, outcomes, services, summary
from harness.results.rows import OutcomeRow, RowWriter
from tests.rundirs import write_peaks, write_run_directory

MB = 1_000_000
QUALITY = {
    "bounds_from": "defaults",
    "identity": {
        "readings": 1200,
        "p95_bytes": 200_000,
        "bound_bytes": 1_500_000,
        "largest_bytes": 3_000_000,
        "largest_at": "worker-1 at 3.2 s",
        "agrees": True,
    },
    "inside_against_cgroup": {"readings": 0, "bound_bytes": 1_500_000, "agrees": None},
    "longest_gap_ns": {"cgroup": 25_000_000, "docker": None},
    "baseline": {"verdicts": {"settled": 3, "timed out": 1}},
}
PAPER = Path(__file__).parents[2] / "data" / "paper"


def test_the_summary_states_memory_with_and_without_its_baseline(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [10 * MB, 30 * MB, 20 * MB]})
    write_peaks(directory, {"0003-none-3": 200 * MB}, baseline=110 * MB)
    table = summary(group_runs([read_session(directory.path)]))
    (row,) = table.rows
    said = dict(zip((title.strip() for title in table.header), map(str, row), strict=True))
    assert said["mode"] == "none"
    assert (said["runs"], said["makespan s"]) == ("3", "2.00")
    assert (said["baseline"], said["peak"], said["net peak"]) == ("110 MB", "140 MB", "30.0 MB")
    assert said["peak from"] == "kernel, sampled at 20 ms"
    text = as_text(table)
    assert text.count("\n") >= 4
    assert "Medians" in text


def test_services_are_listed_with_their_number_and_the_topology_last(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [MB], "owned-proxy": [MB]})
    rows = [
        list(map(str, row)) for row in services(group_runs([read_session(directory.path)])).rows
    ]
    assert [row[:2] for row in rows] == [
        ["none", "redis"],
        ["", "worker x 2"],
        ["", "topology x 3"],
        ["owned-proxy", "redis"],
        ["", "worker x 2"],
        ["", "topology x 3"],
    ]


def test_outcomes_tell_what_failed_and_why(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [MB]})
    with RowWriter(directory.outcomes, OutcomeRow) as rows:
        rows.write(OutcomeRow("0002-none-2", "none", 2, "failed", "a worker died"))
    one, two = outcomes(group_runs([read_session(directory.path)])).rows
    assert list(map(str, one)) == ["0001-none-1", "2.00", "1.00 MB", "0 (predicted 0)", "0", "ok"]
    assert list(map(str, two)) == ["0002-none-2", *["-"] * 4, "failed: a worker died"]


def test_the_evidence_is_the_samplers_ledgers_and_manifests(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [MB]})
    (directory.path / "quality.json").write_text(json.dumps(QUALITY))
    session = read_session(directory.path)
    ledger = evidence.ledger(group_runs([session]))
    assert ledger is not None
    first = [str(cell) for cell in ledger.rows[0]]
    assert first[:5] == ["none", "run_start", "redis", "10.0 MB", "90.0 MB"]
    assert first[9] == "-", "what was not read is not zero"
    sampling = evidence.sampling(session)
    assert sampling is not None
    assert list(map(str, sampling.rows[0]))[:5] == ["cgroup", "host", "50 Hz", "49.5 Hz", "1"]
    assert str(sampling.rows[0][-1]) == "psi: not in this kernel"
    agreement = evidence.agreement(session)
    assert agreement is not None
    assert agreement.rows == (
        (
            *(
                "usage = anon + shmem + file + kernel + sock",
                "1200",
                "200 KB",
                "1.50 MB",
                "3.00 MB",
            ),
            *("worker-1 at 3.2 s", "yes"),
        ),
        ("inside against cgroup", "0", "-", "1.50 MB", "-", "-", "nothing to compare"),
    )
    assert "Longest gap: cgroup 25 ms. Baselines: 3 settled, 1 timed out." in agreement.note
    assert evidence.calibration(session) is None
    environment = evidence.environment(session)
    assert environment is not None
    assert ("engine version", "28.0") in environment.rows
    assert ("package dask", "2026.8") in environment.rows
    images = evidence.images(session)
    assert images is not None
    assert images.rows[0][2] == "sha256:aaaa"
    assert evidence.command(session) == "python -m harness bench --executor dask"


def test_psbenchs_directories_have_a_command_too_and_no_evidence() -> None:
    session = read_session(PAPER / "polaris-manual-proxy")
    assert evidence.command(session) == (
        "python -m harness run --executor dask --ps-connector redis --data-management manual-proxy"
        " --stage-task-counts 32 1 --stage-bytes-sizes 100000000 10000000 1000000"
        " --stage-repeat 8 --task-sleep 5 --repeat 3"
    )
    assert evidence.sampling(session) is None
    assert evidence.environment(session) is None
    assert evidence.images(session) is None
    assert evidence.ledger(group_runs([session])) is None


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        ("1 MB", "2 MB", "1 to 2 MB"),
        ("900 KB", "2 MB", "900 KB to 2 MB"),
        ("1.5", "2.5", "1.5 to 2.5"),
        ("1 MB s", "2 MB s", "1 to 2 MB s"),
    ],
)
def test_a_unit_that_both_ends_have_is_said_once(low: str, high: str, said: str) -> None:
    assert between(low, high) == said
