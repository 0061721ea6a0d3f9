"""The files in ``traces/``: one for each process of a traced run.

They are small JSON files that the runner has made of memray's. Containers wrote them, so whoever
reads one trusts nothing in it: its size and numbers are bounded and its texts are made safe.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.files import write_whole
from harness.core.text import one_line
from harness.results.directory import RunDirectory
from harness.results.shared import SharedFolder

MOST_FILE_BYTES = 4 << 20
MOST_FILES = 2000

NOT_TRACED = "{}.not-traced.json"
"""Name of the file that says which processes of a run could not be traced, and why."""

NAME = re.compile(
    r"(?P<run>\d{4,}-[a-z-]+-\d+)\.(?:(?P<place>[A-Za-z0-9_-]{1,80})\.(?P<pid>\d{1,10})|not-traced)"
    r"\.json",
    re.ASCII,
)

_MOST = 10**15
_SCHEMA_VERSION = 1


def trace_name(run_id: str, container: str, pid: str) -> str:
    """Return the name of one process's file."""
    return f"{run_id}.{re.sub('[^A-Za-z0-9_-]', '_', container)[:80]}.{pid}.json"


def trace_files(shared: SharedFolder) -> list[str]:
    """Return the names of the traces in a topology's folder, relative to it."""
    folder = RunDirectory(Path()).traces.name
    try:
        names = os.listdir(shared.path / folder)  # noqa: PTH208  # no objects for each
    except OSError:
        return []
    return [f"{folder}/{name}" for name in sorted(filter(NAME.fullmatch, names))[:MOST_FILES]]


def take_traces(
    shared: SharedFolder, directory: RunDirectory, runs: Collection[str], places: Collection[str]
) -> None:
    """Take the traces of a topology into the run directory, those of its runs and containers."""
    for name in trace_files(shared):
        found = NAME.fullmatch(name.rpartition("/")[2])
        if found is None or found["run"] not in runs:
            continue
        if found["place"] is not None and found["place"] not in places:
            continue
        data = shared.read(name, MOST_FILE_BYTES + 1)
        if data is not None:
            directory.traces.mkdir(exist_ok=True)
            write_whole(directory.path / name, data)


Frame = tuple[str, str, int]
"""Function, file and line."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes that one place held from one reading to another.

    Attributes:
        start, end: numbers of readings, the first within; None: to the end.
        count: number of allocations.
        size_bytes: all of them together.
    """

    start: int
    end: int | None
    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """A stack, the innermost frame first, and what it held when."""

    stack: tuple[Frame, ...]
    spans: tuple[Span, ...]

    def at(self, reading: int) -> tuple[int, int]:
        """Return number and bytes of the allocations that were there at a reading."""
        there = [s for s in self.spans if s.start <= reading and (s.end is None or reading < s.end)]
        return sum(s.count for s in there), sum(s.size_bytes for s in there)


@dataclass(frozen=True, slots=True)
class Held:
    """What one place held at one moment: number and bytes of allocations."""

    stack: tuple[Frame, ...]
    count: int
    size_bytes: int


@dataclass(frozen=True)
class Trace:
    """What one process allocated during one run, beyond what it had before.

    Attributes:
        run_id: the run.
        container: name of the container, ``worker-1``.
        pid: process number there.
        command: the process's command line, shortened.
        peak_bytes: the most that was there at one time, exactly.
        allocations: number of all allocations.
        peak: who held it then, the largest first.
        places: who held how much when, the largest first.
        times_ns: UNIX time of each reading.
        heap_bytes: allocated and not yet freed at each reading.
    """

    run_id: str
    container: str
    pid: int
    command: str
    peak_bytes: int
    allocations: int
    peak: tuple[Held, ...]
    places: tuple[Place, ...]
    step: int
    times_ns: tuple[int, ...] = field(repr=False)
    heap_bytes: tuple[int, ...] = field(repr=False)

    def reading_at(self, t_unix_ns: int) -> int | None:
        """Return the last reading at or before a time; None before the first."""
        place = None
        for number, t_ns in enumerate(self.times_ns):
            if t_ns > t_unix_ns:
                break
            place = number
        return None if place is None else place * self.step

    def held(self, reading: int) -> list[Held]:
        """Return who held how much at a reading, the largest first."""
        found = [Held(place.stack, *place.at(reading)) for place in self.places]
        return sorted((h for h in found if h.size_bytes), key=lambda h: -h.size_bytes)

    @property
    def peak_at(self) -> int:
        """Which reading has the most on the heap: as near to the peak as readings are."""
        levels = self.heap_bytes
        return max(range(len(levels)), key=levels.__getitem__) * self.step if levels else 0


