"""Whether memory was flat before a run: what whoever watches it tells the runner.

In a topology the host's sampler watches all containers and appends one line for each baseline to
a file of the run directory; the runner, which began the phase with a mark, waits for that line.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import InfrastructureError

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
