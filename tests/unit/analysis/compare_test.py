from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.analysis.compare import METRICS, SessionComparison, compare_sessions
from harness.analysis.identity import Severity, differences
from harness.analysis.readers import read_session
from harness.analysis.verdicts import Rules, Verdict
from harness.core.errors import UsageError
from harness.results.rows import OutcomeRow, RowWriter
from tests.rundirs import MANIFEST, write_run_directory

MB = 1_000_000
STEADY = [100 * MB, 101 * MB, 99 * MB, 100 * MB, 102 * MB]


def verdicts(found: SessionComparison) -> dict[tuple[str, str], Verdict]:
    return {
        (row.mode, row.metric.name): row.comparison.verdict for row in found.rows if row.comparison
    }


def test_two_sessions_of_one_plan_are_indistinguishable(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run_directory(tmp_path / name, {"none": STEADY, "owned-proxy": STEADY})
    found = compare_sessions(read_session(tmp_path / "a"), read_session(tmp_path / "b"))
    assert set(verdicts(found).values()) == {Verdict.INDISTINGUISHABLE}
    assert len(found.rows) == 2 * 5
    assert not found.worse
    assert found.differences == ()


def test_a_session_that_needs_more_is_worse(tmp_path: Path) -> None:
    write_run_directory(tmp_path / "a", {"none": STEADY})
    write_run_directory(tmp_path / "b", {"none": [value + 20 * MB for value in STEADY]})
    found = compare_sessions(read_session(tmp_path / "a"), read_session(tmp_path / "b"))
    said = verdicts(found)
    assert said["none", "net_peak"] is Verdict.WORSE
    assert said["none", "net_mean"] is Verdict.WORSE
    assert said["none", "makespan"] is Verdict.INDISTINGUISHABLE
    assert found.worse
    lenient = compare_sessions(found.a, found.b, rules=Rules(threshold=0.5))
    assert not lenient.worse


def test_modes_of_one_session_are_compared_in_pairs_if_they_took_turns(tmp_path: Path) -> None:
    six = [*STEADY, 98 * MB]
    peaks = {"owned-proxy": six, "none": [2 * value for value in six]}
    for name, turns in (("given", False), ("turns", True)):
        write_run_directory(tmp_path / name, peaks, interleaved=turns)
        session = read_session(tmp_path / name)
        found = compare_sessions(session, session, modes=[("owned-proxy", "none")])
        row = next(row for row in found.rows if row.metric.name == "net_peak")
        assert row.comparison is not None
        assert row.comparison.paired is turns
        assert row.comparison.verdict is Verdict.WORSE


def test_sessions_without_a_common_mode_cannot_be_compared(tmp_path: Path) -> None:
    write_run_directory(tmp_path / "a", {"none": STEADY})
    write_run_directory(tmp_path / "b", {"owned-proxy": STEADY})
    a, b = read_session(tmp_path / "a"), read_session(tmp_path / "b")
    with pytest.raises(UsageError, match=r"no mode in common: .*--modes A B"):
        compare_sessions(a, b)
    with pytest.raises(UsageError, match="no run of manual-proxy went through"):
        compare_sessions(a, b, modes=[("none", "manual-proxy")])


def test_a_run_that_fails_now_is_a_regression(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run_directory(tmp_path / name, {"none": STEADY})
    with RowWriter(tmp_path / "b" / "outcomes.csv", OutcomeRow) as rows:
        rows.write(OutcomeRow("0006-none-6", "none", 6, "failed", "a worker died"))
    found = compare_sessions(read_session(tmp_path / "a"), read_session(tmp_path / "b"))
    assert found.regressions == ("none: 0006-none-6 ended as failed (a worker died)",)
    assert found.worse


def test_scale_free_metrics_forgive_other_sizes(tmp_path: Path) -> None:
    write_run_directory(tmp_path / "a", {"none": STEADY})
    doubled = [2 * value for value in STEADY]
    write_run_directory(tmp_path / "b", {"none": doubled}, sizes=(2 * MB, MB, 200_000))
    a, b = read_session(tmp_path / "a"), read_session(tmp_path / "b")
    free = [metric for metric in METRICS if metric.scale_free]
    said = verdicts(compare_sessions(a, b, metrics=free))
    assert set(said.values()) == {Verdict.INDISTINGUISHABLE}
    assert verdicts(compare_sessions(a, b))["none", "net_peak"] is Verdict.WORSE
    assert [(d.what, d.severity) for d in differences(a, b)] == [
        ("--stage-bytes-sizes", Severity.REFUSE)
    ]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("plan", "workload", "seed"), 7, "--seed: 0 and 7"),
        (("plan", "executor", "workers"), 4, "executor option workers: 2 and 4"),
        (
            ("plan", "topology"),
            {"worker_memory_limit": 10**9},
            "--worker-memory-limit: not recorded and 1000000000",
        ),
    ],
)
def test_a_plan_of_other_work_is_refused(
    tmp_path: Path, path: tuple[str, ...], value: object, said: str
) -> None:
    for name in ("a", "b"):
        write_run_directory(tmp_path / name, {"none": STEADY})
    other = json.loads(json.dumps(MANIFEST))
    *above, last = path
    place = other
    for key in above:
        place = place[key]
    place[last] = value
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(other))
    found = list(differences(read_session(tmp_path / "a"), read_session(tmp_path / "b")))
    assert [(str(each), each.severity) for each in found] == [(said, Severity.REFUSE)]


def test_what_differs_beside_the_figures_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run_directory(tmp_path / name, {"none": STEADY})
    other = json.loads(json.dumps(MANIFEST))
    other["images"]["dask"]["id"] = "sha256:bbbb"
    other["engine"]["version"] = "29.0"
    other["plan"]["executor"]["workers"] = 4
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(other))
    a, b = read_session(tmp_path / "a"), read_session(tmp_path / "b")
    assert [str(d) for d in differences(a, b)] == [
        "executor option workers: 2 and 4",
        "image dask: sha256:aaaa and sha256:bbbb",
        "engine: 28.0 and 29.0",
    ]
    (tmp_path / "b" / "manifest.json").unlink()
    (absent,) = differences(a, read_session(tmp_path / "b"))
    assert absent.severity is Severity.WARN
    assert "b has no manifest" in absent.what
