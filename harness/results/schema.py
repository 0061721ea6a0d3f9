"""The rows of our own files: where memory went, what ran when, what the connector held.

Each dataclass is one file's schema. Field order is column order. Bytes and nanoseconds are
integers, and an empty cell means "not read", never zero. ``t_mono_ns`` is CLOCK_MONOTONIC, which a
host shares with its containers, so rows of all views align on it without correction; ``t_unix_ns``
is CLOCK_REALTIME.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from harness.results.rows import column, columns, optional_column

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class MarkRow:
    """A row of ``marks.csv``: a moment of the plan, written by the runner."""

    run_id: str = column("run the mark belongs to, empty for stop")
    mark: str = column(
        "baseline_start, baseline_end, run_start, run_end, after_start (the mode's clean-up is"
        " done), trimmed, after_end or stop"
    )
    t_mono_ns: int = column("CLOCK_MONOTONIC when the mark was set")
    t_unix_ns: int = column("CLOCK_REALTIME when the mark was set")


@dataclass(frozen=True, slots=True)
class CgroupRow:
    """A row of ``memory-cgroup.csv``: one container's cgroup files, read on the host.

    The ledger is ``usage = anon + shmem + file + kernel + sock`` plus the kernel's charge stocks
    (up to 256 KiB for each CPU). Usage is read on every tick, the other columns at slower rates
    of their own.
    """

    run_id: str = column("run in progress, empty between runs")
    container: str = column("container, for example worker-1")
    t_mono_ns: int = column("CLOCK_MONOTONIC of the reading")
    t_unix_ns: int = column("CLOCK_REALTIME of the reading")
    late_ns: int | None = column(
        "how late the tick woke; empty for a reading made at a mark", signed=True
    )
    usage_bytes: int | None = column("v1 memory.usage_in_bytes, v2 memory.current")
    anon_bytes: int | None = column("v1 total_rss, v2 anon")
    file_bytes: int | None = column("page cache without shmem: v1 total_cache, v2 file")
    shmem_bytes: int | None = column("tmpfs and shared memory: v1 total_shmem, v2 shmem")
    kernel_bytes: int | None = column(
        "v1 memory.kmem.usage_in_bytes, v2 kernel, before Linux 5.18 its parts"
    )
    inactive_file_bytes: int | None = column("v1 total_inactive_file, v2 inactive_file")
    psi_some_us: int | None = column("cumulative memory.pressure, some, microseconds")
    psi_full_us: int | None = column("cumulative memory.pressure, full, microseconds")
    oom_kill: int | None = column("cumulative OOM kills: v1 memory.oom_control, v2 memory.events")
    source: str = column("v1 or v2, the cgroup version the files belong to")
    active_file_bytes: int | None = optional_column("v1 total_active_file, v2 active_file")
    swap_bytes: int | None = optional_column("v1 total_swap, v2 memory.swap.current")
    sock_bytes: int | None = optional_column("v2 sock; empty on v1, whose usage is without")


@dataclass(frozen=True)
class HostRow:
    """A row of ``results-memory.csv``: the host's memory, to psbench's letter.

    Attributes:
        unix_timestamp: seconds since the epoch.
        total_bytes, available_bytes, free_bytes: as ``psutil.virtual_memory()`` has them.
        used_bytes: total - available, as in psutil since 7.1.0.
    """

    unix_timestamp: float
    total_bytes: int
    available_bytes: int
    used_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class InsideRow:
    """A row of ``memory-inside.csv``: what psutil sees from within one container.

    RSS sums count a page once for each process that maps it and miss page cache; see the columns
    of ``memory-cgroup.csv`` for what the container is charged with.
    """

    run_id: str = column("run in progress, empty between runs")
    container: str = column("container, for example worker-1")
    t_mono_ns: int = column("CLOCK_MONOTONIC of the reading")
    t_unix_ns: int = column("CLOCK_REALTIME of the reading")
    late_ns: int = column("how late the tick woke", signed=True)
    n_procs: int = column("processes in the sums: neither the sampler nor docker exec's")
    rss_sum_bytes: int = column("sum of the resident set sizes")
    uss_sum_bytes: int | None = column("sum of the unique set sizes, at marks only")
    pss_sum_bytes: int | None = column("sum of the proportional set sizes, at marks only")
    sampler_rss_bytes: int = column("resident set size of the sampler itself")
    cg_usage_bytes: int | None = column("the container's cgroup usage, read inside")
    host_total_bytes: int | None = column("memory of the host, once a second")
    host_available_bytes: int | None = column("memory available on the host, once a second")


@dataclass(frozen=True, slots=True)
class DockerRow:
    """A row of ``memory-docker.csv``: one message of the engine's stats stream (about 1 Hz)."""

    run_id: str = column("run in progress, empty between runs")
    container: str = column("container, for example worker-1")
    t_mono_recv_ns: int = column("CLOCK_MONOTONIC when the message arrived")
    t_read_unix_ns: int | None = column("the engine's wall clock when it read the values")
    usage_bytes: int | None = column("memory_stats.usage, page cache included")
    inactive_file_bytes: int | None = column("v1 total_inactive_file, v2 inactive_file")
    mem_usage_cli_bytes: int | None = column("usage - inactive_file, as docker stats prints it")
    max_usage_bytes: int | None = column("v1 only: the container's high-water mark")
    limit_bytes: int | None = column(
        "memory limit, the host's memory where none is set", most=2**63
    )
    cpu_total_ns: int | None = column("cumulative CPU time of the container")


