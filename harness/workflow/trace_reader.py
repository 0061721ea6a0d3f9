"""Turn memray's file of one process into a small one that needs no memray to be read.

It is run as a program, where the file was written: in the runner's container, after the run.

The file that comes out holds who held how much at each of the trace's own readings, for all that
ever held enough to matter, and exactly at the process's peak.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.workflow.native_frames import Frame, NativeFrames

# Less is nobody's explanation, and storms of tiny tasks have a hundred thousand places.
LEAST_BYTES = 32 * 1024
MOST_STACKS = 4000
MOST_FRAMES = 60
MOST_READINGS = 6000
MOST_BYTES = 4 << 20

SCHEMA_VERSION = 1


class _Frames:
    """Numbers for frames, so that each is written once.

    Args:
        native: tells the frames of compiled code, too; None without them.
    """

    def __init__(self, native: NativeFrames | None) -> None:
        self.known: dict[Frame, int] = {}
        self._native = native

    def stack(self, record: Any) -> list[int]:
        frames = record.stack_trace() if self._native is None else self._native.stack(record)
        return [self.known.setdefault(f, len(self.known)) for f in list(frames)[:MOST_FRAMES]]


def convert(path: Path) -> dict[str, Any]:
    """Return what a trace says.

    Raises:
        Exception: whatever memray raises on a file that is cut short or none of its own.
    """
    from memray import FileReader  # noqa: PLC0415  # half of the time this takes

    with FileReader(os.fspath(path)) as reader:
        metadata = reader.metadata
        readings = list(reader.get_memory_snapshots())
        native = NativeFrames.read(path) if metadata.has_native_traces else None
        frames = _Frames(native)
        times = [reading.time for reading in readings]
        step = -(-len(times) // MOST_READINGS) or 1
        peak = [
            [frames.stack(record), record.n_allocations, record.size]
            for record in _largest(
                reader.get_high_watermark_allocation_records(merge_threads=True),
                lambda record: record.size,
            )
        ]
        alive = []
        records = reader.get_temporal_allocation_records(merge_threads=True) or ()
        for record in _largest(records, lambda r: _most(r.intervals)):
            spans = [
                (i.allocated_before_snapshot, i.deallocated_before_snapshot, *_size_of(i))
                for i in record.intervals
            ]
            alive.append([frames.stack(record), spans])
        found = {
            "schema_version": SCHEMA_VERSION,
            "command": " ".join(metadata.command_line.split())[:300],
            "pid": metadata.pid,
            "peak_bytes": metadata.peak_memory,
            "allocations": metadata.total_allocations,
            "first_ms": times[0] if times else 0,
            # Times and heap at each reading; of a long run only some are written.
            "native": native is not None,
            "step": step,
            "readings": len(times),
            "times_ms": [t - times[0] for t in times[::step]],
            "heap_bytes": [reading.heap for reading in readings[::step]],
            "rss_bytes": [reading.rss for reading in readings[::step]],
            "frames": [list(frame) for frame in frames.known],
            "peak": peak,
            "alive": alive,
        }
    return found  # noqa: RET504  # memray does not say that its reader lets errors through


def _size_of(each: Any) -> tuple[int, int]:
    return each.n_allocations, each.n_bytes


def _largest(records: Iterable[Any], size: Any) -> list[Any]:
    found = [record for record in records if size(record) >= LEAST_BYTES]
    return sorted(found, key=size, reverse=True)[:MOST_STACKS]


def _most(intervals: Sequence[Any]) -> int:
    """Return the most bytes of one place that were there at one time."""
    changes: dict[int, int] = {}
    for each in intervals:
        start, end = each.allocated_before_snapshot, each.deallocated_before_snapshot
        changes[start] = changes.get(start, 0) + each.n_bytes
        if end is not None:
            changes[end] = changes.get(end, 0) - each.n_bytes
    level = most = 0
    for _, change in sorted(changes.items()):
        level += change
        most = max(most, level)
    return most


def main(argv: Sequence[str]) -> int:
    """Read one file, write another; say in one line why that cannot be done."""
    source, target = Path(argv[0]), Path(argv[1])
    try:
        found = convert(source)
    except Exception as error:  # noqa: BLE001  # a process that was killed leaves half a file
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    text = json.dumps(found, separators=(",", ":"))
    while len(text) > MOST_BYTES and found["alive"]:
        # The smallest are last.
        del found["alive"][len(found["alive"]) // 2 :]
        text = json.dumps(found, separators=(",", ":"))
    part = target.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.rename(target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