def read_traces(folder: Path) -> tuple[list[Trace], list[str]]:
    """Return the traces in a folder, and a line for each file that is none and each lack."""
    traces: list[Trace] = []
    problems: list[str] = []
    for path in _files(folder):
        found = NAME.fullmatch(path.name)
        assert found is not None
        try:
            with path.open("rb") as file:
                data = file.read(MOST_FILE_BYTES + 1)
            if len(data) > MOST_FILE_BYTES:
                raise ValueError(f"has more than {MOST_FILE_BYTES} bytes")
            document = json.loads(data)
            if found["pid"] is None:
                problems += [_lack(line) for line in _list(document)[:50]]
            else:
                traces.append(_trace(found["run"], found["place"], int(found["pid"]), document))
        except (OSError, ValueError, RecursionError) as error:
            said = one_line(str(error))[:100]
            problems.append(f"traces/{path.name}: is no trace of a process ({said}): left out")
    return traces, problems


def _lack(line: Any) -> str:
    return f"not traced: {one_line(str(line))[:200]}"


def _files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir() or folder.is_symlink():
        return
    paths = sorted(p for p in folder.iterdir() if NAME.fullmatch(p.name))[:MOST_FILES]
    yield from (path for path in paths if path.is_file() and not path.is_symlink())


def _trace(run_id: str, container: str, pid: int, document: Any) -> Trace:
    """Return a trace. Raises ValueError for anything else."""
    if not isinstance(document, dict) or document.get("schema_version") != _SCHEMA_VERSION:
        raise ValueError("not of this version")
    frames = [_frame(each) for each in _list(document.get("frames"))]
    first, step = _number(document.get("first_ms")), _number(document.get("step"), least=1)
    times = [_number(t) for t in _list(document.get("times_ms"))]
    heap = [_number(n) for n in _list(document.get("heap_bytes"))]
    if len(times) != len(heap) or times != sorted(times):
        raise ValueError("readings do not fit together")
    return Trace(
        run_id=run_id,
        container=container,
        pid=pid,
        command=one_line(str(document.get("command")))[:300],
        peak_bytes=_number(document.get("peak_bytes")),
        allocations=_number(document.get("allocations")),
        peak=tuple(_held(each, frames) for each in _list(document.get("peak"))),
        places=tuple(_place(each, frames) for each in _list(document.get("alive"))),
        step=step,
        times_ns=tuple((first + t) * 1_000_000 for t in times),
        heap_bytes=tuple(heap),
    )


def _frame(each: Any) -> Frame:
    function, file, line = _list(each, 3)
    return one_line(str(function))[:200], one_line(str(file))[:500], _number(line)


def _stack(numbers: Any, frames: list[Frame]) -> tuple[Frame, ...]:
    found = [_number(n) for n in _list(numbers)]
    if any(n >= len(frames) for n in found):
        raise ValueError("a frame that is not there")
    return tuple(frames[n] for n in found)


def _held(each: Any, frames: list[Frame]) -> Held:
    stack, count, size = _list(each, 3)
    return Held(_stack(stack, frames), _number(count), _number(size))


def _place(each: Any, frames: list[Frame]) -> Place:
    stack, spans = _list(each, 2)
    return Place(_stack(stack, frames), tuple(_span(span) for span in _list(spans)))


def _span(each: Any) -> Span:
    start, end, count, size = _list(each, 4)
    last = None if end is None else _number(end)
    return Span(_number(start), last, _number(count), _number(size))


def _list(value: Any, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise ValueError("a list is missing")
    return value


def _number(value: Any, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= _MOST:
        raise ValueError("a number is missing, or is out of bounds")
    return value
