"""What the first process of a container does beside supervising: readiness and sampling."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness.sampling.identity import Identity
from harness.sampling.readiness import Readiness

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.sampling.supervise import Supervisor

_READY_POLL_S = 0.05
_IDENTITY_POLL_S = 0.01
_IDENTITY_TIMEOUT_S = 2.0


class Service:
    """The supervised command together with the signal that it is up."""

    def __init__(
        self,
        supervisor: Supervisor,
        environment: Mapping[str, str],
        say: Callable[[object], None],
    ) -> None:
        self._supervisor = supervisor
        self._say = say
        self._readiness: Readiness | None = None
        try:
            self._readiness = Readiness(environment)
        except (OSError, ValueError) as error:
            say(f"no readiness signal: {error}")

    def sleep(self, seconds: float) -> None:
        """Wait at most ``seconds``, shorter while there is something to look for."""
        if self._readiness is None:
            self._supervisor.wait(seconds)
            return
        self._supervisor.wait(min(seconds, _READY_POLL_S))
        try:
            self._readiness.poll()
        except OSError as error:
            self._say(f"no readiness signal: {error}")
            self._readiness = None
            return
        if not self._readiness.pending:
            self._readiness = None

    def wait_until(self, done: Callable[[], bool], poll_s: float, timeout_s: float) -> None:
        """Look after the service until ``done()``, its end, or the time is up."""
        deadline = time.monotonic() + timeout_s
        while not done() and not self._supervisor.ended and time.monotonic() < deadline:
            self.sleep(poll_s)

    def wait_until_ready(self) -> None:
        """Look after the service until there is no more to say about its being up."""
        while self._readiness is not None and not self._supervisor.ended:
            self.sleep(_READY_POLL_S)


def look_after(
    supervisor: Supervisor, environment: Mapping[str, str], say: Callable[[object], None]
) -> None:
    """Say when the service is up, and sample if there is a run directory."""
    service = Service(supervisor, environment, say)
    if environment.get("HARNESS_RUN_DIR"):
        try:
            _sample(service, supervisor, environment)
        except (ImportError, OSError, ValueError, MemoryError) as error:
            say(f"sampling stopped: {error!r}")
    service.wait_until_ready()


def _sample(service: Service, supervisor: Supervisor, environment: Mapping[str, str]) -> None:
    identity = Identity(environment)
    # The answer is on its way while these are imported.
    from harness.sampling.inside_sampler import sample_until  # noqa: PLC0415

    service.wait_until(lambda: not identity.pending, _IDENTITY_POLL_S, _IDENTITY_TIMEOUT_S)
    sample_until(
        lambda: supervisor.ended,
        sleep=service.sleep,
        run_dir=environment["HARNESS_RUN_DIR"],
        container=identity.name,
        interval_s=float(environment.get("HARNESS_INSIDE_INTERVAL") or 0.1),
    )
