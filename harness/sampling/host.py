"""Host-wide memory as psbench records it: ``results-memory.csv``.

The columns and their meaning are psbench's. Unlike there, samples keep an absolute grid, none is
kept in memory, and the sampler is a process that ends with its parent however that ends.
"""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from harness.core.errors import InfrastructureError
from harness.results.rows import columns
from harness.results.schema import HostRow
from harness.sampling.grid import Grid
from harness.sampling.meminfo import HostMemoryReader
from harness.sampling.report import Stopwatch, ViewReport, own_rss_max_bytes, write_report
from harness.sampling.writer import LineWriter

if TYPE_CHECKING:
    from types import TracebackType

# Starting Python takes 50 ms, but a minute is not too much for a loaded or emulated machine.
_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0


class HostProfiler:
    """Writes host-wide samples to ``csv_path`` while in its context.

    ``interval_s`` is the time between samples in seconds. A report goes beside the file, see
    ``report``. Raises InfrastructureError if sampling cannot start.
    """

    def __init__(self, interval_s: float, csv_path: str | Path) -> None:
        self._interval_s = interval_s
        self._path = Path(csv_path)

    def __enter__(self) -> Self:
        # Imported here so that the sampler itself, which is this module too, stays small.
        from harness.sampling.child import SamplerChild  # noqa: PLC0415

        self._child = SamplerChild("harness.sampling.host", str(self._path), str(self._interval_s))
        if self._child.read_line(_READY_TIMEOUT_S) is None:
            code = self._child.stop(_STOP_TIMEOUT_S)
            raise InfrastructureError(
                f"{self._path}: host memory sampling did not start (exit code {code});"
                " its message is above"
            )
        return self

    @property
    def pid(self) -> int:
        """Process number of the sampler, while in the context."""
        return self._child.pid

    def exit_code(self) -> int | None:
        """Return the sampler's exit code if it has ended, while in the context."""
        return self._child.poll()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._child.stop(_STOP_TIMEOUT_S)


def sample(path: Path, interval_s: float) -> None:
    """Sample until standard input ends. Raises OSError or ValueError."""
    parent = sys.stdin.fileno()
    parent_gone = False

    def sleep(seconds: float) -> None:
        nonlocal parent_gone
        readable, _, _ = select.select([parent], [], [], seconds)
        if readable:
            parent_gone = os.read(parent, 4096) == b""

    grid = Grid(round(interval_s * 1e9), sleep=sleep)
    reader = HostMemoryReader()
    writer = LineWriter(str(path), columns(HostRow))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    watch = Stopwatch()
    try:
        for _ in grid.ticks(lambda: parent_gone):
            now = time.time()
            memory = reader.read()
            writer.write(f"{now},{memory.total},{memory.available},{memory.used},{memory.free}\n")
            writer.flush_if_due()
    finally:
        writer.close()
    write_report(
        path.parent,
        ViewReport(
            view="host",
            name=path.stem,
            grid=grid.report(),
            elapsed_ns=watch.elapsed_ns(),
            cpu_ns=watch.cpu_ns(),
            rss_max_bytes=own_rss_max_bytes(),
        ),
    )


def main(arguments: list[str]) -> int:
    """Sample into the file and at the interval given."""
    path, interval_s = arguments
    try:
        sample(Path(path), float(interval_s))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"harness.sampling.host: {error}\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
