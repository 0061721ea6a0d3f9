"""A program that forks while its threads log: its children never wait for a lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import logging, os, sys, threading, time

logging.basicConfig(filename=sys.argv[1], level=logging.INFO)

def log():
    while True:
        logging.info("busy")

for _ in range(3):
    threading.Thread(target=log, daemon=True).start()
for number in range(200):
    child = os.fork()
    if not child:
        logging.warning("child %d", number)
        logging.shutdown()
        os._exit(0)
    deadline = time.monotonic() + 20
    while not os.waitpid(child, os.WNOHANG)[0]:
        if time.monotonic() > deadline:
            os.kill(child, 9)
            sys.exit(f"child {number} waits for a lock")
        time.sleep(0.001)
print(sys.argv[2:], flush=True)
os._exit(0)
"""


def test_no_child_waits_for_a_lock_that_a_thread_held(tmp_path: Path) -> None:
    program, log = tmp_path / "program.py", tmp_path / "log"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "harness.globus_service.forks", str(program), str(log), "-x"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "['-x']\n"
    assert sum(":child " in line for line in log.open()) == 200
