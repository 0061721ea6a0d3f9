"""Home's end of the conversation with an agent.

A thread hears the agent and writes what it sends into the run directory; requests are answered in
their order. When a request is answered, all that the agent sent before the answer is on disk.
"""

from __future__ import annotations

import itertools
import os
import queue
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.core.errors import InfrastructureError
from harness.core.files import write_whole
from harness.results.conversation import Settled
from harness.results.rows import columns
from harness.results.schema import CgroupRow, LedgerRow, MarkRow, PeakRow, row_line
from harness.results.shared import SharedFolder
from harness.sampling.agent.messages import Decoder, encode
from harness.sampling.child import ChildStreams
from harness.sampling.clocks import Exchange, Offset, estimate
from harness.sampling.report import ViewReport, write_report
from harness.sampling.writer import LineWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.results.directory import RunDirectory
    from harness.sampling.agent.several import Several
    from harness.sampling.cgroup.config import SamplerConfig

MODULE = "harness.sampling.agent"
# Starting Python takes 50 ms, but a minute is not too much for a loaded or emulated machine.
_HELLO_TIMEOUT_S = 60.0
_TIMEOUT_S = 30.0
_TRIPS = 20
_ENDED = {"error": ""}


class Transport(Protocol):
    """The two byte streams between home and an agent."""

    def receive(self) -> bytes:
        """Return what has come, waiting for it; nothing at the end."""

    def send(self, data: bytes) -> None:
        """Send. Raises OSError if the agent is gone."""

    def close(self) -> int:
        """Let the agent end, and return its exit code, -1 if it is unknown."""


@dataclass(frozen=True, slots=True)
class WatchAnswer:
    """What the agent said when it began to sample.

    ``names`` are the containers it reads, ``absent`` maps what it cannot read to the reason.
    """

    names: list[str]
    absent: dict[str, str]


