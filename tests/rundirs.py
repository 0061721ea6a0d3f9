"""Run directories as the harness writes them, of runs that never were, for tests of readers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.results.conversation import AFTER_END, BASELINE_START, RUN_END, RUN_START, MarkWriter
from harness.results.directory import RunDirectory
from harness.results.rows import ObjectsRow, OutcomeRow, ResultRow, RowWriter
from harness.results.schema import LedgerRow, PeakRow, PredictionRow, TaskRow

MS = 1_000_000
START_NS = 500_000 * MS
UNIX_OFFSET_NS = 1_700_000_000_000 * MS
PERIOD_NS = 4000 * MS
LENGTH_NS = 2000 * MS
TICK_NS = 20 * MS
BASELINE = {"redis-1": 10_000_000, "worker-1": 50_000_000, "worker-2": 50_000_000}
SIZES = (1_000_000, 500_000, 100_000)
Others = tuple[int, Sequence[int]]

MANIFEST = {
    "schema_version": 1,
    "harness_version": "0.1.0",
    "command": ["bench", "--executor", "dask"],
    "plan": {
        "executor_name": "dask",
        "executor": {"workers": 2},
        "connector_name": "redis",
        "workload": {"stage_task_counts": [2, 1], "stage_repeat": 1, "seed": 0},
        "general": {"csv_file": "results.csv"},
        "topology": {"isolate": "mode", "worker_memory_limit": None},
    },
    "machine": {"kernel": "6.1", "cpus": 2, "memory_bytes": 8_000_000_000, "boot_id": "b"},
    "runner": {"python": "3.13.5", "packages": {"dask": "2026.8"}, "environment": {}},
    "engine": {"version": "28.0", "cgroup_version": 2},
    "images": {"dask": {"reference": "dask:1", "id": "sha256:aaaa", "size_bytes": 1000}},
}
SAMPLING = {
    "cgroup": {
        "host": {
            "grid": {
                "interval_ns": TICK_NS,
                "ticks": 100,
                "missed": 1,
                "kept": 0.99,
                "late_median_ns": 70_000,
                "late_p95_ns": 500_000,
                "late_max_ns": 9_000_000,
            },
            "cpu_ns": 10_000_000,
            "elapsed_ns": 1_000_000_000,
            "absent": {"psi": "not in this kernel"},
        }
    }
}


def write_run_directory(
    path: Path,
    peaks: Mapping[str, Sequence[int]],
    *,
    makespans: Mapping[str, Sequence[float]] | None = None,
    interleaved: bool = False,
    sizes: Sequence[int] = SIZES,
    events: bool = True,
    others: Mapping[str, Others] | None = None,
) -> RunDirectory:
    """Write a run directory.

    Args:
        path: the directory, made here.
        peaks: net peak in bytes of each run by mode: in its middle, at redis.
        makespans: seconds of each run; 2 s where they are not given.
        interleaved: whether modes take turns.
        sizes: of the workload's data.
        events: whether tasks, predictions and the ledger were recorded.
        others: baseline and net peaks, one for each run, of services beside redis and workers.
    """
    path.mkdir(parents=True)
    directory = RunDirectory(path)
    runs = [(mode, number) for mode, each in peaks.items() for number in range(1, len(each) + 1)]
    if interleaved:
        runs.sort(key=lambda run: run[1])
    samples: list[str] = ["run_id,container,t_mono_ns,t_unix_ns,usage_bytes"]
    with (
        RowWriter(directory.results, ResultRow) as results,
        RowWriter(directory.outcomes, OutcomeRow) as outcomes,
        RowWriter(directory.objects, ObjectsRow) as objects,
    ):
        for place, (mode, number) in enumerate(runs):
            run_id = f"{place + 1:04d}-{mode}-{number}"
            start = START_NS + place * PERIOD_NS
            makespan = makespans[mode][number - 1] if makespans else LENGTH_NS / 1e9
            unix_s = (start + UNIX_OFFSET_NS) / 1e9
            results.write(
                ResultRow(
                    "DaskExecutor",
                    "None" if mode == "none" else "RedisConnector",
                    mode,
                    "2-1",
                    "-".join(map(str, sizes)),
                    1,
                    0.5,
                    unix_s,
                    unix_s + LENGTH_NS / 1e9,
                    makespan,
                )
            )
            outcomes.write(OutcomeRow(run_id, mode, number, "ok", ""))
            objects.write(ObjectsRow(run_id, mode, 0, 0, 0, 0, 0, 0))
            _marks(directory, run_id, start)
            of_run = {"redis-1": (BASELINE["redis-1"], peaks[mode][number - 1])}
            of_run |= {f"{n}-1": (base, each[place]) for n, (base, each) in (others or {}).items()}
            samples += _samples(run_id, start, of_run)
            if events:
                _events(directory, run_id, start)
    directory.memory("cgroup").write_text("\n".join(samples) + "\n")
    if events:
        _predictions(directory, list(peaks))
    directory.manifest.write_text(json.dumps(MANIFEST))
    directory.sampling.write_text(json.dumps(SAMPLING))
    return directory


def write_peaks(directory: RunDirectory, peaks: Mapping[str, int], baseline: int) -> None:
    """Write the kernel's peak of the whole topology for some runs."""
    with RowWriter(directory.peaks, PeakRow) as rows:
        for run_id, peak in peaks.items():
            rows.write(
                PeakRow(run_id, "topology", "topology", peak, "max_usage", baseline, None, 0, 0)
            )


