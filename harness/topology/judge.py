"""Whose fault it was that a run did not end well: from events, exit codes and kernel counters."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from docker import DockerClient
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container

from harness.core.errors import InfrastructureError
from harness.core.text import one_line
from harness.results.directory import RunDirectory
from harness.results.outcomes import Ending, Outcome, parse_ending
from harness.results.shared import SharedFolder
from harness.topology.compose import ComposeProject, role
from harness.topology.engine import connect
from harness.topology.events import Event, Kind

ENGINE = "engine"
"""The service of an ending that is the engine's fault."""

# Less than this and neither rows nor samples can be written for long.
_LEAST_FREE_BYTES = 2**20
_ENDING_BYTES = 64 * 1024
_INFRASTRUCTURE_EXIT = 3
_STOPPED = "T"
_PING_TIMEOUT_S = 7


@dataclass
class Judge:
    """Says how a run ended.

    Args:
        project: the topology.
        containers: its containers, as they were when it was up.
        directory: the run directory.
        client: a connection to the engine.
        shared: what its containers can write.
        killed: each container's kills for lack of memory, by its name in the topology.
    """

    project: ComposeProject
    containers: Sequence[Container]
    directory: RunDirectory
    client: DockerClient
    shared: SharedFolder
    killed: Callable[[], dict[str, int]] = dict
    _pinger: DockerClient | None = None

    def engine_lost(self) -> Ending | None:
        """Return an ending if the engine does not answer."""
        try:
            if self._pinger is None:
                version = self.client.api.api_version
                self._pinger = connect(_PING_TIMEOUT_S, version=version)
            # On a new connection: an engine that is going down still answers on old ones.
            self._pinger.close()
            self._pinger.ping()
        except (InfrastructureError, DockerException, OSError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            return Ending(Outcome.INFRASTRUCTURE, f"the engine stopped answering: {reason}", ENGINE)
        return None

    def close(self) -> None:
        """Close what was opened here."""
        if self._pinger is not None:
            self._pinger.close()

    def of_the_machine(self, reason: str, service: str) -> Ending:
        """Return the ending for a fault of the machine, or of the disk behind it."""
        full = self.disk_full()
        return full or Ending(Outcome.INFRASTRUCTURE, reason, service)

    def disk_full(self) -> Ending | None:
        """Return an ending if there is no space left for the run directory."""
        stat = os.statvfs(self.directory.path)
        if stat.f_bavail * stat.f_frsize >= _LEAST_FREE_BYTES:
            return None
        return Ending(
            Outcome.INFRASTRUCTURE,
            f"the disk of the run directory is full ({self.directory.path})",
            "disk",
        )

    def of_events(self, seen: Sequence[Event]) -> Ending:
        """Return the ending that events of the same moment add up to."""
        lost = self.engine_lost()
        if lost is not None:
            return lost
        if any(event.kind == Kind.LOST for event in seen):
            # Whatever ended with it is its doing.
            return Ending(Outcome.INFRASTRUCTURE, "the engine was restarted", ENGINE)
        memory = self._of_memory(seen)
        if memory is not None:
            return memory
        died = [event for event in seen if event.kind == Kind.DIED]
        others = [event for event in died if event.service != "runner"]
        if others:
            return self._of_deaths(others)
        if died:
            return self._of_the_runner(died[0].exit_code)
        cut = [self._name_of(event) for event in seen if event.kind == Kind.CUT]
        reason = f"{' and '.join(sorted(set(cut)))} was cut from the network"
        return Ending(Outcome.INFRASTRUCTURE, reason, cut[0])

    def _of_memory(self, seen: Sequence[Event]) -> Ending | None:
        short = [event for event in seen if event.kind == Kind.MEMORY]
        short += [e for e in seen if e.kind == Kind.DIED and self._out_of_memory(e.name)]
        if not short:
            return None
        name = self._name_of(short[0])
        ended = any(e.kind == Kind.DIED and self._name_of(e) == name for e in seen)
        what = f"{name} was killed" if ended else f"a process in {name} was killed"
        return Ending(Outcome.MEMORY, f"{what} for lack of memory", name)

    def _of_deaths(self, died: Sequence[Event]) -> Ending:
        # The engine may tell of these ends in any order. A service that loses its peer ends by
        # itself; one that a signal ended is where it began.
        died = sorted(died, key=lambda event: event.exit_code <= 128)
        names = list(dict.fromkeys(self._name_of(event) for event in died))
        first = f"{names[0]} ended (exit code {died[0].exit_code})"
        reason = f"{first}, and so did {', '.join(names[1:])}" if names[1:] else first
        return Ending(Outcome.KILLED, reason, names[0])

    def _of_the_runner(self, code: int) -> Ending:
        if code == 0:
            return Ending(Outcome.OK)
        said = parse_ending(self.shared.read(self.directory.ending.name, _ENDING_BYTES))
        known = self.kernel_counters() or self.disk_full() or said
        if known is not None:
            return known
        if code == _INFRASTRUCTURE_EXIT:
            return Ending(Outcome.INFRASTRUCTURE, self._last_words(code), "runner")
        if code > 128:
            return Ending(Outcome.KILLED, f"runner-1 ended (exit code {code})", "runner-1")
        return Ending(Outcome.FAILED, self._last_words(code), "runner-1")

    def kernel_counters(self) -> Ending | None:
        """Return an ending if the kernel has killed a process of a container that goes on."""
        for name, count in self.killed().items():
            if count:
                reason = f"a process in {name} was killed for lack of memory"
                return Ending(Outcome.MEMORY, reason, name)
        return None

    def of_a_timeout(self, run_id: str, limit_s: float) -> Ending:
        """Return the ending of a run whose time was up, with whoever is seen to stand still."""
        reason = f"{run_id} took longer than {limit_s:g} s (--run-timeout)"
        for container in self.containers:
            name = self.project.short_name(container)
            if any(_STOPPED in state for state in self._process_states(container)):
                return Ending(Outcome.TIMEOUT, f"{reason}; a process in {name} is stopped", name)
        return Ending(Outcome.TIMEOUT, reason)

    def _process_states(self, container: Container) -> list[str]:
        try:
            top = container.top(ps_args="-eo pid,stat")
        except (DockerException, OSError):
            return []
        return [str(row[1]) for row in top.get("Processes") or [] if len(row) > 1]

    def _name_of(self, event: Event) -> str:
        for container in self.containers:
            if container.id == event.container:
                return self.project.short_name(container)
        return event.name.removeprefix(f"{self.project.name}-") or "a container"

    def _out_of_memory(self, name: str) -> bool:
        try:
            return bool(self.client.containers.get(name).attrs["State"].get("OOMKilled"))
        except (NotFound, APIError):
            return False

    def _last_words(self, code: int) -> str:
        """Return the runner's own error line, the last it wrote."""
        runner = next(c for c in self.containers if role(c) == "runner")
        try:
            lines = runner.logs(tail=50).decode(errors="replace").splitlines()
        except (DockerException, OSError):
            lines = []
        errors = [line.split("error: ", 1)[1] for line in lines if "error: " in line]
        said = errors[-1] if errors else next((line for line in reversed(lines) if line), "")
        return one_line(said)[:500] or f"the runner ended with exit code {code}"