class Relay:
    """Talks to one agent.

    Args:
        transport: to the agent, which has been started.

    Attributes:
        pid: the agent's process number, as it sees it.
        clock: what tells its clock, see ``clock_id``.
        priority: what scheduling it was granted.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._numbers = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._gone = ""
        self._watched: Watch | None = None
        self._mirrors: dict[str, SharedFolder] = {}
        self._unwritten: dict[str, str] = {}
        self._thread = threading.Thread(target=self._hear, name="agent", daemon=True)
        self._thread.start()
        said = self.ask("hello", timeout_s=_HELLO_TIMEOUT_S)
        self.pid, self.clock, self.priority = said["pid"], said["clock"], said["priority"]

    @property
    def gone(self) -> str:
        """Why the agent answers no more; empty while it does."""
        return self._gone

    def ask(self, request: str, timeout_s: float = _TIMEOUT_S, **words: Any) -> Any:
        """Return the answer to a request.

        Raises:
            OSError: what the agent could not do.
            InfrastructureError: if it is gone, or says nothing in time.
        """
        number = next(self._numbers)
        answered: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        with self._lock:
            self._waiting[number] = answered
        try:
            self._send({"id": number, "do": request} | words)
            if self._gone:
                raise self._lost()
            answer = answered.get(timeout=timeout_s)
        except queue.Empty:
            raise InfrastructureError(
                f"the memory sampler's agent did not answer within {timeout_s:g} s ({request})"
            ) from None
        finally:
            with self._lock:
                del self._waiting[number]
        if answer is _ENDED:
            raise self._lost()
        if "error" in answer:
            raise OSError(str(answer["error"]))
        return answer["answer"]

    def _lost(self) -> InfrastructureError:
        return InfrastructureError(f"the memory sampler's agent ended: {self._gone}")

    def _send(self, message: dict[str, Any]) -> None:
        # An agent that is gone shows at the other stream.
        with self._sending, suppress(OSError):
            self._transport.send(encode(message))

    def give_up(self, why: str) -> None:
        """Take the agent for gone, so that nothing more is asked."""
        self._gone = self._gone or why

    def clock_offset(self) -> Offset:
        """Return what is to be added to the agent's monotonic clock for ours."""
        trips = []
        for _ in range(_TRIPS):
            sent_ns = time.monotonic_ns()
            there_ns = self.ask("clock")["mono_ns"]
            trips.append(Exchange(sent_ns, there_ns, time.monotonic_ns()))
        return estimate(trips)

    def mirror(self, name: str, folder: SharedFolder) -> None:
        """Keep a folder here as the shared folder of a topology is there."""
        self._mirrors[name] = folder

    def unwritten(self, name: str) -> str:
        """Return why not all that a topology's containers wrote is here; empty if it is."""
        return self._unwritten.get(name, "")

    def tell(self, request: str, **words: Any) -> None:
        """Send a message that has no answer."""
        self._send({"do": request} | words)

    @contextmanager
    def watch(
        self,
        config: SamplerConfig,
        directory: RunDirectory,
        folder: str | None = None,
        *,
        several: tuple[Several, str] | None = None,
    ) -> Iterator[Watch]:
        """Have all containers sampled while in this context.

        Args:
            config: what to sample.
            directory: where rows and the report go.
            folder: the topology whose files the agent sends meanwhile.
            several: what joins it with those of other nodes, and the name of this one.

        Raises:
            InfrastructureError: if it cannot be begun.
        """
        watch = Watch(self, directory, SharedFolder(Path(config.shared)), folder)
        if several is not None:
            joined, name = several
            joined.watches[name] = watch
            watch.handled = partial(joined.handled, name)
            watch.settled = partial(joined.settled, name)
        self._watched = watch
        try:
            try:
                said = self.ask("watch", config=config.to_dict(), folder=folder)
            except OSError as error:
                raise InfrastructureError(f"the memory sampler did not start: {error}") from None
            watch.answer = WatchAnswer(said["names"], said["absent"])
            yield watch
        finally:
            watch.ending = True
            with suppress(OSError, InfrastructureError):
                self.ask("end")
            self._watched = None
            watch.close()

    def _hear(self) -> None:
        decoder = Decoder()
        try:
            while piece := self._transport.receive():
                for message, data in decoder.feed(piece):
                    self._take(message, data)
            self._gone = "its stream ended"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._gone = str(error) or type(error).__name__
        with self._lock:
            for answered in self._waiting.values():
                answered.put(_ENDED)

    def _take(self, message: dict[str, Any], data: bytes) -> None:
        if "file" in message:
            self._take_file(message["file"], message["name"], message["at"], data)
        elif "id" in message:
            with self._lock:
                answered = self._waiting.get(message["id"])
                if answered is not None:
                    answered.put(message)
        elif self._watched is not None:  # else they are rows of a watch that is over
            self._watched.take(message, data)

    def _take_file(self, topology: str, name: str, at: int | None, data: bytes) -> None:
        folder = self._mirrors.get(topology)
        if folder is None:
            return
        path = folder.path / name
        try:
            if at is None:
                path.parent.mkdir(exist_ok=True)
                write_whole(path, data)
                return
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o644)
            try:
                view = memoryview(data)
                while view:
                    written = os.pwrite(descriptor, view, at)
                    view, at = view[written:], at + written
            finally:
                os.close(descriptor)
        except OSError as error:
            reason = f"{path}: {error.strerror or error}"
            self._unwritten.setdefault(topology, reason)
            if self._watched is not None:
                self._watched.failed = self._watched.failed or reason

    def close(self) -> None:
        """Let the agent end."""
        code = self._transport.close()
        self._thread.join(_TIMEOUT_S)
        self._gone = self._gone or f"exit code {code}"


@contextmanager
def child_agent() -> Iterator[Relay]:
    """Provide an agent that is a child of this process.

    Raises:
        InfrastructureError: if it does not start.
    """
    streams = ChildStreams(MODULE)
    try:
        relay = Relay(streams)
    except InfrastructureError:
        streams.close()
        raise
    try:
        yield relay
    finally:
        relay.close()


