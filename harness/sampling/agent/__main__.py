"""The agent: the one process that watches an engine's machine.

``python -m harness.sampling.agent`` talks over standard input and output (``messages``). It makes
and removes parent cgroups, keeps a topology's folders where home cannot see them, samples while a
topology is watched, and says what the kernel counted. It ends with its standard input: home is
gone then. Home starts it as a child, or as a container of one of the images; it cannot tell which.

Each request has an ``id``, and its answer has the same.
"""

from __future__ import annotations

import base64
import errno
import os
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict, astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.clock import clock_id
from harness.results.conversation import STOP, Settled, mark_line
from harness.results.directory import RunDirectory
from harness.results.schema import MarkRow
from harness.sampling.agent import parents
from harness.sampling.agent.folder import TopologyFolder
from harness.sampling.agent.messages import Decoder, RowSender, encode
from harness.sampling.cgroup.config import SamplerConfig, config_from
from harness.sampling.cgroup.reader import NO_DESCRIPTORS, descriptors_needed
from harness.sampling.cgroup.sampler import HostSampler
from harness.sampling.grid import Every, Grid, raise_descriptor_limit, raise_priority
from harness.sampling.marks import Doorbell
from harness.sampling.report import Stopwatch, ViewReport, own_rss_max_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# How often marks and messages are looked for without being told of one, and how often what
# containers wrote is sent home.
_LOOK_NS = 100_000_000
_SEND_NS = 500_000_000
_PIECE_BYTES = 1 << 16
_TABLES = ("samples", "peaks", "ledger")


