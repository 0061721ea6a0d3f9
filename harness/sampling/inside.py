"""The inside view, and the first process of every container.

``python -m harness.sampling.inside -- command...`` starts the command first, so that sampling
never delays it, then samples the container's processes until the command ends, and exits with
the command's code (128 + n after signal n). Whatever goes wrong with sampling is said once on
standard error and ends the sampling, never the command.

Environment:

- ``HARNESS_RUN_DIR``: run directory; without it nothing is sampled.
- ``HARNESS_INSIDE_INTERVAL``: seconds between samples (0.1).
- ``HARNESS_PROJECT``, ``HARNESS_CONTAINER``: see ``identity``.
- ``HARNESS_READY_PORT``, ``HARNESS_READY_PEER_PORT``, ``HARNESS_READY_FILE``: see ``readiness``.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from harness.sampling.identity import Identity
from harness.sampling.readiness import Readiness
from harness.sampling.supervise import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_READY_POLL_S = 0.05
_IDENTITY_POLL_S = 0.01
_IDENTITY_TIMEOUT_S = 2.0
_USAGE_EXIT = 2


def _say(message: object) -> None:
    sys.stderr.write(f"harness.sampling.inside: {message}\n")


class _Service:
    """The supervised command together with the file that says it is up."""

    def __init__(self, supervisor: Supervisor, environment: Mapping[str, str]) -> None:
        self._supervisor = supervisor
        self._readiness: Readiness | None = None
        try:
            self._readiness = Readiness(environment)
        except (OSError, ValueError) as error:
            _say(f"no readiness signal: {error}")

    def sleep(self, seconds: float) -> None:
        """Wait at most ``seconds``, shorter while there is something to look for."""
        if self._readiness is None:
            self._supervisor.wait(seconds)
            return
        self._supervisor.wait(min(seconds, _READY_POLL_S))
        try:
            self._readiness.poll()
        except OSError as error:
            _say(f"no readiness signal: {error}")
            self._readiness = None
            return
        if not self._readiness.pending:
            self._readiness = None

    def wait_until(self, done: Callable[[], bool], poll_s: float, timeout_s: float) -> None:
        """Look after the service until ``done()``, its end, or the time is up."""
        deadline = time.monotonic() + timeout_s
        while not done() and not self._supervisor.ended and time.monotonic() < deadline:
            self.sleep(poll_s)

    def run_to_end(self) -> None:
        """Look after the service until it has ended."""
        while self._readiness is not None and not self._supervisor.ended:
            self.sleep(_READY_POLL_S)
        self._supervisor.run()


def _sample(service: _Service, supervisor: Supervisor, environment: Mapping[str, str]) -> None:
    identity = Identity(environment)
    # Only now, with the service on its way: these imports take 50 ms.
    from harness.sampling.inside_sampler import sample_until  # noqa: PLC0415

    service.wait_until(lambda: not identity.pending, _IDENTITY_POLL_S, _IDENTITY_TIMEOUT_S)
    sample_until(
        lambda: supervisor.ended,
        sleep=service.sleep,
        run_dir=environment["HARNESS_RUN_DIR"],
        container=identity.name,
        interval_s=float(environment.get("HARNESS_INSIDE_INTERVAL") or 0.1),
    )


def main(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Run the command in ``arguments`` (after ``--``) and return its exit code."""
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command:
        _say("usage: python -m harness.sampling.inside -- command [argument...]")
        return _USAGE_EXIT
    supervisor = Supervisor(command)
    if supervisor.error:
        _say(supervisor.error)
    service = _Service(supervisor, environment)
    try:
        if environment.get("HARNESS_RUN_DIR"):
            _sample(service, supervisor, environment)
    except (ImportError, OSError, ValueError, MemoryError) as error:
        _say(f"sampling stopped: {error!r}")
    finally:
        # Even an error nobody thought of may only surface when the service has ended.
        service.run_to_end()
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
