"""Do the views agree, and do the parts add up? One pass over the samples of a run directory.

All views read the same counter of the kernel, at moments of their own. Two readings agree if the
other view's lies between the lowest and the highest that the cgroup view saw around that moment;
what it is outside of that is their disagreement. Memory does not grow with the cgroup samples,
the largest file: it is read as a stream.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.text import one_line
from harness.results.directory import RunDirectory
from harness.results.rows import ForeignFileError, csv_lines, parse_integer
from harness.sampling.grid import Histogram

# How far apart two readings of the same moment may be: a reading of the inside view and the
# cgroup view's neighbouring ticks; the engine reads its containers one after the other and tells
# the time once.
INSIDE_REACH_NS = 25_000_000
DOCKER_REACH_NS = 60_000_000
PARTS = ("anon_bytes", "shmem_bytes", "file_bytes", "kernel_bytes")
# Empty on cgroup v1, which does not charge it, and missing in files from before it was read.
SOCK = "sock_bytes"

# Of the largest number that is surely below 2**63.
_DIGITS = 19


@dataclass
class Deviation:
    """How far readings were off.

    Attributes:
        readings: how many were compared.
        largest_bytes: the largest deviation, with its sign.
        largest_at: container and run it was seen in.
        sizes: of the deviations without sign.
    """

    readings: int = 0
    largest_bytes: int = 0
    largest_at: str = ""
    sizes: Histogram = field(default_factory=Histogram)

    def add(self, deviation_bytes: int, where: str) -> None:
        """Take one reading in."""
        self.readings += 1
        self.sizes.add(abs(deviation_bytes))
        if abs(deviation_bytes) > abs(self.largest_bytes):
            self.largest_bytes, self.largest_at = deviation_bytes, where

    def as_dict(self) -> dict[str, int | str]:
        """Return the figures for a JSON file; the quantiles are at most 1/16 too high."""
        return {
            "readings": self.readings,
            "median_bytes": self.sizes.quantile(0.5),
            "p95_bytes": self.sizes.quantile(0.95),
            "p99_bytes": self.sizes.quantile(0.99),
            "largest_bytes": self.largest_bytes,
            "largest_at": self.largest_at,
        }


@dataclass(frozen=True)
class CrossCheck:
    """What one pass found.

    Attributes:
        identity: usage less the sum of its parts, on every sample that has them.
        inside, docker: the cgroup's usage as read by the other views against the cgroup view.
        gaps_ns: view -> container -> longest time between two of its samples within one run.
    """

    identity: Deviation
    inside: Deviation
    docker: Deviation
    gaps_ns: dict[str, dict[str, int]]


@dataclass
class _Series:
    """Another view's readings of one container, taken up one by one in time order."""

    times: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    at: int = 0


def sample_rows(path: Path, *names: str) -> Iterator[tuple[str, str, list[int | None]]]:
    """Yield run, container and some numbers of each whole row of samples, as a stream.

    A cell that is empty or no number is None, and so is a column that a file from before it was
    added has not. A file that is missing, or another, has no rows; the report says so.

    Args:
        path: the file.
        names: of the columns; without the first the file is another.
    """
    # There are few different names.
    safe: dict[str, str] = {}
    header: list[str] = []
    places: list[int | None] = []
    try:
        for line in csv_lines(path, ("run_id", "container", names[0])):
            if line.header is not header:
                header = line.header
                places = [header.index(name) if name in header else None for name in names]
                run, container = header.index("run_id"), header.index("container")
            cells = line.cells
            if line.ended and len(cells) == len(header):
                numbers = [None if place is None else _number(cells[place]) for place in places]
                for name in (cells[run], cells[container]):
                    if name not in safe:
                        safe[name] = one_line(name)
                yield safe[cells[run]], safe[cells[container]], numbers
    except (OSError, ForeignFileError):
        return


def _number(cell: str) -> int | None:
    if not cell:
        return None
    if cell.isdigit() and cell.isascii() and len(cell) < _DIGITS:
        return int(cell)
    value = parse_integer(cell)
    return value if value is not None and 0 <= value < 2**63 else None


def _series(path: Path, time: str, value: str) -> dict[str, _Series]:
    found: dict[str, _Series] = defaultdict(_Series)
    for run_id, container, (moment, amount) in sample_rows(path, time, value):
        if run_id and moment is not None and amount is not None:
            found[container].times.append(moment)
            found[container].values.append(amount)
    return found


class _Against:
    """Compares another view's readings with the cgroup view's around them."""

    def __init__(self, others: dict[str, _Series], reach_ns: int) -> None:
        self.deviation = Deviation()
        self._others = others
        self._reach_ns = reach_ns
        self._recent: dict[str, deque[tuple[int, int]]] = defaultdict(deque)

    def cgroup_sample(self, container: str, time_ns: int, usage: int, run_id: str) -> None:
        """Take one sample of the cgroup view, on the other view's clock."""
        series = self._others.get(container)
        if series is None:
            return
        recent = self._recent[container]
        recent.append((time_ns, usage))
        while series.at < len(series.times) and series.times[series.at] + self._reach_ns < time_ns:
            moment, value = series.times[series.at], series.values[series.at]
            series.at += 1
            near = [u for t, u in recent if abs(t - moment) <= self._reach_ns]
            # A reading with none around it fell into a gap, which is told as such.
            if near:
                off = value - min(max(value, min(near)), max(near))
                self.deviation.add(off, f"{container} {run_id}".strip())
        oldest = time_ns - 4 * self._reach_ns
        while recent and recent[0][0] < oldest:
            recent.popleft()


def crosscheck(directory: RunDirectory) -> CrossCheck:
    """Compare the views of a run directory; one that is missing has no readings."""
    inside_path, docker_path = directory.memory("inside"), directory.memory("docker")
    identity = Deviation()
    inside = _Against(_series(inside_path, "t_mono_ns", "cg_usage_bytes"), INSIDE_REACH_NS)
    docker = _Against(_series(docker_path, "t_read_unix_ns", "usage_bytes"), DOCKER_REACH_NS)
    names = ("usage_bytes", "t_mono_ns", "t_unix_ns", *PARTS, SOCK)
    for run_id, container, numbers in sample_rows(directory.memory("cgroup"), *names):
        usage, mono_ns, unix_ns, *parts, sock = numbers
        if usage is None:
            continue
        known = [part for part in parts if part is not None]
        if len(known) == len(parts):
            identity.add(usage - sum(known) - (sock or 0), f"{container} {run_id}".strip())
        if mono_ns is not None:
            inside.cgroup_sample(container, mono_ns, usage, run_id)
        if unix_ns is not None:
            docker.cgroup_sample(container, unix_ns, usage, run_id)
    gaps = {
        view: _gaps(directory.memory(view), time)
        for view, time in (
            ("cgroup", "t_mono_ns"),
            ("inside", "t_mono_ns"),
            ("docker", "t_mono_recv_ns"),
        )
    }
    return CrossCheck(identity, inside.deviation, docker.deviation, gaps)


def _gaps(path: Path, time: str) -> dict[str, int]:
    last: dict[str, tuple[str, int]] = {}
    longest: dict[str, int] = {}
    for run_id, container, (moment,) in sample_rows(path, time):
        if not run_id or moment is None:
            continue
        now = (run_id, moment)
        before = last.get(container)
        if before is not None and before[0] == now[0]:
            longest[container] = max(longest.get(container, 0), now[1] - before[1])
        last[container] = now
    return longest
