"""What the service is told by its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
