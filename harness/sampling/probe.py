"""A container whose use of memory is known: ``python -m harness.sampling.probe STORE``.

It holds known amounts of memory of each kind for known times, writes down when (``truth.csv``),
and sets the marks of a run around each kind, so that the samplers see runs like any others.
"""

from __future__ import annotations

import mmap
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.results.conversation import (
    AFTER_START,
    BASELINE_END,
    BASELINE_START,
    RUN_END,
    RUN_START,
    HostsVerdict,
    MarkWriter,
)
from harness.results.directory import RunDirectory
from harness.results.memory import TruthRow
from harness.results.rows import RowWriter
from harness.sampling.meminfo import proc_size

MIB = 1 << 20
PULSE_BYTES = 512 * MIB
PULSES = 10
PULSE_S = 0.2
LEVEL_BYTES = 256 * MIB
# The engine's view has a reading each second: two of each level.
LEVEL_S = 2.2
FORKS = 4
PROBES = ("idle", "pulses", "shm", "file", "forks")
_SETTLE_TIMEOUT_S = 5.0


def _own_page_tables() -> int:
    return proc_size(Path("/proc/self/status").read_bytes(), b"VmPTE") or 0


def _anonymous(size: int) -> mmap.mmap:
    """Return private memory of which every page is there already."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)


@dataclass
class Probe:
    """Does one thing after the other.

    Args:
        marks: told when each begins and ends.
        settle: waits until memory is flat.
        truth: gets a row for each level.
        store: a directory of a real file system, for files.
    """

    marks: MarkWriter
    settle: Callable[[str], object]
    truth: RowWriter[TruthRow]
    store: Path

    def run(self) -> None:
        """Do everything, a run of its own each."""
        acts = (self._idle, self._pulses, self._shm, self._file, self._forks)
        for name, act in zip(PROBES, acts, strict=True):
            self.marks.write(name, BASELINE_START)
            self.settle(name)
            self.marks.write(name, BASELINE_END)
            time.sleep(LEVEL_S / 2)  # a reading of every view before
            self.marks.write(name, RUN_START)
            act()
            self.marks.write(name, RUN_END)

    def _level(
        self,
        probe: str,
        step: str,
        size: int,
        seconds: float,
        *,
        tables: int = 0,
        processes: int = 1,
    ) -> None:
        """Hold what is there now and write it down."""
        start_ns = time.monotonic_ns()
        time.sleep(seconds)
        end_ns = time.monotonic_ns()
        self.truth.write(TruthRow(probe, step, start_ns, end_ns, size, tables, processes))

    def _idle(self) -> None:
        self._level("idle", "idle", 0, LEVEL_S)

    def _pulses(self) -> None:
        # Pauses of other lengths, so that no clock can be in step with the pulses.
        chance = random.Random(0)
        for number in range(PULSES):
            before = _own_page_tables()
            memory = _anonymous(PULSE_BYTES)
            tables = max(_own_page_tables() - before, 0)
            self._level("pulses", f"pulse-{number}", PULSE_BYTES, PULSE_S, tables=tables)
            memory.close()
            time.sleep(chance.uniform(0.5, 1.0))

    def _shm(self) -> None:
        self._write(Path("/dev/shm/probe"), "shm", "written")  # noqa: S108

    def _file(self) -> None:
        path = self.store / "probe"
        self._write(path, "file", "written", unlink=False)
        for _ in range(2):
            with path.open("rb", buffering=0) as file:
                while file.read(MIB):
                    pass
        self._level("file", "re-read", LEVEL_BYTES, LEVEL_S)
        path.unlink()
        self._level("file", "unlinked", 0, LEVEL_S)

    def _write(self, path: Path, probe: str, step: str, *, unlink: bool = True) -> None:
        block = os.urandom(MIB)
        with path.open("wb", buffering=0) as file:
            for _ in range(LEVEL_BYTES // MIB):
                file.write(block)
        self._level(probe, step, LEVEL_BYTES, LEVEL_S)
        if unlink:
            path.unlink()

    def _forks(self) -> None:
        memory = _anonymous(LEVEL_BYTES)
        reader, writer = os.pipe()
        children = []
        for _ in range(FORKS):
            pid = os.fork()
            if pid == 0:
                os.close(writer)
                # Mapped, but not touched: until the parent lets go of the pipe.
                os.read(reader, 1)
                os._exit(0)
            children.append(pid)
        # The ledger's set sizes are read at this mark.
        self.marks.write("forks", AFTER_START)
        self._level("forks", "shared", LEVEL_BYTES, LEVEL_S, processes=1 + FORKS)
        os.close(writer)
        for pid in children:
            os.waitpid(pid, 0)
        os.close(reader)
        memory.close()


def main(arguments: list[str]) -> int:
    """Probe in the run directory that the environment names."""
    directory = RunDirectory(Path(os.environ["HARNESS_RUN_DIR"]))
    with (
        MarkWriter(directory.marks, directory.marks_ack, timeout_s=120) as marks,
        RowWriter(directory.truth, TruthRow) as truth,
    ):
        settle = HostsVerdict(directory.settled, _SETTLE_TIMEOUT_S)
        Probe(marks, settle, truth, Path(arguments[0])).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
