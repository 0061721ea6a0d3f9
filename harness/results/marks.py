"""Marks: when runs start and end, told to every sampler through one small file.

The runner appends a line for each mark; samplers on the host and in the containers read them
from the shared run directory. Where a host sampler resets the kernel's high-water marks, it
confirms every mark with one byte, and the runner waits for it outside the measured window.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.core.errors import InfrastructureError

HEADER = "run_id,mark,t_mono_ns,t_unix_ns\n"
BASELINE_START = "baseline_start"
BASELINE_END = "baseline_end"
RUN_START = "run_start"
RUN_END = "run_end"
AFTER_START = "after_start"
TRIMMED = "trimmed"
AFTER_END = "after_end"
STOP = "stop"
MARKS = frozenset(
    {BASELINE_START, BASELINE_END, RUN_START, RUN_END, AFTER_START, TRIMMED, AFTER_END, STOP}
)


def mark_line(run_id: str, mark: str) -> str:
    """Return the line of a mark that is set now."""
    return f"{run_id},{mark},{time.monotonic_ns()},{time.time_ns()}\n"


class MarkWriter:
    """Appends marks, each with a single ``write``.

    Args:
        path: the marks file.
        ack: the confirmations to wait for, or ``None`` where nobody confirms.
        timeout_s: longest wait for one confirmation.
    """

    def __init__(self, path: Path, ack: Path | None = None, timeout_s: float = 10.0) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        if os.fstat(self._fd).st_size == 0:
            os.write(self._fd, HEADER.encode())
        self._ack = ack
        self._timeout_s = timeout_s
        self._written = 0

    def write(self, run_id: str, mark: str) -> None:
        """Write a mark and wait until it is confirmed.

        Raises:
            InfrastructureError: if nobody confirms it in time.
        """
        os.write(self._fd, mark_line(run_id, mark).encode())
        self._written += 1
        if self._ack is not None:
            self._wait(self._ack, mark)

    def _wait(self, ack: Path, mark: str) -> None:
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                if ack.stat().st_size >= self._written:
                    return
            except FileNotFoundError:
                pass  # the host sampler makes it when it starts
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"the host's memory sampler did not confirm {mark} within"
                    f" {self._timeout_s:g} s; see sampling.json and log.txt"
                )
            time.sleep(0.001)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
