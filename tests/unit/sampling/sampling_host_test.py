from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.core.errors import InfrastructureError
from harness.sampling import meminfo
from harness.sampling.host import HostProfiler
from harness.sampling.meminfo import HostMemory, HostMemoryReader, parse_meminfo

TIMEOUT_S = 30
PSBENCH_HEADER = "unix_timestamp,total_bytes,available_bytes,used_bytes,free_bytes"
MEMINFO = b"""MemTotal:       24684084 kB
MemFree:        23000000 kB
MemAvailable:   23900000 kB
Buffers:            1234 kB
"""


def test_meminfo_as_psutil_defines_it() -> None:
    assert parse_meminfo(MEMINFO) == HostMemory(
        total=24684084 * 1024,
        available=23900000 * 1024,
        used=(24684084 - 23900000) * 1024,
        free=23000000 * 1024,
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        MEMINFO.replace(b"MemAvailable", b"Other"),
        MEMINFO.replace(b"23900000", b"       0"),
        MEMINFO.replace(b"23900000", b"99900000"),
    ],
)
def test_where_psutil_estimates_the_text_does_not_do(text: bytes) -> None:
    assert parse_meminfo(text) is None


def test_the_reader_agrees_with_psutil() -> None:
    reader = HostMemoryReader()
    # The machine is in use: what psutil reads before and after must enclose it, within slack.
    before = psutil.virtual_memory()
    memory = reader.read()
    after = psutil.virtual_memory()
    slack = 64 * 2**20
    assert memory.total == before.total
    assert memory.used == memory.total - memory.available
    for name in ("available", "free", "used"):
        low, high = sorted((getattr(before, name), getattr(after, name)))
        assert low - slack <= getattr(memory, name) <= high + slack
    reader.close()


def test_psutil_is_asked_where_the_text_does_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meminfo, "parse_meminfo", lambda _: None)
    assert HostMemoryReader().read().total == psutil.virtual_memory().total


def test_rows_have_psbenchs_columns_and_order(tmp_path: Path) -> None:
    path = tmp_path / "results-memory.csv"
    before = time.time()
    with HostProfiler(0.01, path):
        time.sleep(0.3)
    after = time.time()
    assert path.read_text().splitlines()[0] == PSBENCH_HEADER
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    times = [float(row["unix_timestamp"]) for row in rows]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= after
    for row in rows:
        assert int(row["total_bytes"]) == psutil.virtual_memory().total
        assert int(row["used_bytes"]) == int(row["total_bytes"]) - int(row["available_bytes"])
        assert 0 < int(row["free_bytes"]) <= int(row["total_bytes"])
    report = json.loads((tmp_path / ".sampling" / "host-results-memory.json").read_text())
    assert report["grid"]["ticks"] == len(rows)
    assert report["grid"]["interval_ns"] == 10_000_000


def test_an_error_in_the_measured_part_neither_hangs_nor_is_hidden(tmp_path: Path) -> None:
    path = tmp_path / "results-memory.csv"
    with pytest.raises(RuntimeError, match="mine"), HostProfiler(0.01, path):
        raise RuntimeError("mine")
    assert path.exists()


def test_it_ends_with_its_parent_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results-memory.csv"
    code = (
        "import sys, time\n"
        "from harness.sampling.host import HostProfiler\n"
        "with HostProfiler(0.01, sys.argv[1]):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    parent.send_signal(signal.SIGKILL)
    parent.wait(TIMEOUT_S)
    parent.stdout.close()
    report = tmp_path / ".sampling" / "host-results-memory.json"
    deadline = time.monotonic() + TIMEOUT_S
    while not report.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    rows = path.read_text().splitlines()[1:]
    assert len(rows) == json.loads(report.read_text())["grid"]["ticks"]


@pytest.mark.parametrize("interval_s", [0.0, -1.0])
def test_a_bad_interval_is_an_error(tmp_path: Path, interval_s: float) -> None:
    with (
        pytest.raises(InfrastructureError, match="did not start"),
        HostProfiler(interval_s, tmp_path / "results-memory.csv"),
    ):
        pass


def test_an_unwritable_place_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(InfrastructureError, match=r"no/results-memory\.csv"),
        HostProfiler(0.01, tmp_path / "no" / "results-memory.csv"),
    ):
        pass
