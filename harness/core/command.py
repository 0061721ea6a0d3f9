"""Running a command line client to its end, whatever it and what it has started do."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress


def run_command(
    command: Sequence[str],
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    *,
    errors_too: bool = False,
) -> tuple[int, str]:
    """Run a command, in a session of its own: Ctrl-C reaches this process alone.

    What it says goes to a file in memory. A pipe would be at its end only when everything that the
    command has started has closed it, which may be never.

    Args:
        command: program and arguments.
        timeout_s: after which it is killed, with what it has started.
        env: its environment; this process's by default.
        errors_too: whether to return standard error among its output, and not drop it.

    Returns:
        Its exit code and its output.

    Raises:
        FileNotFoundError: if there is no such program.
        subprocess.TimeoutExpired: if it did not end in time.
    """
    with open(os.memfd_create(command[0]), "w+b") as output:  # noqa: PTH123  # it has no path
        process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output if errors_too else subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(timeout_s)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        output.seek(0)
        return process.returncode, output.read().decode(errors="replace")