def _marks(directory: RunDirectory, run_id: str, start: int) -> None:
    MarkWriter(directory.marks).close()
    moments = {
        BASELINE_START: -200 * MS,
        RUN_START: 0,
        RUN_END: LENGTH_NS,
        AFTER_END: LENGTH_NS + 500 * MS,
    }
    with directory.marks.open("a") as file:
        for mark, after in moments.items():
            t_ns = start + after
            file.write(f"{run_id},{mark},{t_ns},{t_ns + UNIX_OFFSET_NS}\n")


def _samples(run_id: str, start: int, peaks: Mapping[str, tuple[int, int]]) -> list[str]:
    """Return usage before, in and after a run: flat, then up to the peak, then 1 MB above flat.

    Args:
        run_id: of the run.
        start: when it starts.
        peaks: baseline and net peak of each container that has one; the others stay flat.
    """
    levels = {name: (base, 0) for name, base in BASELINE.items()} | dict(peaks)
    lines = []
    for tick in range(-20, (LENGTH_NS + 600 * MS) // TICK_NS):
        t_ns = start + tick * TICK_NS - 1 * MS
        inside = 0 < tick <= LENGTH_NS // TICK_NS
        for number, (container, (base, peak)) in enumerate(levels.items()):
            usage = base
            if container in peaks and inside:
                usage += peak if tick == 50 else peak // 2
            elif container in peaks and tick > 0:
                usage += 1_000_000
            run = run_id if inside else ""
            at = t_ns + number * 5000
            lines.append(f"{run},{container},{at},{at + UNIX_OFFSET_NS},{usage}")
    return lines


def _events(directory: RunDirectory, run_id: str, start: int) -> None:
    with (
        RowWriter(directory.tasks, TaskRow) as tasks,
        RowWriter(directory.ledger, LedgerRow) as ledger,
    ):
        for stage, task, worker, at in ((0, 0, 1, 100), (0, 1, 2, 120), (1, 0, 1, 1000)):
            submitted = start + at * MS
            tasks.write(
                TaskRow(
                    run_id=run_id,
                    cycle=0,
                    stage=stage,
                    task=task,
                    worker="host:1",
                    submitted_mono_ns=submitted,
                    started_mono_ns=submitted + 50 * MS,
                    resolved_mono_ns=submitted + 150 * MS,
                    finished_mono_ns=submitted + 700 * MS,
                    received_mono_ns=submitted + 800 * MS,
                    bytes_in=10,
                    bytes_out=10,
                    container=f"worker-{worker}",
                )
            )
        for scope, name, usage in (
            ("service", "redis", BASELINE["redis-1"]),
            ("topology", "topology", sum(BASELINE.values())),
        ):
            ledger.write(
                LedgerRow(
                    run_id=run_id,
                    mark=RUN_START,
                    scope=scope,
                    name=name,
                    usage_bytes=usage,
                    anon_bytes=90_000_000,
                    shmem_bytes=0,
                    active_file_bytes=1_000_000,
                    inactive_file_bytes=9_000_000,
                    kernel_bytes=10_000_000,
                    pss_bytes=None,
                    uss_bytes=None,
                    swap_bytes=0,
                    psi_some_us=None,
                    psi_full_us=None,
                    oom_kill=0,
                    file_bytes=10_000_000,
                    t_mono_ns=start,
                )
            )


def _predictions(directory: RunDirectory, modes: Sequence[str]) -> None:
    with RowWriter(directory.predictions, PredictionRow) as rows:
        for mode in modes:
            held = 0 if mode == "none" else 1
            for stage, size in ((-1, 2_000_000), (0, 1_000_000), (1, 100_000), (2, 0)):
                rows.write(
                    PredictionRow(mode, 0, stage, held, held * size, size, held, 2 * held * size)
                )