@dataclass(frozen=True, slots=True)
class PeakRow:
    """A row of ``peaks.csv``: the highest memory use of one scope during one run.

    ``peak_kind`` says where the figure comes from. ``max_usage`` (v1), ``memory.peak-fd`` and
    ``memory.peak`` (v2) are the kernel's own high-water marks and exact; ``sampled`` is the
    highest sample and thus a lower bound. The topology's exact peak is the simultaneous one, not
    the sum of the services' peaks.
    """

    run_id: str = column("run the peak belongs to")
    scope: str = column("container, service or topology")
    name: str = column(
        "name of the container or service, topology for the whole; service@node for the part of"
        " one that is on several nodes"
    )
    peak_bytes: int | None = column("highest usage from run_start to run_end")
    peak_kind: str = column("max_usage, memory.peak, memory.peak-fd or sampled")
    baseline_bytes: int | None = column("usage at run_start")
    sampled_anon_peak_bytes: int | None = column(
        "highest sampled anon, a lower bound: the kernel keeps no mark of it"
    )
    interval_ns: int = column("what peak_bytes can miss: 0 if exact, else the sampling interval")
    oom_events: int | None = column("OOM kills during the run, as far as the counters lived")
    label: str | None = optional_column("kernel, or sampled at N ms")


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A row of ``ledger.csv``: where the memory of one scope is at a mark.

    ``usage = anon + shmem + file + kernel + sock``, but for the kernel's charge stocks (up to
    256 KiB for each CPU) and what changed between two reads; ``file`` is its active and inactive
    part and the little that is on neither list. PSS and USS are summed over all processes in the
    scope, the inside sampler's among them, and read on the host at baseline_end, after_start and
    trimmed only: they walk page tables. Pressure and kills are cumulative.
    """

    run_id: str = column("the run")
    mark: str = column("which mark of marks.csv")
    scope: str = column("container, service or topology")
    name: str = column("name of the container or service; topology for the whole")
    usage_bytes: int | None = column("all that the kernel charges to it")
    anon_bytes: int | None = column("anonymous memory: heaps and stacks")
    shmem_bytes: int | None = column("tmpfs and shared memory")
    active_file_bytes: int | None = column("page cache read more than once")
    inactive_file_bytes: int | None = column("page cache read or written once")
    kernel_bytes: int | None = column("page tables, slab, stacks; empty where it is not told")
    pss_bytes: int | None = column("proportional set sizes")
    uss_bytes: int | None = column("unique set sizes")
    swap_bytes: int | None = column("swapped out; empty without swap accounting")
    psi_some_us: int | None = column("cumulative memory.pressure, some, microseconds")
    psi_full_us: int | None = column("cumulative memory.pressure, full, microseconds")
    oom_kill: int | None = column("cumulative OOM kills")
    file_bytes: int | None = column("page cache without shmem")
    t_mono_ns: int = column("CLOCK_MONOTONIC of the reading")
    sock_bytes: int | None = optional_column("buffers of sockets; empty on v1, without them")


SCOPE_CONTAINER = "container"
SCOPE_SERVICE = "service"
SCOPE_TOPOLOGY = "topology"

KIND_MAX_USAGE = "max_usage"
KIND_PEAK = "memory.peak"
KIND_PEAK_FD = "memory.peak-fd"
KIND_SAMPLED = "sampled"

LABEL_KERNEL = "kernel"


ON_NODE = "@"
"""Between the name of a scope and that of a node, where a node has only a part of it."""


def peak_label(kind: str, interval_ns: int) -> str:
    """Return what stands beside a peak for people: ``kernel`` or ``sampled at N ms``."""
    return f"sampled at {interval_ns / 1e6:.4g} ms" if kind == KIND_SAMPLED else LABEL_KERNEL


# Samplers make thousands of rows a minute; this takes half the time of a getattr for each cell.
_CELLS: dict[type, Callable[[Any], tuple[Any, ...]]] = {}


def row_line(row: Any) -> str:
    """Return a row as one line of CSV, newline included; ``None`` becomes an empty cell.

    No cell of these files needs quoting: they are numbers and names without commas.
    """
    schema = type(row)
    if schema not in _CELLS:
        _CELLS[schema] = attrgetter(*columns(schema))
    cells = _CELLS[schema](row)
    return ",".join(["" if cell is None else str(cell) for cell in cells]) + "\n"


def partial_line(row_type: type[Any], names: tuple[str, ...]) -> str:
    """Return a template of a row's line with the cells of ``names``; all others stay empty.

    ``template % values`` takes a quarter of the time of a row. Raises ValueError if the names are
    not columns in the schema's order.
    """
    schema = columns(row_type)
    if [name for name in schema if name in names] != list(names):
        raise ValueError(f"{row_type.__name__} has no columns {', '.join(names)} in this order")
    return ",".join(["%s" if name in names else "" for name in schema]) + "\n"


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A row of ``workers.csv``: one worker of an executor's own cluster, and whose clock it has.

    Rows of ``memory-inside.csv`` with its ``container`` are of its process and all processes below;
    of Parsl, the process is the manager of a pool, and the address is the pool's. Their cgroup
    usage is that of the cgroup the process is in, whatever else is in there, and unique and
    proportional set sizes are not read. Their times are on the clock of the host that ran
    ``harness run``: on another host's, ``t_mono_ns`` is CLOCK_MONOTONIC there plus the offset,
    taken as linear between two measurements, and ``t_unix_ns`` follows from it.
    """

    container: str = column("its name in memory-inside.csv; workers of one process share it")
    worker: str = column("its name in the cluster")
    address: str = column("its address in the cluster")
    host: str = column("host name where it runs")
    pid: int = column("process number there")
    clock: str = column("same: the clock is the client's; measured: offsets were needed")
    clock_offset_ns: int | None = column(
        "CLOCK_MONOTONIC of the client minus the worker's", signed=True
    )
    offset_error_ns: int | None = column("bound of its error: half of the fastest round trip")
    clock_offset_end_ns: int | None = column("the same when last measured", signed=True)
    offset_end_error_ns: int | None = column("bound of its error")


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A row of ``nodes.csv``: one node's clock, as it was measured at one moment.

    All times of a run directory are on the clock of the node that the runner is on. What other
    nodes told was put on it with the offset at the start of its topology; a later row of the same
    topology says how far the two clocks have gone apart since.
    """

    node: str = column("the node's name")
    moment: str = column("start or end of a topology, or the run that has just ended")
    topology: int = column("number of the topology in the bench, from 1")
    t_mono_ns: int = column("CLOCK_MONOTONIC of the runner's node")
    offset_ns: int = column("CLOCK_MONOTONIC of the runner's node minus this one's", signed=True)
    error_ns: int = column("bound of its error: half of the fastest round trips")
    clock: str = column("same: it is the runner's clock; measured: the offset was needed")


@dataclass(frozen=True, slots=True)
class TruthRow:
    """A row of ``truth.csv``: a level of memory that a probe held, beyond its own baseline.

    Only in the directories of ``harness calibrate``.
    """

    probe: str = column("the probe, which is also the run's ID")
    step: str = column("what it did")
    start_mono_ns: int = column("CLOCK_MONOTONIC when the level was reached")
    end_mono_ns: int = column("CLOCK_MONOTONIC when it was left")
    size_bytes: int = column("bytes that the probe holds")
    page_table_bytes: int = column("page tables for them, by VmPTE; the kernel charges them too")
    processes: int = column("processes that map them")


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

    Payload bytes and objects in the connector, which has none in mode ``none``. In mode ``futures``
    they are what the executor must hold, once each. ``ideal_bytes`` is the least that any
    implementation could hold at this moment, wherever it holds it: what a later task still needs,
    once.
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
class CompletionRow:
    """A row of ``completions.csv``: what the connector held when a task's result had come.

    Only of workflows without barriers, with ``--audit-stages`` and in warm-up runs. Read in the
    storage after the client has let go of what the task was the last to read. What it must hold
    follows from the order so far: the objects that the client knows, and the results of tasks that
    had ended by then without the client having heard of it (least); and of tasks that were possibly
    storing theirs at that moment (most).
    """

    run_id: str = column("the run")
    cycle: int = column("repetition within the workflow, from 0")
    stage: int = column("level of the task, from 0")
    task: int = column("task within the level, from 0")
    t_mono_ns: int = column("CLOCK_MONOTONIC before the reading")
    objects: int = column("objects in the storage, less those there before the run", signed=True)
    size_bytes: int = column("their serialised bytes", signed=True)
    least_objects: int = column("objects that it must hold")
    least_bytes: int = column("their serialised bytes")
    most_objects: int = column("objects that it may hold")
    most_bytes: int = column("their serialised bytes")


@dataclass(frozen=True, slots=True)
class ServerRow:
    """A row of ``server.csv``: what the server behind the connector says its memory is made of.

    Asked each 50 ms during traced runs. Of Redis: ``INFO memory`` and, for the clients' buffers,
    ``CLIENT LIST`` in one go, because the sums of the first lag behind when it is busy.
    """

    run_id: str = column("the run")
    t_mono_ns: int = column("CLOCK_MONOTONIC after the answer")
    t_unix_ns: int = column("CLOCK_REALTIME after the answer")
    used_bytes: int = column("used_memory: what it has allocated")
    rss_bytes: int = column("used_memory_rss: what its process holds")
    dataset_bytes: int = column("used_memory_dataset less the clients' buffers: the objects")
    query_buffer_bytes: int = column("what clients are sending: qbuf and qbuf-free of all")
    output_buffer_bytes: int = column("what clients have not read yet: omem of all")
    other_bytes: int = column("used_memory less the three: the server itself", signed=True)
    clients: int = column("clients that are connected")
    readers: int = column("clients with an output buffer of 16 KiB or more")
    writers: int = column("clients with a query buffer of 64 KiB or more")


@dataclass(frozen=True, slots=True)
class ObjectStoreRow:
    """A row of ``object-stores.csv``: what one object store of the executor's own has in use.

    Only of executors that have such stores (Ray: one in each node). Asked ten times a second
    during runs. The executor's figure, not the kernel's: Ray tells of an object that nobody needs
    any more up to a second later, and keeps the memory it was in (``shmem`` of the container).
    """

    run_id: str = column("the run")
    t_mono_ns: int = column("CLOCK_MONOTONIC after the answer")
    t_unix_ns: int = column("CLOCK_REALTIME after the answer")
    container: str | None = column("container the store is in; empty outside of containers")
    host: str = column("its host name")
    used_bytes: int = column("in use, copies of other stores' objects too")
    size_bytes: int = column("what it may use at most")


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
