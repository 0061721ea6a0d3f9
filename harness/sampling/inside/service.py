"""What the first process of a container does beside supervising: readiness and sampling.

Telling a health check that the service is up, without touching the service.

The sampler is there anyway: it looks at the container's sockets in ``/proc/net`` and needs to
open no connection, which a service would log.

A health check that the engine repeats for as long as the container lives costs about 75 ms of CPU
and a 2 MiB bump in the container's high-water mark each time. So the check is a blocking one:
``cat /tmp/ready.fifo``. It waits in ``open`` until the service is up and then ends well; the next
one finds nobody at the other end and stays asleep, which keeps the container healthy and quiet.
For a check that polls, ``/tmp/ready`` is created as well; the pipe is then given up after a while.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.sampling.names import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.sampling.inside.supervise import Supervisor


_LISTEN = "0A"
_ESTABLISHED = "01"
# Checks come within seconds; if none has by then, the container has another kind of check.
_ANSWER_TIMEOUT_S = 3.0
DEFAULT_FILE = "/tmp/ready"  # noqa: S108  # a tmpfs of the container's own


@dataclass(frozen=True, slots=True)
class Sockets:
    """Ports this network namespace listens on, and remote ports it is connected to."""

    listening: frozenset[int]
    connected: frozenset[int]


def parse_sockets(text: str) -> Sockets:
    """Parse ``/proc/net/tcp`` or ``tcp6`` (format: proc(5); ports are hexadecimal)."""
    listening = set()
    connected = set()
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 4:
            continue
        if fields[3] == _LISTEN:
            listening.add(int(fields[1].rpartition(":")[2], 16))
        elif fields[3] == _ESTABLISHED:
            connected.add(int(fields[2].rpartition(":")[2], 16))
    return Sockets(frozenset(listening), frozenset(connected))


class Readiness:
    """Says once that a port is listened on or that a connection to a port stands.

    From the environment: ``HARNESS_READY_PORT`` (a server such as the scheduler or redis),
    ``HARNESS_READY_PEER_PORT`` (a client such as a worker; the port of its server),
    ``HARNESS_READY_FILE`` (default /tmp/ready; the pipe is this name with ``.fifo``). With
    neither port there is nothing to say, with ``HARNESS_UNCHECKED`` true nobody to listen.
    ``pending`` is true until a check was answered.
    Raises ValueError for a port that is not a number, OSError if the pipe cannot be made.
    """

    def __init__(self, environment: Mapping[str, str], net: Path = Path("/proc/net")) -> None:
        self._listen = int(environment.get("HARNESS_READY_PORT") or 0)
        self._peer = int(environment.get("HARNESS_READY_PEER_PORT") or 0)
        self._file = Path(environment.get("HARNESS_READY_FILE") or DEFAULT_FILE)
        self._fifo = Path(f"{self._file}.fifo")
        self._net = net
        self._up_at: float | None = None
        checked = environment.get("HARNESS_UNCHECKED", "false") == "false"
        self.pending = checked and bool(self._listen or self._peer)
        if self.pending:
            self._file.unlink(missing_ok=True)
            self._fifo.unlink(missing_ok=True)
            os.mkfifo(self._fifo)

    def poll(self) -> None:
        """Look once. Raises OSError if the file cannot be created."""
        if not self.pending:
            return
        if self._up_at is None and self._look():
            self._file.touch()
            self._up_at = time.monotonic()
        if self._up_at is None:
            return
        if self._answer():
            self.pending = False
        elif time.monotonic() - self._up_at > _ANSWER_TIMEOUT_S:
            # Nobody looks at the pipe any more after this; whoever still comes must not hang.
            self._fifo.unlink()
            self._fifo.touch()
            self.pending = False

    def _look(self) -> bool:
        listening: set[int] = set()
        connected: set[int] = set()
        for name in ("tcp", "tcp6"):
            try:
                sockets = parse_sockets((self._net / name).read_text(encoding="ascii"))
            except FileNotFoundError:
                continue
            listening |= sockets.listening
            connected |= sockets.connected
        return (not self._listen or self._listen in listening) and (
            not self._peer or self._peer in connected
        )

    def _answer(self) -> bool:
        # Opening wakes a check that waits in open(), closing gives it the end of file.
        try:
            fd = os.open(self._fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no check waits yet
                return False
            raise
        os.close(fd)
        return True


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
    from harness.sampling.inside.sampler import sample_until  # noqa: PLC0415

    service.wait_until(lambda: not identity.pending, _IDENTITY_POLL_S, _IDENTITY_TIMEOUT_S)
    sample_until(
        lambda: supervisor.ended,
        sleep=service.sleep,
        run_dir=environment["HARNESS_RUN_DIR"],
        container=identity.name,
        interval_s=float(environment.get("HARNESS_INSIDE_INTERVAL") or 0.1),
    )
