"""What the runner and the host say to each other: marks one way, replies the other.

Marks: when runs start and end, told to every sampler through one small file.

The runner appends a line for each mark; samplers on the host and in the containers read them
from the shared run directory. Where a host sampler resets the kernel's high-water marks, it
confirms every mark with one byte, and the runner waits for it outside the measured window.

Whether memory was flat before a run: what whoever watches it tells the runner.

In a topology the host's sampler watches all containers and appends one line for each baseline to
a file of the run directory; the runner, which began the phase with a mark, waits for that line.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
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

    def confirmed(self, ack: Path | None) -> None:
        """Wait for confirmations from now on, of which there are none yet, or no more."""
        self._ack = ack
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


SETTLED = "settled"
TIMED_OUT = "timed out"
NOT_WATCHED = "not watched"

# Beyond the phase's own time limit, for a machine that is busy.
_PATIENCE_S = 10.0
_POLL_S = 0.002


@dataclass(frozen=True)
class Settled:
    """How a baseline phase ended.

    Attributes:
        verdict: ``settled``, ``timed out`` or ``not watched``.
        spread_bytes: highest less lowest use within the last window; None if not watched.
    """

    verdict: str
    spread_bytes: int | None = None

    def line(self, run_id: str) -> str:
        """Return the line for a run, newline included."""
        spread = "" if self.spread_bytes is None else self.spread_bytes
        return f"{run_id},{self.verdict},{spread}\n"


Settle = Callable[[str], Settled]
"""Called with the run's ID when its baseline phase has begun; returns when that has ended."""


def not_watched(_run_id: str) -> Settled:
    """Wait for nothing."""
    return Settled(NOT_WATCHED)


def parse_settled(text: str, run_id: str) -> Settled | None:
    """Return the last verdict on a run in whole lines, None if there is none yet."""
    for line in reversed(text[: text.rfind("\n") + 1].splitlines()):
        cells = line.split(",")
        if len(cells) == 3 and cells[0] == run_id:
            return Settled(cells[1], int(cells[2]) if cells[2] else None)
    return None


class HostsVerdict:
    """Waits for the host's sampler.

    Args:
        path: the file it writes to.
        timeout_s: after what time it gives up waiting for flat memory.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def __call__(self, run_id: str) -> Settled:
        """Wait for the verdict on a run.

        Raises:
            InfrastructureError: if none comes in time: the sampler is gone.
        """
        deadline = time.monotonic() + self._timeout_s + _PATIENCE_S
        while time.monotonic() < deadline:
            try:
                found = parse_settled(self._path.read_text(encoding="ascii"), run_id)
            except FileNotFoundError:
                found = None
            if found is not None:
                return found
            time.sleep(_POLL_S)
        raise InfrastructureError(
            f"the host's memory sampler said nothing about the baseline of {run_id} within"
            f" {self._timeout_s + _PATIENCE_S:g} s; see sampling.json and log.txt"
        )
