"""The rows that say what ran when, what the connector must hold then, and what it held."""

from __future__ import annotations

from dataclasses import dataclass

from harness.results.rows import column, optional_column


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A row of ``tasks.csv``: one task's life, so that memory can be read against what ran.

    All times are CLOCK_MONOTONIC of the host. The client writes down ``submitted`` and
    ``received``, the task itself what is between and returns it beside its result. Times of a
    worker whose host has another clock are left empty.
    """

    run_id: str = column("the run")
    cycle: int = column("repetition of the stages within the workflow, from 0")
    stage: int = column("stage, from 0")
    task: int = column("task within the stage, from 0")
    worker: str = column("what ran it: host name and thread number there, joined by a colon")
    submitted_mono_ns: int = column("when the client began to submit it")
    started_mono_ns: int | None = optional_column("when it began on the worker")
    resolved_mono_ns: int | None = optional_column("when all its inputs were there, in memory")
    finished_mono_ns: int | None = optional_column(
        "when its result was made and, with proxies, stored"
    )
    received_mono_ns: int | None = optional_column("when the client had its result; taken in order")
    bytes_in: int | None = optional_column("payload bytes of its inputs")
    bytes_out: int | None = optional_column("payload bytes of its result")
    container: str | None = optional_column(
        "the worker's name in the memory files; empty outside of ours"
    )


@dataclass(frozen=True, slots=True)
class PredictionRow:
    """A row of ``predictions.csv``: what must be alive at a stage boundary, from the flags alone.

    Payload bytes and objects in the connector, which has none in mode ``none``. ``ideal_bytes`` is
    the least that any implementation could hold at this moment, wherever it holds it: what a
    later task still needs, once.
    """

    data_management: str = column("the mode")
    cycle: int = column("repetition of the stages within the workflow, from 0")
    stage: int = column(
        "-1: start data made; then the stage that is done, its inputs removed if the mode does"
        " that; the number of stages: the cycle's last results were dropped",
        signed=True,
    )
    objects: int = column("objects alive in the connector")
    size_bytes: int = column("their payload bytes")
    ideal_bytes: int = column("least payload bytes any implementation could hold")
    peak_objects: int = column("most objects alive in the connector since the boundary before")
    peak_size_bytes: int = column(
        "their payload bytes: a stage's inputs and results are both there"
    )


@dataclass(frozen=True, slots=True)
class StorageRow:
    """A row of ``storage.csv``: what the connector and the server behind it held at one moment.

    Read at marks; with ``--audit-stages``, and in every warm-up run, at every stage boundary too
    (mark ``stage``, see ``predictions.csv`` for what ``cycle`` and ``stage`` mean).
    """

    run_id: str = column("the run")
    mark: str = column("baseline_end, run_end, after_start, trimmed or stage")
    cycle: int | None = column("for stage: repetition of the stages, from 0")
    stage: int | None = column("for stage: which boundary", signed=True)
    t_mono_ns: int = column("CLOCK_MONOTONIC after the reading")
    objects: int = column("objects in the storage, less those there before the run", signed=True)
    size_bytes: int = column("their serialised bytes", signed=True)
    server_used_bytes: int | None = column("Redis used_memory: what it has allocated")
    server_rss_bytes: int | None = column("Redis used_memory_rss: what its process holds")


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """A row of ``phases.csv``: how the phases around one run went.

    The baseline phase ends when the use of all containers together (outside of containers: the
    resident memory of the harness's processes) stayed within ``bound_bytes`` for ``window_ns``.
    """

    run_id: str = column("the run")
    baseline: str = column("settled, timed out, or not watched (nothing to read)")
    baseline_ns: int = column("from baseline_start to baseline_end")
    spread_bytes: int | None = column("highest less lowest use within the last window")
    bound_bytes: int = column("what the spread must stay within (--baseline-bound)")
    window_ns: int = column("for how long (--baseline-window)")
    trim_ns: int | None = column("what collecting garbage and malloc_trim everywhere took")
    not_trimmed: str = column("processes that gave nothing back because they could not be asked")
