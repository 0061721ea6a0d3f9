from __future__ import annotations

import subprocess
import sys

from harness.workflow.tasks import payload


def test_the_same_seed_and_label_give_the_same_bytes() -> None:
    assert payload(1, "0/start/0", 1000) == payload(1, "0/start/0", 1000)
    assert payload(1, "0/start/0", 1000) != payload(2, "0/start/0", 1000)
    assert payload(1, "0/start/0", 1000) != payload(1, "0/start/1", 1000)


def test_the_bytes_are_fixed_for_ever() -> None:
    # Another value would silently change every figure that is compared with an older one.
    assert payload(0, "0/start/0", 8).hex() == "08fcec3f6b513881"


def test_sizes_are_exact() -> None:
    for size in (0, 1, 1000, 1_000_003):
        assert len(payload(0, "x", size)) == size


def test_making_a_payload_needs_at_most_1_1_times_its_size() -> None:
    # In a process of its own: the high-water mark of resident memory is the process's.
    code = """
import re
from pathlib import Path
from harness.workflow.tasks import payload
def high_water_kb():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
payload(0, "warm", 1000)
before = high_water_kb()
made = payload(0, "x", 100_000_000)
print((high_water_kb() - before) * 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert 99_000_000 <= int(done.stdout) <= 110_000_000
