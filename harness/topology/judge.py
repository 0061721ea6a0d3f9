"""Whose fault it was that a run did not end well: from events, exit codes and kernel counters."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from docker import DockerClient
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container

from harness.core.errors import InfrastructureError
from harness.core.text import one_line
from harness.results.directory import RunDirectory
from harness.results.outcomes import Ending, Outcome, parse_ending
from harness.topology.compose import role
from harness.topology.events import Event, Kind
from harness.topology.part import Part

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
        parts: the topology's shares of all nodes, the runner's first.
        directory: the run directory.
        killed: each container's kills for lack of memory, by its name in the topology.
    """

    parts: Sequence[Part]
    directory: RunDirectory
    killed: Callable[[], Mapping[str, int]] = dict
    _pingers: dict[str, DockerClient] = field(default_factory=dict)

    def engine_lost(self) -> Ending | None:
        """Return an ending if an engine does not answer."""
        with ThreadPoolExecutor(len(self.parts)) as pool:
            return next((lost for lost in pool.map(self._lost, self.parts) if lost), None)

    def _lost(self, part: Part) -> Ending | None:
        try:
            pinger = self._pingers.get(part.node.name)
            if pinger is None:
                pinger = self._pingers[part.node.name] = part.connect(_PING_TIMEOUT_S)
            # On a new connection: an engine that is going down still answers on old ones.
            pinger.close()
            pinger.ping()
        except (InfrastructureError, DockerException, OSError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            said = f"the engine{part.node.of} stopped answering: {reason}"
            return Ending(Outcome.INFRASTRUCTURE, said, ENGINE)
        return None

    def close(self) -> None:
        """Close what was opened here."""
        for pinger in self._pingers.values():
            pinger.close()

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
        gone = next((event for event in seen if event.kind == Kind.LOST), None)
        if gone is not None:
            # Whatever ended with it is its doing.
            of = f" of node {gone.node}" if gone.node else ""
            return Ending(Outcome.INFRASTRUCTURE, f"the engine{of} was restarted", ENGINE)
        memory = self._of_memory(seen)
        if memory is not None:
            return memory
        died = [event for event in seen if event.kind == Kind.DIED]
        others = [event for event in died if event.service != "runner"]
        if others:
            return self._of_deaths(others)
        if died:
            return self._of_the_runner(died[0].exit_code)
        cut = [event for event in seen if event.kind == Kind.CUT]
        names = sorted({self._called(event) for event in cut})
        reason = f"{' and '.join(names)} was cut from the network"
        return Ending(Outcome.INFRASTRUCTURE, reason, self._name_of(cut[0]))

    def _of_memory(self, seen: Sequence[Event]) -> Ending | None:
        short = [event for event in seen if event.kind == Kind.MEMORY]
        short += [e for e in seen if e.kind == Kind.DIED and self._out_of_memory(e)]
        if not short:
            return None
        name, called = self._name_of(short[0]), self._called(short[0])
        ended = any(e.kind == Kind.DIED and self._name_of(e) == name for e in seen)
        what = f"{called} was killed" if ended else f"a process in {called} was killed"
        return Ending(Outcome.MEMORY, f"{what} for lack of memory", name)

    def _of_deaths(self, died: Sequence[Event]) -> Ending:
        # The engine may tell of these ends in any order. A service that loses its peer ends by
        # itself; one that a signal ended is where it began.
        died = sorted(died, key=lambda event: event.exit_code <= 128)
        names = list(dict.fromkeys(self._called(event) for event in died))
        first = f"{names[0]} ended (exit code {died[0].exit_code})"
        reason = f"{first}, and so did {', '.join(names[1:])}" if names[1:] else first
        return Ending(Outcome.KILLED, reason, self._name_of(died[0]))

    def _of_the_runner(self, code: int) -> Ending:
        if code == 0:
            return Ending(Outcome.OK)
        shared = self.parts[0].shared
        said = parse_ending(shared.read(self.directory.ending.name, _ENDING_BYTES))
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
                called = next((s for p, c, s in self._all() if p.called(c) == name), name)
                reason = f"a process in {called} was killed for lack of memory"
                return Ending(Outcome.MEMORY, reason, name)
        return None

    def of_a_timeout(self, run_id: str, limit_s: float) -> Ending:
        """Return the ending of a run whose time was up, with whoever is seen to stand still."""
        reason = f"{run_id} took longer than {limit_s:g} s (--run-timeout)"
        for part, container, called in self._all():
            if any(_STOPPED in state for state in self._process_states(container)):
                said = f"{reason}; a process in {called} is stopped"
                return Ending(Outcome.TIMEOUT, said, part.called(container))
        return Ending(Outcome.TIMEOUT, reason)

    def _all(self) -> Iterator[tuple[Part, Container, str]]:
        """Yield all containers, each with its share and what it is called in a sentence."""
        for part in self.parts:
            on = f" (node {part.node.name})" if part.node.name else ""
            for container in part.containers:
                yield part, container, f"{part.called(container)}{on}"

    def _process_states(self, container: Container) -> list[str]:
        try:
            top = container.top(ps_args="-eo pid,stat")
        except (DockerException, OSError):
            return []
        return [str(row[1]) for row in top.get("Processes") or [] if len(row) > 1]

    def _name_of(self, event: Event) -> str:
        return self._called(event).partition(" (")[0]

    def _called(self, event: Event) -> str:
        for _, container, called in self._all():
            if container.id == event.container:
                return called
        return event.name.removeprefix(f"{self.parts[0].name}-") or "a container"

    def _out_of_memory(self, event: Event) -> bool:
        part = next((p for p in self.parts if p.node.name == event.node), self.parts[0])
        try:
            state = part.client.containers.get(event.name).attrs["State"]
        except (NotFound, APIError):
            return False
        return bool(state.get("OOMKilled"))

    def _last_words(self, code: int) -> str:
        """Return the runner's own error line, the last it wrote."""
        runner = next(c for c in self.parts[0].containers if role(c) == "runner")
        try:
            lines = runner.logs(tail=50).decode(errors="replace").splitlines()
        except (DockerException, OSError):
            lines = []
        errors = [line.split("error: ", 1)[1] for line in lines if "error: " in line]
        said = errors[-1] if errors else next((line for line in reversed(lines) if line), "")
        return one_line(said)[:500] or f"the runner ended with exit code {code}"
