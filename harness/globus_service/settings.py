"""What the service is told by its environment, and whom it has heard of.

Who has been heard of, and when to give up waiting. Pure: told the time, in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

MAX_TASK_BYTES = 10 * 2**20
"""The cloud's limit for one submission, a task or a whole batch, in bytes."""


@dataclass(frozen=True)
class Settings:
    """Places, addresses, limits.

    Attributes:
        keys: directory of what only service and broker may read; in memory.
        login: directory of what clients read: the CA's certificate, client name and secret.
        state: directory of the database; outlives a restart of the service.
        broker: host and port of the broker, as clients are told it.
        port: where HTTPS is served.
        max_submission_bytes: serialised size of all tasks in one submission.
        queue_expiry_s: a queue that nobody uses is removed after this.
        retention_s: tasks and results are forgotten after this.
        start_timeout_s: a user endpoint that is silent for so long after its start has failed.
        lost_after_s: a user endpoint that was heard of, but not for so long, is lost.
    """

    keys: Path = Path("/harness/keys")
    login: Path = Path("/harness/login")
    state: Path = Path("/harness/state")
    broker: str = "broker:5672"
    port: int = 443
    max_submission_bytes: int = MAX_TASK_BYTES
    queue_expiry_s: float = 3600.0
    retention_s: float = 86400.0
    start_timeout_s: float = 300.0
    lost_after_s: float = 30.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read ``HARNESS_GLOBUS_<NAME>`` for each attribute.

        Raises:
            ValueError: naming the variable that is no number.
        """
        given = {}
        for name, default in vars(cls()).items():
            variable = f"HARNESS_GLOBUS_{name.upper()}"
            text = environment.get(variable, "")
            if text:
                try:
                    given[name] = type(default)(text)
                except ValueError:
                    raise ValueError(f"{variable}: {text!r} is not a number") from None
        return cls(**given)


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
