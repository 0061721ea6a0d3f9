"""The summary of a bench: for each mode and service, makespan and memory net of baseline."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.analysis.ledger import ServiceLedger, read_ledger, service_ledgers
from harness.analysis.usage import Usage, read_usage
from harness.results.directory import RunDirectory
from harness.results.manifest import read_json
from harness.results.memory import KIND_SAMPLED, PeakRow, peak_label
from harness.results.rows import ObjectsRow, OutcomeRow, ResultRow, read_rows

TOPOLOGY = "topology"


@dataclass(frozen=True)
class ServiceMemory:
    """Memory of one service (or of the whole topology) under one mode.

    All values are medians over the mode's runs, in bytes. Net means less the service's own use
    at the instant the run started.

    Attributes:
        service: the service, or ``topology`` for all containers at once.
        containers: how many it has.
        peak_net_bytes: highest simultaneous use of the service's containers.
        mean_net_bytes: mean use over the run.
        baseline_bytes: use at the start.
        peak_kind: ``kernel``, or ``sampled at N ms``.
    """

    service: str
    containers: int
    peak_net_bytes: float
    mean_net_bytes: float
    baseline_bytes: float
    peak_kind: str


@dataclass(frozen=True)
class ModeSummary:
    """What one mode did.

    Attributes:
        mode: the data management mode.
        runs: runs that finished.
        makespan_s: median.
        makespan_min_s, makespan_max_s: extremes.
        objects_at_end: objects in the connector when the clock stopped (largest of the runs).
        objects_left: after the clean-up (largest of the runs).
        services: memory by service, the topology last.
        ledgers: where each service's memory was, by its name; empty without the cgroup view.
    """

    mode: str
    runs: int
    makespan_s: float
    makespan_min_s: float
    makespan_max_s: float
    objects_at_end: int
    objects_left: int
    services: list[ServiceMemory]
    ledgers: dict[str, ServiceLedger]


@dataclass(frozen=True)
class _RunMemory:
    containers: int
    peak_net: float
    mean_net: float
    baseline: float
    kind: str


def service_of(container: str) -> str:
    """Return the service of a container name: ``worker`` of ``worker-2``."""
    return re.sub(r"-\d+$", "", container)


def _service_memory(
    run_id: str, peaks: Iterable[PeakRow], usage: Mapping[tuple[str, str], Usage], sampled: str
) -> dict[str, _RunMemory]:
    """Return the memory of each service, and of the topology, in one run."""
    by_service: dict[str, list[Usage]] = defaultdict(list)
    for (run, container), use in usage.items():
        if run == run_id:
            by_service[service_of(container)].append(use)
    by_service[TOPOLOGY] = [use for uses in list(by_service.values()) for use in uses]
    exact = {
        row.name if row.scope == "service" else TOPOLOGY: row
        for row in peaks
        if row.run_id == run_id and row.scope in ("service", "topology")
    }
    found = {}
    for service, uses in by_service.items():
        row = exact.get(service)
        mean = sum(use.mean_bytes for use in uses)
        if row is not None and row.peak_bytes is not None and row.baseline_bytes is not None:
            baseline, peak = row.baseline_bytes, row.peak_bytes
            kind = peak_label(row.peak_kind, row.interval_ns)
        else:
            # The sum of the containers' own peaks: an upper bound of the simultaneous one.
            baseline = sum(use.first_bytes for use in uses)
            peak, kind = sum(use.max_bytes for use in uses), sampled
        found[service] = _RunMemory(len(uses), peak - baseline, mean - baseline, baseline, kind)
    return found


def _median_memory(runs: list[dict[str, _RunMemory]]) -> list[ServiceMemory]:
    names = sorted({name for run in runs for name in run}, key=lambda n: (n == TOPOLOGY, n))
    found = []
    for name in names:
        each = [run[name] for run in runs if name in run]
        found.append(
            ServiceMemory(
                service=name,
                containers=max(memory.containers for memory in each),
                peak_net_bytes=statistics.median(memory.peak_net for memory in each),
                mean_net_bytes=statistics.median(memory.mean_net for memory in each),
                baseline_bytes=statistics.median(memory.baseline for memory in each),
                peak_kind="/".join(sorted({memory.kind for memory in each})),
            )
        )
    return found


def _sampled_label(directory: RunDirectory, view: str) -> str:
    """Return what stands beside a peak that only samples tell of."""
    fragments = (read_json(directory.sampling) or {}).get(view, {}).values()
    intervals = {f["grid"]["interval_ns"] for f in fragments if f.get("grid")}
    return peak_label(KIND_SAMPLED, max(intervals)) if intervals else KIND_SAMPLED


def summarise(directory: RunDirectory) -> list[ModeSummary]:
    """Summarise a run directory mode by mode, in the order they were run.

    The cgroup view is used where there is one, else the cgroup's use as read inside the
    containers.
    """
    results = read_rows(directory.results, ResultRow) if directory.results.exists() else []
    finished = (
        [row for row in read_rows(directory.outcomes, OutcomeRow) if row.outcome in ("ok", "leak")]
        if directory.outcomes.exists()
        else []
    )
    objects = (
        {row.run_id: row for row in read_rows(directory.objects, ObjectsRow)} if finished else {}
    )
    peaks = read_rows(directory.peaks, PeakRow) if directory.peaks.exists() else []
    usage: dict[tuple[str, str], Usage] = {}
    view = "cgroup" if directory.memory("cgroup").exists() else "inside"
    if directory.memory(view).exists():
        column = "usage_bytes" if view == "cgroup" else "cg_usage_bytes"
        usage = read_usage(directory.memory(view), column)
    sampled = _sampled_label(directory, view)
    ledger = read_ledger(directory)
    summaries = []
    for mode in dict.fromkeys(row.data_management for row in results):
        makespans = [r.workflow_makespan_s for r in results if r.data_management == mode]
        run_ids = [row.run_id for row in finished if row.data_management == mode]
        summaries.append(
            ModeSummary(
                mode=mode,
                runs=len(makespans),
                makespan_s=statistics.median(makespans),
                makespan_min_s=min(makespans),
                makespan_max_s=max(makespans),
                objects_at_end=max((objects[r].objects_at_end for r in run_ids), default=0),
                objects_left=max((objects[r].objects_left for r in run_ids), default=0),
                services=_median_memory(
                    [_service_memory(r, peaks, usage, sampled) for r in run_ids]
                ),
                ledgers=service_ledgers(ledger, run_ids),
            )
        )
    return summaries
