"""What object stores of the executor's own had in use, from the rows of a run directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.analysis.figures import Group, group_runs
from harness.analysis.readers import read_session
from harness.analysis.stores import stores_in_use, totals
from harness.report.tables import object_stores
from harness.results.conversation import RUN_END
from harness.results.directory import RunDirectory
from harness.results.rows import RowWriter, read_rows
from harness.results.schema import LedgerRow, ObjectStoreRow
from tests.rundirs import write_run_directory

MB = 1_000_000


def groups(path: Path, *readings: tuple[str, str, int]) -> list[Group]:
    directory = write_run_directory(path, {"none": [MB, MB]})
    with RowWriter(directory.object_stores, ObjectStoreRow) as rows:
        for number, (run_id, host, used) in enumerate(readings):
            rows.write(ObjectStoreRow(run_id, number, number, None, host, used, 100 * MB))
    return list(group_runs([read_session(directory.path)]))


def test_all_stores_are_summed_at_each_reading_and_the_start_is_no_part(tmp_path: Path) -> None:
    one, two = "0001-none-1", "0002-none-2"
    (group,) = groups(
        tmp_path / "run",
        *((one, "a", 5), (one, "b", 1), (one, "a", 45), (one, "b", 11), (one, "a", 5)),
        *((two, "a", 0), (two, "b", 0), (two, "a", 30), (two, "b", 20), (two, "b", 10)),
    )
    found = stores_in_use(group)
    assert found is not None
    assert (found.most.low, found.most.median, found.most.high) == (50, 50, 50)
    assert (found.at_end.low, found.at_end.high) == (10, 40)


def test_the_kernels_shared_memory_is_beside_it(tmp_path: Path) -> None:
    run = "0001-none-1"
    groups(tmp_path / "run", (run, "a", 0), (run, "a", 7 * MB))
    path = RunDirectory(tmp_path / "run").ledger
    starts = read_rows(path, LedgerRow)
    with RowWriter(path, LedgerRow) as ledger:
        for row in starts:
            shmem = 12 * MB if row.scope == "topology" else 5 * MB
            ledger.write(replace(row, mark=RUN_END, shmem_bytes=shmem))
    (group,) = group_runs([read_session(tmp_path / "run")])
    table = object_stores([group])
    assert table is not None
    ((mode, most, at_end, shared),) = table.rows
    assert (mode, *map(str, (most, at_end, shared))) == ("none", "7.00 MB", "7.00 MB", "12.0 MB")


def test_executors_without_stores_have_no_table(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": [MB]})
    found = list(group_runs([read_session(directory.path)]))
    assert [stores_in_use(group) for group in found] == [None]
    assert object_stores(found) is None


def test_a_store_counts_from_the_first_reading_of_a_run() -> None:
    rows = [{"host": "a", "used_bytes": 3}, {"host": "b", "used_bytes": 4}]
    assert totals([*rows, {"host": "a", "used_bytes": 0}]) == [7, 7, 4]
    assert totals([]) == []
