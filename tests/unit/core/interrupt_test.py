from __future__ import annotations

import subprocess
import sys

CODE = """
import gc, os, signal, sys
from harness.core import interrupt

class Cycle:
    def __init__(self): self.me = self
    def __del__(self): os.kill(os.getpid(), getattr(signal, sys.argv[1]))

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
interrupt.install()
interrupt.check()
Cycle()
gc.collect()  # the exception is raised in __del__: Python prints it and goes on
print("went on")
try:
    interrupt.check()
except KeyboardInterrupt:
    print("remembered")
"""


def test_an_interrupt_that_python_forgets_is_remembered() -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        done = subprocess.run(
            [sys.executable, "-c", CODE, name],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        assert done.stdout.split("\n") == ["went on", "remembered", ""]


# Each child is told to end while it starts: when Python would forget the signal.
FORKS = """
import os, signal
from harness.core import interrupt

interrupt.install()
for _ in range(500):
    child = os.fork()
    if not child:
        while True:
            signal.pause()
    os.kill(child, signal.SIGTERM)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_forked_child_ends_when_it_is_told_to() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr.strip().endswith("KeyboardInterrupt"), done.stderr
