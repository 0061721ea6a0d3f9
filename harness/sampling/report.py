"""How well each view was sampled: fragments written by the samplers, merged by the host.

Each sampler leaves one JSON file in ``.sampling/`` of the run directory; ``merge_reports`` makes
them one document for ``sampling.json``.

One document from what all samplers say of themselves.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.files import write_whole
from harness.results.directory import RunDirectory
from harness.results.documents import read_document, write_json
from harness.sampling.meminfo import proc_size

if TYPE_CHECKING:
    from harness.results.directory import RunDirectory
    from harness.sampling.grid import GridReport


FRAGMENTS = RunDirectory(Path()).fragments.name


@dataclass(frozen=True, slots=True)
class ViewReport:
    """What one sampler achieved.

    ``absent`` maps what could not be sampled to the reason, ``ended`` what ended before the
    sampler did. ``cpu_ns`` (during the ``elapsed_ns`` of sampling, start-up not counted) and
    ``rss_max_bytes`` are the sampler's own, ``None`` where it shares its process. ``details`` is
    what only one view has.
    """

    view: str
    name: str
    grid: GridReport | None = None
    priority: str = "normal"
    elapsed_ns: int | None = None
    cpu_ns: int | None = None
    rss_max_bytes: int | None = None
    absent: dict[str, str] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the report for a JSON file."""
        return asdict(self)


class Stopwatch:
    """Wall and CPU time of this process, user and system, since it was made."""

    def __init__(self) -> None:
        self._started_ns = time.monotonic_ns()
        self._cpu_ns = time.process_time_ns()

    def elapsed_ns(self) -> int:
        """Return the wall time in nanoseconds."""
        return time.monotonic_ns() - self._started_ns

    def cpu_ns(self) -> int:
        """Return the CPU time in nanoseconds."""
        return time.process_time_ns() - self._cpu_ns


def own_rss_max_bytes() -> int | None:
    """Return this process's own resident high-water mark (VmHWM).

    Not ``ru_maxrss``: that starts with the size of the process that forked this one.
    """
    try:
        status = Path("/proc/self/status").read_bytes()
    except OSError:
        return None
    return proc_size(status, b"VmHWM")


def write_report(directory: Path, report: ViewReport) -> None:
    """Write a fragment into a run directory, whole or not at all; a later one replaces it."""
    folder = directory / FRAGMENTS
    folder.mkdir(exist_ok=True)
    path = folder / f"{report.view}-{report.name}.json"
    write_whole(path, json.dumps(report.as_dict()))


def merge_reports(directory: Path) -> dict[str, Any]:
    """Return all fragments of a run directory by view and name."""
    merged: dict[str, Any] = {}
    for path in sorted((directory / FRAGMENTS).glob("*.json")):
        fragment = json.loads(path.read_text(encoding="utf-8"))
        merged.setdefault(fragment["view"], {})[fragment["name"]] = fragment
    return merged


def collect_reports(directory: RunDirectory, suffix: str = "") -> None:
    """Merge the samplers' reports into ``sampling.json``; call it when all have ended.

    With several topologies it is called after each: ``suffix`` then tells their samplers apart.
    """
    found, _ = read_document(directory.sampling, "sampling")
    for view, fragments in merge_reports(directory.path).items():
        into = found.setdefault(view, {})
        into |= {f"{name}{suffix}": fragment for name, fragment in fragments.items()}
    write_json(directory.sampling, found)
    shutil.rmtree(directory.path / FRAGMENTS, ignore_errors=True)