class Home:
    """The other end of the conversation: standard input and output.

    Attributes:
        gone: whether it has ended.
    """

    def __init__(self, receiving: int = 0, sending: int = 1) -> None:
        self._receiving = receiving
        self._sending = sending
        self._decoder = Decoder()
        self.gone = False
        os.set_blocking(receiving, False)

    @property
    def descriptor(self) -> int:
        """What becomes readable with a message."""
        return self._receiving

    def send(self, message: dict[str, Any], data: bytes = b"") -> None:
        """Send a message; an end that is gone hears nothing."""
        view = memoryview(encode(message, data))
        try:
            while view and not self.gone:
                view = view[os.write(self._sending, view) :]
        except BrokenPipeError:
            self.gone = True

    def received(self) -> Iterator[dict[str, Any]]:
        """Yield what has come, without waiting. Raises ValueError for what is no message."""
        # What one message began to do may have let others come.
        for message, _ in self._decoder.feed(b""):
            yield message
        while not self.gone:
            try:
                piece = os.read(self._receiving, _PIECE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                piece = b""
            if not piece:
                self.gone = True
                return
            for message, _ in self._decoder.feed(piece):
                yield message

    def wait(self) -> None:
        """Wait for a message or the end."""
        poll = select.poll()
        poll.register(self._receiving, select.POLLIN)
        poll.poll()


class Agent:
    """Does what home asks for."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._folders: dict[str, TopologyFolder] = {}
        self._watched: _Watch | None = None
        self._priority = raise_priority()

    def serve(self) -> None:
        """Answer until home is gone."""
        while not self._home.gone:
            self._home.wait()
            self.hear()

    def hear(self) -> None:
        """Do what messages that have come ask for."""
        for message in self._home.received():
            number, request = message.pop("id", None), str(message.pop("do", ""))
            try:
                answer = getattr(self, f"_do_{request}")(**message)
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                self._home.send({"id": number, "error": f"{where}{error.strerror or error}"})
            else:
                if number is not None:
                    self._home.send({"id": number, "answer": answer})
            if request == "watch" and self._watched is not None:
                self._watch(self._watched)

    def _do_hello(self) -> dict[str, Any]:
        return {"clock": clock_id(), "priority": self._priority, "pid": os.getpid()}

    def _do_clock(self) -> dict[str, int]:
        return {"mono_ns": time.monotonic_ns(), "unix_ns": time.time_ns()}

    def _do_obstacle(self, driver: str, version: int) -> str:
        return parents.obstacle(driver, version)

    def _do_parents(
        self, driver: str, version: int, project: str, services: list[str]
    ) -> dict[str, Any]:
        return asdict(parents.create_parents(driver, version, project, services))

    def _do_remove(self, project: str) -> list[str]:
        return parents.remove_cgroups(project)

    def _do_cgroups(self) -> dict[str, list[str]]:
        return {name: parents.project_cgroups(name) for name in parents.all_project_cgroups()}

    def _do_make(
        self,
        root: str,
        name: str,
        user: list[int],
        files: list[list[str]],
        inputs: dict[str, str],
    ) -> None:
        folder = TopologyFolder(
            Path(root), name, (user[0], user[1]), (files[0], files[1]), self._home.send
        )
        self._folders[name] = folder
        folder.make({name: base64.b64decode(text) for name, text in inputs.items()})

    def _do_stop(self, name: str) -> None:
        """Tell the samplers in the containers to end, and send what there is."""
        folder = self._folders.get(name)
        if folder is not None:
            folder.append(RunDirectory(Path()).marks.name, mark_line("", STOP))
            folder.send_new()

    def _do_send(self, name: str) -> None:
        # There is none of a topology that came to nothing.
        if name in self._folders:
            self._folders[name].send_new()

    def _do_drop(self, name: str) -> None:
        folder = self._folders.pop(name, None)
        if folder is not None:
            folder.remove()

    def _do_watch(self, config: dict[str, Any], folder: str | None) -> dict[str, Any]:
        """Open what is to be sampled; what cannot be read is in the answer."""
        described = config_from(config)
        bell = Doorbell(described.marks, self._home.descriptor)
        tables = {name: RowSender(name, self._home.send, time.monotonic_ns) for name in _TABLES}
        try:
            sampler = HostSampler(described, tables, self._say_handled, self._say_settled)
        except OSError as error:
            bell.close()
            raise OSError(error.errno, _explained(error, described)) from None
        self._watched = _Watch(described, sampler, bell, self._folders.get(folder or ""))
        return {"names": sampler.names, "absent": sampler.absent}

    def _say_handled(self, mark: MarkRow) -> None:
        self._home.send({"handled": list(astuple(mark))})

    def _say_settled(self, run_id: str, found: Settled) -> None:
        self._home.send({"settled": [run_id, *astuple(found)]})

    def _do_mark(self, name: str, line: str) -> None:
        """Write down a mark that a runner on another node has made."""
        folder = self._folders.get(name)
        if folder is not None:
            folder.mark(line)

    def _do_settled(self, run: str, verdict: str, spread: int | None) -> None:
        """Tell the runner whether memory was flat on all nodes."""
        if self._watched is not None:
            self._watched.sampler.tell(run, Settled(verdict, spread))

    def _do_confirm(self) -> None:
        if self._watched is not None:
            self._watched.sampler.confirm()

    def _do_killed(self) -> dict[str, int]:
        return {} if self._watched is None else self._watched.sampler.oom_kills()

    def _do_end(self) -> None:
        if self._watched is not None:
            self._watched.ended = True
            # What it has goes home before the answer does.
            self._report(self._watched)
            self._watched = None

    def _watch(self, watch: _Watch) -> None:
        """Sample until home says to end, or is gone."""
        watch.look = self._look
        try:
            self._sample(watch)
        except (OSError, ValueError) as error:
            reason = _explained(error, watch.config) if isinstance(error, OSError) else str(error)
            with suppress(OSError):
                watch.sampler.close()
            self._home.send({"failed": reason})
            self._watched = None
        finally:
            if self._watched is watch:
                self._report(watch)
                self._watched = None
            watch.bell.close()
        if watch.bell.stop:
            raise SystemExit(0)

    def _sample(self, watch: _Watch) -> None:
        sampler, interval_ns = watch.sampler, watch.config.usage_interval_ns
        look_due, send_due = Every(_LOOK_NS, interval_ns), Every(_SEND_NS, interval_ns)
        for tick in watch.grid.ticks(lambda: watch.is_over or self._home.gone):
            if look_due.due(tick.index) or not watch.bell.rings:
                self._look()
                if watch.is_over:
                    return
            sampler.tick(tick.index, tick.late_ns)
            if watch.folder is not None and send_due.due(tick.index):
                watch.folder.send_new()

    def _look(self) -> None:
        """Do what new marks and messages ask for."""
        watch = self._watched
        if watch is not None and watch.sampler.handle_marks() and watch.folder is not None:
            watch.folder.send_new()
        self.hear()

    def _report(self, watch: _Watch) -> None:
        watch.sampler.close()
        config = watch.config
        report = ViewReport(
            view="cgroup",
            name="host",
            grid=watch.grid.report(),
            priority=self._priority,
            elapsed_ns=watch.time.elapsed_ns(),
            cpu_ns=watch.time.cpu_ns(),
            rss_max_bytes=own_rss_max_bytes(),
            absent=watch.sampler.absent,
            ended=watch.sampler.ended,
            details={
                "stat_interval_ns": config.stat_interval_ns,
                "slow_interval_ns": config.slow_interval_ns,
                "wakes_at_marks": watch.bell.rings,
            },
        )
        self._home.send({"report": report.as_dict()})


class _Watch:
    """One topology that is being sampled."""

    def __init__(
        self,
        config: SamplerConfig,
        sampler: HostSampler,
        bell: Doorbell,
        folder: TopologyFolder | None,
    ) -> None:
        self.config = config
        self.sampler = sampler
        self.bell = bell
        self.folder = folder
        self.grid = Grid(config.usage_interval_ns, sleep=self._sleep)
        self.time = Stopwatch()
        self.ended = False
        self.look: Callable[[], None] = lambda: None

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to sample: home says so, the runner, or a signal."""
        return self.ended or self.sampler.stopped or self.bell.stop

    def _sleep(self, seconds: float) -> None:
        if self.bell.sleep(seconds):
            self.look()


def _explained(error: OSError, config: SamplerConfig) -> str:
    where = f"{error.filename}: " if error.filename else ""
    said = f"{where}{error.strerror or error}"
    if error.errno in NO_DESCRIPTORS:
        needed = descriptors_needed(len(config.containers), len(config.service_parents) + 1)
        said += f": the sampler needs {needed} descriptors, raise the hard limit (ulimit -Hn)"
    return said


def serve(agent: Callable[[Home], Agent] = Agent) -> int:
    """Serve home with an agent of some kind; return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # It wakes a sleep where it is waited for, and is of no use elsewhere.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    raise_descriptor_limit()
    try:
        agent(Home()).serve()
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        sys.stderr.write(f"harness.sampling.agent: not understood: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(serve())