class Watch:
    """One topology's samples on their way into a run directory.

    Attributes:
        answer: what the agent said at the beginning.
        handled: told of each mark when its rows are written; confirms it.
        settled: told whether memory was flat, where home says it to the runner.
        failed: why there are no more samples; empty while there are.
        ending: whether home ends it.
    """

    def __init__(
        self, relay: Relay, directory: RunDirectory, shared: SharedFolder, folder: str | None
    ) -> None:
        self._relay = relay
        self._directory = directory
        self._shared = shared
        self._folder = folder
        self.handled: Callable[[MarkRow], None] = lambda _mark: self.confirm()
        self.settled: Callable[[str, Settled], None] = self.tell_settled
        self._targets: dict[str, tuple[Path, type]] = {
            "samples": (directory.memory("cgroup"), CgroupRow),
            "peaks": (directory.peaks, PeakRow),
            "ledger": (directory.ledger, LedgerRow),
        }
        self._writers: dict[str, LineWriter] = {}
        self.answer = WatchAnswer([], {})
        self.failed = ""
        self.ending = False

    def confirm(self) -> None:
        """Let the runner go on: the rows of its next mark are safe."""
        self._relay.tell("confirm")

    def tell_settled(self, run_id: str, found: Settled) -> None:
        """Tell the runner whether memory was flat."""
        told = {"run": run_id, "verdict": found.verdict, "spread": found.spread_bytes}
        self._relay.tell("settled", **told)

    def mark(self, mark: MarkRow) -> None:
        """Hand over a mark that a runner on another node has made."""
        line = row_line(mark)
        if self._folder is not None:
            self._relay.tell("mark", name=self._folder, line=line)
            return
        with suppress(OSError):  # then it is not handled either, and the run does not go on
            name = self._directory.marks.name
            self._shared.append(name, line.encode(), create=True)

    def poll(self) -> str | None:
        """Return why sampling has ended, None while it goes on."""
        return self.failed or self._relay.gone or None

    def is_silent(self, timeout_s: float) -> bool:
        """Say whether the agent is there and does not answer; then nobody waits for it again."""
        try:
            self._relay.ask("clock", timeout_s)
        except (OSError, InfrastructureError):
            if self.poll() is None:
                self._relay.give_up("it stands still")
                return True
        return False

    def killed(self) -> dict[str, int]:
        """Return each container's kills for lack of memory, where they can be counted."""
        try:
            found: dict[str, int] = self._relay.ask("killed")
        except (OSError, InfrastructureError):
            return {}
        return found

    def take(self, message: dict[str, Any], data: bytes) -> None:
        """Take what the agent says of this watch."""
        if "rows" in message:
            self._take_rows(message["rows"], data)
        elif "handled" in message:
            # What came before it is written: the runner may go on.
            if not self.failed:
                self.handled(MarkRow(*message["handled"]))
        elif "settled" in message:
            run_id, verdict, spread = message["settled"]
            self.settled(run_id, Settled(verdict, spread))
        elif "report" in message:
            self._take_report(message["report"])
        elif "failed" in message:
            self.failed = str(message["failed"])

    def _take_rows(self, table: str, data: bytes) -> None:
        """Write rows; a disk that is full ends the sampling."""
        if self.failed:
            return
        path, row_type = self._targets[table]
        try:
            writer = self._writers.get(table)
            if writer is None:
                writer = self._writers[table] = LineWriter(str(path), columns(row_type))
            writer.write(data.decode())
            writer.flush()
        except OSError as error:
            self.failed = f"{path}: {error.strerror or error}"

    def _take_report(self, report: dict[str, Any]) -> None:
        """Write the sampler's own report, its last word."""
        if not self.ending:
            self.failed = self.failed or "it was told to stop, and not from here"
        with suppress(OSError, TypeError):
            write_report(self._directory.path, ViewReport(**report))

    def close(self) -> None:
        """Close all files."""
        for writer in self._writers.values():
            with suppress(OSError):
                writer.close()
