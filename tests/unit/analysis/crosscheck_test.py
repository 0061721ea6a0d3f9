from __future__ import annotations

from pathlib import Path

import pytest

from harness.analysis.quality import assess, crosscheck
from harness.results.directory import RunDirectory
from harness.results.documents import write_json
from harness.results.rows import RowWriter, columns
from harness.results.schema import CgroupRow, DockerRow, InsideRow, PhaseRow, row_line

MS = 1_000_000
AHEAD_NS = 10**18  # the wall clock's lead over the monotonic one
RUN = "0001-none-1"


def cgroup(time_ms: int, usage: int, parts: tuple[int, ...] | None = None) -> str:
    anon, file, shmem, kernel, sock = (*(parts or (None,) * 4), None)[:5]
    row = CgroupRow(
        run_id=RUN,
        container="worker-1",
        t_mono_ns=time_ms * MS,
        t_unix_ns=time_ms * MS + AHEAD_NS,
        late_ns=0,
        usage_bytes=usage,
        anon_bytes=anon,
        file_bytes=file,
        shmem_bytes=shmem,
        kernel_bytes=kernel,
        inactive_file_bytes=None,
        psi_some_us=None,
        psi_full_us=None,
        oom_kill=None,
        source="v1",
        sock_bytes=sock,
    )
    return row_line(row)


def inside(time_ms: int, usage: int) -> str:
    row = InsideRow(
        RUN, "worker-1", time_ms * MS, time_ms * MS, 0, 1, 5, None, None, 5, usage, None, None
    )
    return row_line(row)


def docker(time_ms: int, usage: int) -> str:
    at = time_ms * MS
    row = DockerRow(RUN, "worker-1", at + MS, at + AHEAD_NS, usage, 0, usage, None, None, None)
    return row_line(row)


def write(directory: RunDirectory, view: str, row_type: type, lines: list[str]) -> None:
    directory.memory(view).write_text(",".join(columns(row_type)) + "\n" + "".join(lines))


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    found = RunDirectory(tmp_path)
    # A ramp from 0 to 100 MB in a second, then flat.
    ramp = [cgroup(t, min(t, 1000) * 100_000) for t in range(0, 2000, 20)]
    write(found, "cgroup", CgroupRow, ramp)
    return found


def test_readings_within_what_the_cgroup_view_saw_around_them_agree(
    directory: RunDirectory,
) -> None:
    write(directory, "inside", InsideRow, [inside(t, t * 100_000) for t in range(50, 1000, 100)])
    write(directory, "docker", DockerRow, [docker(500, 50_000_000), docker(1500, 100_000_000)])
    found = crosscheck(directory)
    assert (found.inside.readings, found.inside.largest_bytes) == (10, 0)
    assert (found.docker.readings, found.docker.largest_bytes) == (2, 0)
    assert found.gaps_ns["cgroup"] == {"worker-1": 20 * MS}
    assert found.gaps_ns["inside"] == {"worker-1": 100 * MS}


def test_a_view_that_disagrees_is_told_with_the_amount_and_the_place(
    directory: RunDirectory,
) -> None:
    lines = [inside(t, 100_000_000) for t in range(1100, 1900, 25)]
    lines[12:16] = [inside(t, 90_000_000) for t in range(1400, 1500, 25)]
    write(directory, "inside", InsideRow, lines)
    found = crosscheck(directory).inside
    assert (found.readings, found.largest_bytes) == (32, -10_000_000)
    assert found.largest_at == f"worker-1 {RUN}"
    quality = assess(directory)
    assert quality["inside_against_cgroup"]["agrees"] is False
    assert quality["docker_against_cgroup"]["agrees"] is None


def test_the_identity_is_checked_on_every_sample_that_has_the_parts(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    rows = [cgroup(t, 1000) for t in range(0, 100, 20)]
    rows += [cgroup(200, 1000, (400, 300, 200, 100)), cgroup(400, 900, (400, 300, 200, 100))]
    write(directory, "cgroup", CgroupRow, rows)
    found = crosscheck(directory).identity
    assert (found.readings, found.largest_bytes) == (2, -100)


def test_sockets_are_a_part_where_the_kernel_charges_them(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    rows = [cgroup(0, 1000, (400, 300, 200, 100)), cgroup(20, 1050, (400, 300, 200, 100, 50))]
    write(directory, "cgroup", CgroupRow, rows)
    found = crosscheck(directory).identity
    assert (found.readings, found.largest_bytes) == (2, 0)


def test_files_from_before_sockets_were_read_are_checked_without(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    rows = [cgroup(0, 1010, (400, 300, 200, 100))]
    write(directory, "cgroup", CgroupRow, rows)
    path = directory.memory("cgroup")
    path.write_text("".join(line.rpartition(",")[0] + "\n" for line in path.open()))
    assert "sock" not in path.read_text()
    found = crosscheck(directory).identity
    assert (found.readings, found.largest_bytes) == (1, 10)


def test_a_line_that_a_crash_cut_short_is_left_out(directory: RunDirectory) -> None:
    path = directory.memory("cgroup")
    path.write_text(path.read_text()[:-30])
    assert crosscheck(directory).gaps_ns["cgroup"] == {"worker-1": 20 * MS}


def test_calibration_beside_the_run_directory_sets_the_bounds(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    write(directory, "cgroup", CgroupRow, [cgroup(t, 1000) for t in range(0, 700, 20)])
    write(directory, "inside", InsideRow, [inside(t, 1500) for t in range(90, 600, 20)])
    assert assess(directory)["inside_against_cgroup"]["agrees"] is True
    agreement = {"identity": 5, "inside": 100, "docker": 5}
    write_json(tmp_path / "calibration.json", {"agreement": agreement})
    quality = assess(directory)
    assert quality["inside_against_cgroup"]["bound_bytes"] == 100
    assert quality["inside_against_cgroup"]["agrees"] is False
    assert quality["bounds_from"].endswith("calibration.json")


def test_baselines_that_were_not_flat_are_named(directory: RunDirectory) -> None:
    with RowWriter(directory.phases, PhaseRow) as phases:
        phases.write(PhaseRow("a", "settled", 1, 10, 100, 10**8, 5, ""))
        phases.write(PhaseRow("b", "timed out", 1, 1000, 100, 10**8, 5, "x; y"))
        phases.write(PhaseRow("c", "timed out", 1, 1000, 100, 10**8, 5, "y"))
    quality = assess(directory)
    assert quality["baseline"]["timed_out"] == ["b", "c"]
    assert quality["baseline"]["not_trimmed"] == ["x", "y"]


def test_readings_between_samples_that_are_far_apart_are_not_held_against_them(
    tmp_path: Path,
) -> None:
    found = RunDirectory(tmp_path)
    # Half a gigabyte a second, read each 100 ms: what a reading 10 ms later has, nobody knows.
    write(found, "cgroup", CgroupRow, [cgroup(t, t * 500_000) for t in range(0, 2000, 100)])
    write(found, "inside", InsideRow, [inside(t, t * 500_000) for t in range(110, 1900, 100)])
    assert crosscheck(found).inside.readings == 0
    assert assess(found)["inside_against_cgroup"]["agrees"] is None
