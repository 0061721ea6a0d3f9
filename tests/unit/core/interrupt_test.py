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
