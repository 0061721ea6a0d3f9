"""From spools on workers' hosts to the files of the run directory, whoever fetches the pieces."""

from __future__ import annotations

import csv
import io
import time
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from harness.core.files import write_whole
from harness.results.rows import columns
from harness.results.schema import InsideRow, WorkerRow
from harness.sampling.clocks import Offset
from harness.sampling.grid import GridReport
from harness.sampling.marks import MarksTail
from harness.sampling.report import ViewReport, write_report
from harness.sampling.spool import Runs, adopt_rows
from harness.sampling.writer import LineWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.results.directory import RunDirectory
    from harness.sampling.spool import Piece, Sampled


def _by_name(piece: Piece) -> tuple[str, int, str]:
    name = piece.sampled.workers[0][0] if piece.sampled.workers else ""
    return (piece.sampled.host, int(name) if name.isdigit() else -1, name)


class Collector:
    """Takes pieces of rows, names their workers, puts them on our clock, and writes them.

    Args:
        directory: the run directory.
        clock: our ``clock_id``.
    """

    def __init__(self, directory: RunDirectory, clock: str) -> None:
        self._directory = directory
        self._clock = clock
        self._marks = MarksTail(str(directory.marks))
        self._runs = Runs()
        self._rows = LineWriter(str(directory.memory("inside")), columns(InsideRow))
        self._containers: dict[str, str] = {}
        self._sampled: dict[str, Sampled] = {}
        self._reported: set[str] = set()
        self.offsets: dict[str, int] = {}
        """Bytes taken so far of each process's rows."""
        self.first: dict[str, Offset] = {}
        self.last: dict[str, Offset] = {}
        """Clock offsets by address of the worker."""
        self._previous: dict[str, Offset] = {}

    def found(self) -> dict[str, Sampled]:
        """Return the sampled processes by their names."""
        return {name: self._sampled[process] for process, name in self._containers.items()}

    def measured(self, address: str, offset: Offset) -> None:
        """Note the offset of one worker's clock; rows after the one before lie in between."""
        self._previous[address] = self.last.get(address, offset)
        self.first.setdefault(address, offset)
        self.last[address] = offset

    def take(self, pieces: Mapping[str, Piece]) -> bool:
        """Write what is new, and return whether there may be more."""
        self._runs.add(self._marks.poll())
        more = False
        for process, piece in sorted(pieces.items(), key=lambda item: _by_name(item[1])):
            if not piece.sampled.workers:
                continue
            clocks = self._clocks(piece.sampled)
            if clocks is None and piece.sampled.clock != self._clock:
                # A worker that joined just now: its rows wait until its clock is measured.
                continue
            container = self._containers.setdefault(process, f"worker-{len(self._containers) + 1}")
            self._sampled[process] = piece.sampled
            more = more or bool(piece.rows)
            self.offsets[process] = self.offsets.get(process, 0) + len(piece.rows)
            unix_minus_mono_ns = time.time_ns() - time.monotonic_ns()
            for line in adopt_rows(piece.rows, container, self._runs, clocks, unix_minus_mono_ns):
                self._rows.write(line)
            if piece.report is not None and not piece.rows:
                self._report(process, piece.report)
        self._rows.flush()
        return more

    def _clocks(self, sampled: Sampled) -> tuple[Offset, Offset] | None:
        if sampled.clock == self._clock:
            return None
        for _, address in sampled.workers:
            if address in self.last:
                return self._previous[address], self.last[address]
        return None

    def _report(self, process: str, report: dict[str, Any]) -> None:
        self._reported.add(process)
        grid = report.pop("grid")
        renamed = report | {"name": self._containers[process], "grid": GridReport(**grid)}
        write_report(self._directory.path, ViewReport(**renamed))

    def seen(self, address: str) -> bool:
        """Return whether a worker has rows."""
        return any(
            address == known and self.offsets.get(process)
            for process, sampled in self._sampled.items()
            for _, known in sampled.workers
        )

    def write_workers(self) -> None:
        """Write ``workers.csv`` as far as it is known, whole or not at all."""
        out = io.StringIO()
        table = csv.writer(out, lineterminator="\n")
        table.writerow(columns(WorkerRow))
        for process, container in self._containers.items():
            sampled = self._sampled[process]
            for name, address in sampled.workers:
                table.writerow(astuple(self._worker_row(container, name, address, sampled)))
        write_whole(self._directory.workers, out.getvalue())

    def _worker_row(self, container: str, name: str, address: str, sampled: Sampled) -> WorkerRow:
        own = sampled.clock == self._clock
        known = Offset(0, 0, 0) if own else None
        first, last = self.first.get(address, known), self.last.get(address, known)
        return WorkerRow(
            container=container,
            worker=name,
            address=address,
            host=sampled.host,
            pid=sampled.pid,
            clock="same" if own else "measured",
            clock_offset_ns=first.offset_ns if first else None,
            offset_error_ns=first.error_ns if first else None,
            clock_offset_end_ns=last.offset_ns if last else None,
            offset_end_error_ns=last.error_ns if last else None,
        )

    def lost(self) -> list[str]:
        """Return the workers whose samplers' ends nobody could read, and note them as ended."""
        lost = []
        for process, container in self._containers.items():
            if process in self._reported:
                continue
            lost.append(container)
            why = {"rows after the last run": "the worker's host or container is gone"}
            write_report(
                self._directory.path,
                ViewReport(view="inside", name=container, absent=why, ended=[container]),
            )
        return lost

    def close(self) -> None:
        """Write what is buffered and the table of workers."""
        self.write_workers()
        self._rows.close()
        self._marks.close()
