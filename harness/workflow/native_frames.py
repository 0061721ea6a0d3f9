"""Frames of compiled code in a trace, as people want them: those that say who holds memory.

memray knows the name of a function where its library has symbols. Where it has none, memray says
nothing at all; which library it was follows from the addresses that libraries were loaded at, which
are in the trace, too.

Most frames of compiled code are the interpreter's: how it calls, and how it gets its own memory.
They are left out, and so are those outside of the innermost Python frame, which has called them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Frame = tuple[str, str, int]
"""Function, file and line; the file is a library where it is not known, and its line then 0."""

_UNKNOWN = "<unknown>"
_DUMP = "import sys, memray; memray.dump_all_records(sys.argv[1])"
_SEGMENTS = re.compile(r"SEGMENT_HEADER filename=(.*) num_segments=\d+ addr=(0x[0-9a-f]+|\(nil\))")
_SEGMENT = re.compile(r"SEGMENT (\S+) ([0-9a-f]+)")
_NATIVE = re.compile(r"NATIVE_FRAME_ID ip=(0x[0-9a-f]+) index=(\d+)")
_MOST_DEEP = 200

# How memory is asked for, and a thread begun, is nobody's doing.
_PLUMBING = re.compile(
    r"_?_?(?:libc_)?(?:malloc|calloc|realloc|memalign|posix_memalign|aligned_alloc|mmap(?:64)?)"
    r"|operator new.*|start_thread|clone3?|_?_?libc_start.*|_start|main"
)
_OF_ALL = re.compile(
    r".*/(?:libpython3[\d.]*\.so[\d.]*|python3?[\d.]*|libc\.so\.6|libc-[\d.]+\.so)"
)
_INTERPRETERS_NAME = re.compile(r"_?Py[A-Z_].*|_Py.*|.*vectorcall.*|trace_call.*|call_trace.*")


@dataclass(frozen=True)
class NativeFrames:
    """Tells the frames of a trace's allocations.

    Attributes:
        addresses: of each native frame, by its number from 1, and the number of its caller's.
        libraries: generation of the memory map -> start, end and file of what was loaded.
    """

    addresses: Sequence[tuple[int, int]] = ()
    libraries: Sequence[Sequence[tuple[int, int, str]]] = ()
    _known: dict[tuple[int, int], tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> NativeFrames:
        """Read where libraries were loaded; nothing is known of them if that fails."""
        command = [sys.executable, "-c", _DUMP, os.fspath(path)]
        try:
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as dump:
                assert dump.stdout is not None
                return cls(*parse(dump.stdout))
        except (OSError, ValueError):
            return cls()

    def stack(self, record: Any) -> list[Frame]:
        """Return the frames of an allocation, the innermost first.

        Args:
            record: memray's.
        """
        python = record.stack_trace()
        native = record.native_stack_trace()
        hybrid: list[Frame] = record.hybrid_stack_trace()
        libraries = self._libraries(record.native_stack_id, record.native_segment_generation)
        known = set(python)
        # Up to the innermost frame of Python they are the same.
        inner = next((n for n, frame in enumerate(hybrid) if frame in known), len(hybrid))
        # Functions that were inlined have frames and no address: none where no file is known.
        unknown = next((n for n, frame in enumerate(native) if frame[1] != _UNKNOWN), len(native))
        exact = len(libraries) if len(libraries) == len(native) else min(unknown, len(libraries))
        placed = [
            _placed(frame, libraries[n] if n < exact else "")
            for n, frame in enumerate(hybrid[:inner])
        ]
        told = _telling(placed)
        # What nothing at all is known of says less than the Python that has called it.
        return [*(frame for frame in told if not python or frame[1] != _UNKNOWN), *python]

    def _libraries(self, number: int, generation: int) -> tuple[str, ...]:
        """Return the library of each frame of a stack, the innermost first."""
        key = number, generation
        if key not in self._known:
            self._known[key] = tuple(self._walk(number, generation))
        return self._known[key]

    def _walk(self, number: int, generation: int) -> Iterator[str]:
        loaded = self.libraries[generation - 1] if 0 < generation <= len(self.libraries) else ()
        starts = [start for start, _, _ in loaded]
        for _ in range(_MOST_DEEP):
            if not 0 < number <= len(self.addresses):
                return
            address, number = self.addresses[number - 1]
            place = bisect_right(starts, address) - 1
            inside = place >= 0 and address < loaded[place][1]
            yield loaded[place][2] if inside else ""


def parse(
    lines: Iterable[str],
) -> tuple[list[tuple[int, int]], list[list[tuple[int, int, str]]]]:
    """Return addresses and libraries of what ``memray.dump_all_records`` prints.

    Raises:
        ValueError: if a number is none.
    """
    addresses: list[tuple[int, int]] = []
    maps: list[list[tuple[int, int, str]]] = []
    file, base = "", 0
    for line in lines:
        if line.startswith("NATIVE_FRAME_ID"):
            if found := _NATIVE.match(line):
                addresses.append((int(found[1], 16), int(found[2])))
        elif line.startswith("MEMORY_MAP_START"):
            maps.append([])
        elif line.startswith("SEGMENT_HEADER"):
            if found := _SEGMENTS.match(line):
                file, base = found[1], _address(found[2])
        elif line.startswith("SEGMENT ") and maps and (found := _SEGMENT.match(line)):
            start = base + _address(found[1])
            maps[-1].append((start, start + int(found[2], 16), file))
    return addresses, [sorted(each) for each in maps]


def _address(text: str) -> int:
    # A program that is always at the same place is loaded at none.
    return 0 if text == "(nil)" else int(text, 16)


def _placed(frame: Frame, library: str) -> Frame:
    """Return a frame with its library where memray knows no file of it."""
    function, file, _ = frame
    if file != _UNKNOWN or not library:
        return frame
    return (function if function != _UNKNOWN else ""), os.path.normpath(library), 0


def _telling(frames: Sequence[Frame]) -> list[Frame]:
    """Return the frames that say something, each place once."""
    found: list[Frame] = []
    for frame in frames:
        function, file, _ = frame
        if _PLUMBING.fullmatch(function) or _INTERPRETERS_NAME.fullmatch(function):
            continue
        if _OF_ALL.fullmatch(file):
            continue
        if not found or found[-1] != frame:
            found.append(frame)
    return found
