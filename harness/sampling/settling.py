"""When is memory flat? For the baseline phase before a run."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from harness.results.conversation import NOT_WATCHED, SETTLED, TIMED_OUT, Settled

if TYPE_CHECKING:
    from collections.abc import Callable

_POLL_S = 0.02


class Flatness:
    """Judges readings as they come.

    Memory has settled when for ``window_ns`` its highest and lowest reading differ by at most
    ``bound_bytes``; after ``timeout_ns`` without that, it has timed out.
    """

    def __init__(self, start_ns: int, window_ns: int, bound_bytes: int, timeout_ns: int) -> None:
        self._start_ns = start_ns
        self._window_ns = window_ns
        self._bound_bytes = bound_bytes
        self._timeout_ns = timeout_ns
        self._readings: deque[tuple[int, int]] = deque()

    def add(self, now_ns: int, usage_bytes: int) -> Settled | None:
        """Take one reading; return the verdict if there is one now."""
        readings = self._readings
        readings.append((now_ns, usage_bytes))
        # What stays is the window and the reading before it, so that the window is covered.
        while len(readings) > 1 and readings[1][0] <= now_ns - self._window_ns:
            readings.popleft()
        spread = max(b for _, b in readings) - min(b for _, b in readings)
        if readings[0][0] <= now_ns - self._window_ns and spread <= self._bound_bytes:
            return Settled(SETTLED, spread)
        if now_ns - self._start_ns >= self._timeout_ns:
            return Settled(TIMED_OUT, spread)
        return None


def settle_by_reading(
    read: Callable[[], int | None], window_s: float, bound_bytes: int, timeout_s: float
) -> Settled:
    """Read until memory has settled or the time is up; a reading of None: it cannot be read."""
    flatness = Flatness(
        time.monotonic_ns(), round(window_s * 1e9), bound_bytes, round(timeout_s * 1e9)
    )
    while True:
        usage = read()
        if usage is None:
            return Settled(NOT_WATCHED)
        verdict = flatness.add(time.monotonic_ns(), usage)
        if verdict is not None:
            return verdict
        time.sleep(_POLL_S)
