from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.sampling.writer import LineWriter

HEADER = ("a", "b")


def test_rows_are_buffered_until_a_flush(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    writer = LineWriter(str(path), HEADER)
    writer.write("1,2\n")
    assert path.read_text() == "a,b\n"
    writer.flush()
    assert path.read_text() == "a,b\n1,2\n"
    writer.write("3,4\n")
    writer.close()
    writer.close()
    assert path.read_text() == "a,b\n1,2\n3,4\n"


def test_flush_if_due_waits_for_its_interval(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    now = 0
    writer = LineWriter(str(path), HEADER, flush_interval_ns=100, clock=lambda: now)
    writer.write("1,2\n")
    now = 99
    writer.flush_if_due()
    assert path.read_text() == "a,b\n"
    now = 100
    writer.flush_if_due()
    assert path.read_text() == "a,b\n1,2\n"


def test_a_full_buffer_is_flushed_in_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    writer = LineWriter(str(path), HEADER, flush_interval_ns=10**18)
    line = "x" * 999 + ",\n"
    for _ in range(100):
        writer.write(line)
    written = path.read_text().removeprefix("a,b\n")
    assert 0 < len(written) <= 64 * 1024
    assert written == line * (len(written) // len(line))


def test_an_existing_file_is_appended_to_without_a_second_header(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    for row in ("1,2\n", "3,4\n"):
        writer = LineWriter(str(path), HEADER)
        writer.write(row)
        writer.close()
    assert path.read_text() == "a,b\n1,2\n3,4\n"


def test_an_unwritable_place_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        LineWriter(str(tmp_path / "missing" / "rows.csv"), HEADER)


WRITE_MANY = """
import sys
from harness.sampling.writer import LineWriter
path, name = sys.argv[1:]
sys.stdin.readline()
writer = LineWriter(path, ("name", "number", "filler"))
for number in range(3000):
    writer.write(f"{name},{number},{name * 40}\\n")
    if number % 7 == 0:
        writer.flush()
writer.close()
"""


def test_lines_of_several_processes_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    names = ["a", "b", "c", "d"]
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITE_MANY, str(path), name], stdin=subprocess.PIPE)
        for name in names
    ]
    for process in processes:  # all begin together, so they race for the header too
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    lines = path.read_text().splitlines()
    assert lines[0] == "name,number,filler"
    assert lines.count(lines[0]) == 1
    for name in names:
        own = [line for line in lines[1:] if line.startswith(name)]
        assert own == [f"{name},{number},{name * 40}" for number in range(3000)]
    assert len(lines) == 1 + 3000 * len(names)
