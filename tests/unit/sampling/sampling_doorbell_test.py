"""Waking for marks and nothing else, in a process of its own: signals are a process's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, signal, sys
from pathlib import Path
from harness.sampling.marks import Doorbell

marks = Path(sys.argv[1])
bell = Doorbell(str(marks))

def rings_for(path):
    while bell.sleep(0.05):
        pass  # what was before
    with path.open("a") as file:
        file.write("x")
    return bell.sleep(0.2)

assert bell.rings
print("creates", rings_for(marks))
print("writes", rings_for(marks), rings_for(marks))
print("others", rings_for(marks.with_name("other")))
os.kill(os.getpid(), signal.SIGINT)
os.kill(os.getpid(), signal.SIGTERM)
print("stops", bell.sleep(5), bell.stop)
bell.close()
print("rings", bell.rings)
"""


def test_it_rings_for_marks_and_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "marks.csv")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "creates True",
        "writes True True",
        "others False",
        "stops False True",
        "rings False",
    ]
