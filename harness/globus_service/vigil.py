"""Who has been heard of, and when to give up waiting. Pure: told the time, in seconds."""

from __future__ import annotations

from uuid import UUID


class Vigil:
    """Remembers heartbeats.

    Args:
        start_timeout_s: how long one may be silent that has never been heard of.
        lost_after_s: how long one may be silent that has.
    """

    def __init__(self, start_timeout_s: float, lost_after_s: float) -> None:
        self._start_timeout_s = start_timeout_s
        self._lost_after_s = lost_after_s
        self._expected: dict[UUID, float] = {}
        self._heard: dict[UUID, float] = {}

    def expect(self, endpoint: UUID, now: float) -> None:
        """Start waiting for an endpoint, unless it is waited for or has been heard of lately."""
        if not self.alive(endpoint, now):
            self._heard.pop(endpoint, None)
            self._expected.setdefault(endpoint, now)

    def heard(self, endpoint: UUID, now: float) -> None:
        """Note a heartbeat."""
        self._expected.pop(endpoint, None)
        self._heard[endpoint] = now

    def forget(self, endpoint: UUID) -> None:
        """Note that an endpoint has ended."""
        self._expected.pop(endpoint, None)
        self._heard.pop(endpoint, None)

    def pardon(self, now: float) -> None:
        """Wait for all as if they were starting: the broker was away, and they have to find it."""
        self._expected = dict.fromkeys((*self._expected, *self._heard), now)
        self._heard = {}

    def alive(self, endpoint: UUID, now: float) -> bool:
        """Return whether an endpoint has been heard of lately."""
        return endpoint in self._heard and now - self._heard[endpoint] <= self._lost_after_s

    def given_up(self, endpoint: UUID, now: float) -> str:
        """Return why an endpoint is no longer waited for; empty if it still is."""
        if endpoint in self._heard:
            silent = now - self._heard[endpoint]
            if silent > self._lost_after_s:
                return f"no heartbeat for {silent:.0f} s"
        elif endpoint in self._expected:
            silent = now - self._expected[endpoint]
            if silent > self._start_timeout_s:
                return f"did not start within {self._start_timeout_s:g} s"
        return ""
