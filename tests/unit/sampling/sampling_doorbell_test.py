"""Waking for marks and nothing else, in a process of its own: signals are a process's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import fcntl, os, signal, sys
from pathlib import Path
from harness.sampling.marks import Doorbell

marks = Path(sys.argv[1])
heard, said = os.pipe()
bell = Doorbell(str(marks), heard)

def quiet():
    while bell.sleep(0.05):
        pass  # what was before

def rings_for(path):
    quiet()
    with path.open("a") as file:
        file.write("x")
    return bell.sleep(0.2)

assert bell.rings
print("creates", rings_for(marks))
print("writes", rings_for(marks), rings_for(marks))
print("others", rings_for(marks.with_name("other")))
quiet()
os.write(said, b"x")
print("listens", bell.sleep(0.2))
os.kill(os.getpid(), signal.SIGTERM)
print("stops", bell.sleep(5), bell.stop)
bell.close()
blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
listening = fcntl.fcntl(heard, fcntl.F_GETFL) & os.O_ASYNC
print("rings", bell.rings, blocked & {signal.SIGTERM, signal.SIGIO}, listening)
bell = Doorbell(str(marks), heard)
print("again", rings_for(marks), bell.stop)
"""


def test_it_rings_for_marks_and_what_it_listens_to_and_nothing_else(tmp_path: Path) -> None:
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
        "listens True",
        "stops False True",
        "rings False set() 0",
        "again True False",
    ]
