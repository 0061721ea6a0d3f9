"""Ending at once: somebody else goes on taking down what has been started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from harness.core.environment import child_environment

_INTERRUPTED = 130


def clean_in_background(projects: Sequence[str], say: Callable[[str], None]) -> None:
    """End this process now; ``harness clean`` removes its topologies when it has ended."""
    if projects:
        subprocess.Popen(
            [sys.executable, "-m", "harness", "clean", "--wait", *projects],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            start_new_session=True,
        )
        say(f"Ended at once; 'harness clean' goes on removing {' and '.join(projects)}")
    os._exit(_INTERRUPTED)
