"""What the samplers say of their own work, and whether the views agree: ``quality.json``.

Do the views agree, and do the parts add up? One pass over the samples of a run directory.

All views read the same counter of the kernel, at moments of their own. Two readings agree if the
other view's lies between the lowest and the highest that the cgroup view saw around that moment;
what it is outside of that is their disagreement. Memory does not grow with the cgroup samples,
the largest file: it is read as a stream.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.text import one_line
from harness.results.directory import RunDirectory
from harness.results.documents import read_document, write_json
from harness.results.rows import ForeignFileError, csv_lines, parse_integer, read_table
from harness.results.schema import PhaseRow
from harness.sampling.grid import Histogram

SCHEMA_VERSION = 1

STOCK_BYTES = 64 * 4096
"""The kernel charges a container's memory in stocks of up to 64 pages for each CPU: a counter is
ahead of the use by up to this much (mm/memcontrol.c, MEMCG_CHARGE_BATCH), usage of its parts too,
and readings that are not made at once may differ by it."""
# What holds beside it where nothing was calibrated.
DEFAULT_BOUNDS = {"identity": 2**20, "inside": 2**20, "docker": 2**20}


@dataclass(frozen=True)
class Bounds:
    """How far views may disagree, at the 95th percentile, in bytes, and who says so."""

    bytes_by_name: dict[str, int]
    source: str


def find_calibration(directory: Path) -> Path | None:
    """Return the calibration that is nearest: in the run directory, or beside it."""
    for place in (directory, directory.parent):
        found = RunDirectory(place).calibration
        if found.is_file():
            return found
    return None


def bounds_for(directory: RunDirectory) -> Bounds:
    """Return what calibration says the views can do here, else the defaults."""
    path = find_calibration(directory.path)
    calibration, _ = read_document(path, "calibration") if path else ({}, ())
    manifest, _ = read_document(directory.manifest)
    agreement, host = calibration.get("agreement") or {}, manifest.get("host") or {}
    stocks = STOCK_BYTES * int(host.get("cpus") or os.cpu_count() or 1)
    bounds = {
        name: int(agreement.get(name, default + stocks)) for name, default in DEFAULT_BOUNDS.items()
    }
    return Bounds(bounds, str(path) if agreement else "defaults: nothing was calibrated here")


def missing_views(directory: RunDirectory) -> dict[str, dict[str, str]]:
    """Return, for each view, what it could not read and why.

    A view that left no file at all has a reason too.
    """
    missing: dict[str, dict[str, str]] = {}
    sampling, _ = read_document(directory.sampling)
    manifest, _ = read_document(directory.manifest)
    for view, fragments in sampling.items():
        for fragment in fragments.values():
            missing.setdefault(view, {}).update(fragment.get("absent") or {})
    missing.setdefault("cgroup", {}).update(manifest.get("cgroup_view_lacks") or {})
    return {view: lacks for view, lacks in missing.items() if lacks}


def _clock(fragments: dict[str, Any]) -> dict[str, Any]:
    """Return how well the worst of a view's samplers kept its clock, and what all of them cost."""
    grids = [f["grid"] for f in fragments.values() if f.get("grid")]
    shares = [
        f["cpu_ns"] / f["elapsed_ns"]
        for f in fragments.values()
        if f.get("elapsed_ns") and f.get("cpu_ns") is not None
    ]
    sizes = [f["rss_max_bytes"] for f in fragments.values() if f.get("rss_max_bytes")]
    figures: dict[str, Any] = {"samplers": len(fragments)}
    if grids:
        figures |= {
            "interval_ns": grids[0]["interval_ns"],
            "ticks": sum(grid.get("ticks") or 0 for grid in grids),
            "missed": sum(grid["missed"] for grid in grids),
            "kept": min(grid["kept"] for grid in grids),
        }
        for name in ("late_median_ns", "late_p95_ns", "late_p99_ns", "late_max_ns"):
            figures[name] = max(
                (grid[name] for grid in grids if grid.get(name) is not None), default=None
            )
    if shares:
        figures |= {"largest_cpu_share": max(shares), "rss_max_bytes": max(sizes, default=None)}
    return figures


def _baselines(directory: RunDirectory) -> dict[str, Any]:
    rows = read_table(directory.phases, PhaseRow).rows
    verdicts = Counter(row.baseline for row in rows)
    lacks = sorted({lack for row in rows for lack in row.not_trimmed.split("; ") if lack})
    return {
        "verdicts": dict(verdicts),
        "timed_out": [row.run_id for row in rows if row.baseline == "timed out"],
        "bound_bytes": max((row.bound_bytes for row in rows), default=None),
        "window_ns": max((row.window_ns for row in rows), default=None),
        "not_trimmed": lacks,
    }


# Of fewer the 95th percentile is the largest.
_FEWEST = 20


def _verdict(deviation: Deviation, bound: int) -> dict[str, Any]:
    figures: dict[str, Any] = {**deviation.as_dict(), "bound_bytes": bound}
    within = deviation.sizes.quantile(0.95) <= bound
    return figures | {"agrees": within if deviation.readings >= _FEWEST else None}


def assess(directory: RunDirectory) -> dict[str, Any]:
    """Return sampling quality and cross-check of a run directory.

    ``agrees`` is null where there was nothing to compare.
    """
    found: CrossCheck = crosscheck(directory)
    bounds = bounds_for(directory)
    allowed = bounds.bytes_by_name
    sampling, _ = read_document(directory.sampling)
    return {
        "schema_version": SCHEMA_VERSION,
        "bounds_from": bounds.source,
        "identity": _verdict(found.identity, allowed["identity"]),
        "inside_against_cgroup": _verdict(found.inside, allowed["inside"]),
        "docker_against_cgroup": _verdict(found.docker, allowed["docker"]),
        "longest_gap_ns": {
            view: max(gaps.values(), default=None) for view, gaps in found.gaps_ns.items()
        },
        "clocks": {view: _clock(fragments) for view, fragments in sampling.items()},
        "baseline": _baselines(directory),
        "absent": missing_views(directory),
    }


def write_quality(directory: RunDirectory) -> dict[str, Any]:
    """Assess a run directory, write ``quality.json`` into it and return what it says."""
    found = assess(directory)
    write_json(directory.quality, found)
    return found


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
            near = [(t, u) for t, u in recent if abs(t - moment) <= self._reach_ns]
            # A reading without one on either side fell into a gap, which is told as such, or
            # between samples that are too far apart to say what was there.
            if near and near[0][0] <= moment <= near[-1][0]:
                around = [u for _, u in near]
                off = value - min(max(value, min(around)), max(around))
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
