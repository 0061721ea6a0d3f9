"""The inside view of one process and its descendants, by a process of its own beside it.

``python -m harness.sampling.process_tree PID DIRECTORY NAME INTERVAL [tied]`` writes the same
files as the sampler of a container does, into a directory that somebody collects: see ``spool``.
It ends with its standard input, with the process, or when nobody has asked for its rows for a
long time, and then removes them. ``tied``: whoever started it ends with those who collect, so that
nobody has to ask; if its standard input ends without a word, nobody will, and it removes the rows.

The memory of the harness's own processes, for runs outside of containers.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from pathlib import Path

import psutil

from harness.results.conversation import Settle, Settled
from harness.sampling.inside.sampler import sample_until
from harness.sampling.process_memory import ProcessSums, SampledProcess
from harness.sampling.settling import settle_by_reading
from harness.sampling.spool import LEASE, LEASE_S, remove_if_empty

_LEASE_POLL_S = 5.0


class ProcessTree(ProcessSums):
    """A process and its descendants, without samplers of this package among them."""

    def __init__(self, root: int) -> None:
        self._root = psutil.Process(root)
        super().__init__()

    @property
    def ended(self) -> bool:
        """Whether the process is gone; a number in use again is another process."""
        return not self._root.is_running()

    def _pids(self) -> list[int]:
        try:
            below = self._root.children(recursive=True)
        except psutil.Error:
            return []
        return [self._root.pid, *(process.pid for process in below)]

    def _is_counted(self, process: psutil.Process) -> bool:
        return not any(word.startswith("harness.sampling.") for word in process.cmdline())


class _Parent:
    """Watches standard input and the lease."""

    def __init__(self, directory: Path, *, tied: bool = False) -> None:
        self.gone = False
        self.forgotten = tied
        self._tied = tied
        self._lease = directory.parent / LEASE
        self._next_look = time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep at most ``seconds``, less if the parent is gone."""
        # Not select: that takes no descriptor above 1,023.
        poll = select.poll()
        poll.register(sys.stdin.fileno(), select.POLLIN)
        if poll.poll(seconds * 1000):
            self.gone = os.read(sys.stdin.fileno(), 4096) == b""
            if not self.gone:  # a word
                self.forgotten = False

    def look(self) -> bool:
        """Return whether to end."""
        if self._tied:
            return self.gone
        if time.monotonic() >= self._next_look:
            self._next_look += _LEASE_POLL_S
            try:
                self.forgotten = time.time() - self._lease.stat().st_mtime > LEASE_S
            except OSError:
                self.forgotten = True
        return self.gone or self.forgotten


def main(arguments: list[str]) -> int:
    """Sample until there is no reason to."""
    pid, directory, name, interval_s, *more = arguments
    path = Path(directory)
    parent = _Parent(path, tied=more == ["tied"])
    try:
        tree = ProcessTree(int(pid))
        sample_until(
            lambda: parent.look() or tree.ended,
            sleep=parent.sleep,
            run_dir=directory,
            container=name,
            interval_s=float(interval_s),
            processes=tree,
        )
    except (OSError, ValueError, psutil.Error) as error:
        sys.stderr.write(f"harness.sampling.process_tree: {error}\n")
        return 3
    finally:
        if parent.forgotten:
            shutil.rmtree(path, ignore_errors=True)
            remove_if_empty(path.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))


def settle_own_processes(window_s: float, bound_bytes: int, timeout_s: float) -> Settle:
    """Return what waits until this process and those below it have flat resident memory.

    Samplers of this package are not counted, and neither are workers on other hosts.
    """

    def settle(_run_id: str) -> Settled:
        below = ProcessTree(os.getpid())
        runner = SampledProcess(os.getpid())

        def read() -> int | None:
            try:
                below.refresh()  # a worker that starts now counts, too
                return runner.rss() + below.rss().rss_bytes
            except psutil.Error:
                return None

        try:
            return settle_by_reading(read, window_s, bound_bytes, timeout_s)
        finally:
            runner.close()

    return settle
