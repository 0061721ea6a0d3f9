from __future__ import annotations

from pathlib import Path

import pytest

from harness.analysis.summary import service_of, summarise
from harness.analysis.usage import read_usage
from harness.core.errors import UsageError
from harness.report.tables import ledger_table, summary_table
from harness.results.directory import RunDirectory
from harness.results.manifest import write_manifest
from harness.results.memory import LedgerRow, PeakRow
from harness.results.rows import ObjectsRow, OutcomeRow, ResultRow, RowWriter

RUNS = ("0001-none-1", "0002-none-2")


def write_samples(path: Path, rows: list[tuple[str, str, str]]) -> None:
    lines = [f"{run},{container},{usage}" for run, container, usage in rows]
    path.write_text("\n".join(["run_id,container,usage_bytes", *lines]) + "\n")


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path)
    with (
        RowWriter(directory.results, ResultRow) as results,
        RowWriter(directory.outcomes, OutcomeRow) as outcomes,
        RowWriter(directory.objects, ObjectsRow) as objects,
        RowWriter(directory.peaks, PeakRow) as peaks,
    ):
        for number, run in enumerate(RUNS):
            results.write(
                ResultRow(
                    "DaskExecutor", "None", "none", "1", "1-1", 1, 1.0, 0.0, 1.0, 1.0 + number
                )
            )
            outcomes.write(OutcomeRow(run, "none", number + 1, "ok", ""))
            objects.write(ObjectsRow(run, "none", 0, 0, 0, 0, 0, 0))
            peaks.write(
                PeakRow(run, "service", "worker", 900 + 100 * number, "max_usage", 300, 0, 0, 0)
            )
            peaks.write(PeakRow(run, "topology", "topology", 1500, "max_usage", 500, 0, 0, 0))
    samples = []
    for run in RUNS:
        samples += [
            (run, "worker-1", "200"),
            (run, "worker-1", "400"),
            (run, "worker-2", "100"),
            (run, "redis-1", "50"),
            (run, "redis-1", ""),
            ("", "redis-1", "999999"),
        ]
    write_samples(directory.memory("cgroup"), samples)
    return directory


def test_peaks_are_the_kernels_and_means_the_samples_both_net(directory: RunDirectory) -> None:
    (summary,) = summarise(directory)
    assert (summary.mode, summary.runs, summary.makespan_s) == ("none", 2, 1.5)
    worker = next(s for s in summary.services if s.service == "worker")
    assert worker.containers == 2
    assert worker.peak_net_bytes == 650  # the median of 900 - 300 and 1000 - 300
    assert worker.mean_net_bytes == (200 + 400) / 2 + 100 - 300
    assert worker.peak_kind == "kernel"
    assert summary.services[-1].service == "topology"
    assert summary.services[-1].peak_net_bytes == 1000


def test_a_service_without_a_kernel_peak_says_so(directory: RunDirectory) -> None:
    (summary,) = summarise(directory)
    redis = next(s for s in summary.services if s.service == "redis")
    assert redis.peak_kind == "sampled"
    assert (redis.baseline_bytes, redis.peak_net_bytes) == (50, 0)
    sampling = {"cgroup": {"host": {"grid": {"interval_ns": 20_000_000}, "absent": {}}}}
    write_manifest(directory.sampling, sampling)
    (summary,) = summarise(directory)
    redis = next(s for s in summary.services if s.service == "redis")
    assert redis.peak_kind == "sampled at 20 ms"


def ledger_row(run: str, mark: str, name: str, usage: int, file: int | None) -> LedgerRow:
    return LedgerRow(run, mark, "service", name, usage, 50, 0, 0, 0, 7, 9, 9, 0, 0, 0, 0, file, 1)


def test_where_the_memory_was_when_the_runs_ended(directory: RunDirectory) -> None:
    with RowWriter(directory.ledger, LedgerRow) as ledger:
        for run, usage in zip(RUNS, (1000, 3000), strict=True):
            ledger.write(ledger_row(run, "baseline_end", "worker", 500, 100))
            ledger.write(ledger_row(run, "run_end", "worker", 500 + usage, 100 + usage))
            ledger.write(ledger_row(run, "after_start", "worker", 700, 300))
            ledger.write(ledger_row(run, "trimmed", "worker", 600, None))
        ledger.write(ledger_row("warm-up-1-of-0001-none-1", "run_end", "worker", 10**9, 0))
    (summary,) = summarise(directory)
    found = summary.ledgers["worker"]
    assert (found.parts["usage_bytes"], found.parts["file_bytes"]) == (2000, 2000)
    assert (found.parts["anon_bytes"], found.after_bytes, found.trimmed_bytes) == (0, 200, 100)
    assert "worker" in ledger_table([summary])
    assert "redis" not in ledger_table([summary])


def test_the_table_has_a_line_for_each_service(directory: RunDirectory) -> None:
    table = summary_table(summarise(directory))
    assert "worker x 2" in table
    assert "topology x 3" in table
    assert table.count("kernel") == 2


def test_a_cut_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "memory-cgroup.csv"
    write_samples(path, [("r", "worker-1", "7")])
    with path.open("a") as file:
        file.write("r,worker-1")
    assert read_usage(path, "usage_bytes")["r", "worker-1"].samples == 1


def test_a_foreign_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "memory-cgroup.csv"
    path.write_text("a,b\n")
    with pytest.raises(UsageError, match="has no column 'usage_bytes'"):
        read_usage(path, "usage_bytes")


def test_an_empty_run_directory_has_an_empty_summary(tmp_path: Path) -> None:
    assert summarise(RunDirectory(tmp_path)) == []


def test_containers_belong_to_services() -> None:
    assert service_of("worker-12") == "worker"
    assert service_of("file-server-1") == "file-server"
    assert service_of("redis") == "redis"
