"""What the samplers say of their own work, and whether the views agree: ``quality.json``."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.analysis.crosscheck import CrossCheck, Deviation, crosscheck
from harness.results.directory import RunDirectory
from harness.results.documents import read_document, write_json
from harness.results.events import PhaseRow
from harness.results.rows import read_table

SCHEMA_VERSION = 1

# The kernel charges in stocks of up to 64 pages for each CPU: usage may be ahead of its parts by
# that much, and readings that are not made at once may differ by it.
_STOCK_BYTES = 64 * 4096
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
    stocks = _STOCK_BYTES * int(host.get("cpus") or os.cpu_count() or 1)
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


def _verdict(deviation: Deviation, bound: int) -> dict[str, Any]:
    figures: dict[str, Any] = {**deviation.as_dict(), "bound_bytes": bound}
    within = deviation.sizes.quantile(0.95) <= bound
    return figures | {"agrees": within if deviation.readings else None}


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
