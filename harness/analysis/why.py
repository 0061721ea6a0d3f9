"""Why a peak is as high as it is: traces, joined with what the kernel charged.

A trace says who asked for how much beyond the baseline; the kernel, what pages were touched. Both
are told, and what lies between them: memory that was asked for and not touched, and memory that no
allocator knows of, such as page tables, page cache and what the sampler itself takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis.csvfile import INTEGER, WORD, Rows, read_csv
from harness.analysis.holders import Holder, holders, payloads
from harness.analysis.readers import read_session
from harness.analysis.series import TOPOLOGY, service_of
from harness.analysis.session import Run, Session
from harness.core.errors import UsageError
from harness.results.directory import RunDirectory
from harness.results.rows import read_table
from harness.results.schema import MarkRow, ServerRow
from harness.results.traces import Held, Trace, read_traces

OWN_PEAK = "own peak"
TOPOLOGY_PEAK = "topology peak"
LEFT = "after the run"
PARTS = ("anon_bytes", "shmem_bytes", "file_bytes", "kernel_bytes")

# Less is in a line of its own only where nothing is larger.
LEAST_SHARE = 0.01


@dataclass(frozen=True)
class Account:
    """Who holds one container's memory at one moment, in bytes beyond the baseline.

    Attributes:
        run_id, mode: of the traced run.
        container: its name.
        moment: :data:`OWN_PEAK`, :data:`TOPOLOGY_PEAK` or :data:`LEFT`.
        kernel_bytes: what the kernel charged; None where it was not read.
        traced_bytes: what its Python processes had allocated.
        holders: who had, the largest first.
        parts: the kernel's reading that is nearest in time, by kind of memory.
        processes: number of traced processes.
        held: the same as ``holders``, by whole stack.
        populated: whether proxies keep their targets.
    """

    run_id: str
    mode: str
    container: str
    moment: str
    kernel_bytes: int | None
    traced_bytes: int
    holders: tuple[Holder, ...]
    parts: Mapping[str, int]
    processes: int
    held: tuple[Held, ...] = field(repr=False, default=())
    populated: bool = True

    @property
    def service(self) -> str:
        """The service of the container."""
        return service_of(self.container)

    @property
    def named_bytes(self) -> int:
        """What has a line of code."""
        return sum(holder.size_bytes for holder in self.holders if holder.stack)

    @property
    def attributed(self) -> float | None:
        """Share of the kernel's figure that has a line of code; above 1 if not all was touched."""
        return self.named_bytes / self.kernel_bytes if self.kernel_bytes else None


@dataclass(frozen=True)
class ServerAccount:
    """What a connector's server said of its memory when it held most, and the kernel of it."""

    run_id: str
    mode: str
    container: str
    kernel_bytes: int | None
    baseline_bytes: int
    at_peak: ServerRow
    samples: int


@dataclass(frozen=True)
class Copies:
    """Copies of payloads that were alive in one service over a run.

    Attributes:
        service: whose.
        times_s: seconds since the run's start, ascending; a level holds until the next time.
        counts: how many there were.
        size_bytes: all of them together.
    """

    service: str
    times_s: tuple[float, ...]
    counts: tuple[int, ...]
    size_bytes: tuple[int, ...]


@dataclass(frozen=True)
class Why:
    """All that a directory of traced runs says.

    Attributes:
        session: the traced runs.
        accounts: by run, container and moment.
        servers: of connectors' servers.
        copies: by run.
        traces: what all is made of.
        problems: a line for each thing that could not be read, or traced.
    """

    session: Session
    accounts: tuple[Account, ...]
    servers: tuple[ServerAccount, ...]
    copies: Mapping[str, tuple[Copies, ...]]
    traces: tuple[Trace, ...]
    problems: tuple[str, ...] = field(default=())

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the workload's payloads, ascending."""
        return _sizes(self.session)

    def highest(self, run_id: str, moment: str = OWN_PEAK) -> list[Account]:
        """Return of each service the container with the highest figure, the highest first."""
        of_run = [a for a in self.accounts if (a.run_id, a.moment) == (run_id, moment)]
        best: dict[str, Account] = {}
        for each in sorted(of_run, key=_size, reverse=True):
            best.setdefault(each.service, each)
        return list(best.values())


def _size(account: Account) -> int:
    return account.kernel_bytes if account.kernel_bytes is not None else account.traced_bytes


def traced_path(path: Path) -> Path | None:
    """Return where the traced runs of a run directory are: in it, or it is one; None without."""
    directory = RunDirectory(path)
    for each in (directory.why, path):
        if RunDirectory(each).traces.is_dir():
            return each
    return None


def read_why(path: Path) -> Why:
    """Read the traced runs of a run directory.

    Args:
        path: of a bench with ``--why``, or the directory ``why`` in it.

    Raises:
        UsageError: if nothing was traced there.
    """
    within = traced_path(path)
    if within is None:
        raise UsageError(f"{path}: has no traces: make some with 'harness bench --why ...'")
    session = read_session(within)
    directory = RunDirectory(within)
    traces, problems = read_traces(directory.traces)
    usage = _Usage.read(directory)
    accounts: list[Account] = []
    copies: dict[str, tuple[Copies, ...]] = {}
    for run in session.runs:
        of_run = [trace for trace in traces if trace.run_id == run.run_id]
        accounts += _Accounts(session, run, of_run, usage).all()
        copies[run.run_id] = tuple(_copies(of_run, usage.unix(run.start_ns), _sizes(session)))
    return Why(
        session=session,
        accounts=tuple(accounts),
        servers=tuple(_servers(session, directory, usage)),
        copies=copies,
        traces=tuple(traces),
        problems=tuple(dict.fromkeys((*session.problems, *problems))),
    )


def _sizes(session: Session) -> tuple[int, ...]:
    workload = session.workload
    return tuple(sorted(set(workload.bytes_sizes))) if workload else ()


def _populated(session: Session) -> bool:
    plan = (session.documents.get("manifest") or {}).get("plan")
    workload = plan.get("workload") if isinstance(plan, dict) else None
    return not (isinstance(workload, dict) and workload.get("no_populate_target") is True)


# --- the kernel's side ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Usage:
    """What the kernel charged to each container over time."""

    rows: Mapping[str, Rows]
    shift_ns: int
    """UNIX time less the monotonic clock."""

    @classmethod
    def read(cls, directory: RunDirectory) -> _Usage:
        names = {"container": WORD, "t_mono_ns": INTEGER, "t_unix_ns": INTEGER}
        names |= dict.fromkeys(("usage_bytes", *PARTS), INTEGER)
        rows: dict[str, Rows] = {}
        path = directory.memory("cgroup")
        if path.exists():
            found = read_csv(path, names, ("container", "t_mono_ns", "t_unix_ns")).rows
            column = found["container"] if len(found) else None
            for code, name in enumerate(column.words if column is not None else ()):
                assert column is not None
                rows[name] = found.where(column.values == code)
        marks = read_table(directory.marks, MarkRow).rows if directory.marks.exists() else ()
        shifts = [mark.t_unix_ns - mark.t_mono_ns for mark in marks]
        return cls(rows, int(np.median(shifts)) if shifts else 0)

    def unix(self, t_mono_ns: int | None) -> int:
        return (t_mono_ns or 0) + self.shift_ns

    def at(self, container: str, column: str, t_mono_ns: int) -> int | None:
        """Return the reading that is nearest to a time."""
        rows = self.rows.get(container)
        if rows is None or column not in rows.columns:
            return None
        chosen = rows.where(rows[column].there)
        if not len(chosen):
            return None
        times = chosen["t_mono_ns"].values
        return int(chosen[column].values[int(np.abs(times - t_mono_ns).argmin())])

    def highest(self, container: str, start_ns: int, end_ns: int) -> int | None:
        """Return the time of the highest reading within a stretch of time."""
        rows = self.rows.get(container)
        if rows is None or "usage_bytes" not in rows.columns:
            return None
        times = rows["t_mono_ns"].values
        chosen = rows.where((times >= start_ns) & (times <= end_ns) & rows["usage_bytes"].there)
        if not len(chosen):
            return None
        return int(chosen["t_mono_ns"].values[int(chosen["usage_bytes"].values.argmax())])


@dataclass(frozen=True)
class _Accounts:
    """Makes the accounts of one run."""

    session: Session
    run: Run
    traces: Sequence[Trace]
    usage: _Usage

    @cached_property
    def by_container(self) -> dict[str, list[Trace]]:
        found: dict[str, list[Trace]] = {}
        for trace in self.traces:
            found.setdefault(trace.container, []).append(trace)
        return found

    def all(self) -> Iterator[Account]:
        simultaneous = self._topology_peak()
        last = self.run.after_ns or self.run.end_ns
        for container, traces in sorted(self.by_container.items()):
            t_unix, held, traced = _at_peak(traces)
            t_ns = t_unix - self.usage.shift_ns
            peak = self.session.peaks.get((self.run.run_id, container))
            kernel = peak.peak_bytes - peak.baseline_bytes if peak else None
            yield self._account(container, OWN_PEAK, t_ns, kernel, (held, traced))
            for moment, when in ((TOPOLOGY_PEAK, simultaneous), (LEFT, last)):
                if when is not None:
                    charged = self._net(container, "usage_bytes", when)
                    found = _at(traces, self.usage.unix(when))
                    yield self._account(container, moment, when, charged, found)

    def _account(
        self,
        container: str,
        moment: str,
        t_ns: int,
        kernel: int | None,
        found: tuple[Sequence[Held], int],
    ) -> Account:
        held, traced = found
        parts = {part: self._net(container, part, t_ns) for part in PARTS}
        return Account(
            run_id=self.run.run_id,
            mode=self.run.mode,
            container=container,
            moment=moment,
            kernel_bytes=kernel,
            traced_bytes=traced,
            holders=tuple(holders(held, _sizes(self.session))),
            parts={part: size for part, size in parts.items() if size is not None},
            processes=len(self.by_container[container]),
            held=tuple(held),
            populated=_populated(self.session),
        )

    def _net(self, container: str, column: str, t_ns: int) -> int | None:
        """Return a reading less the one at the run's start."""
        now = self.usage.at(container, column, t_ns)
        before = None
        if self.run.start_ns is not None:
            before = self.usage.at(container, column, self.run.start_ns)
        return None if now is None or before is None else now - before

    def _topology_peak(self) -> int | None:
        """Return when all containers together used most, on the monotonic clock."""
        memory, run = self.session.memory, self.run
        if memory is None or run.start_ns is None or run.end_ns is None:
            return None
        stretch = memory.window(run.start_ns, run.end_ns)
        levels = memory.levels(TOPOLOGY)[stretch]
        if not len(levels) or np.isnan(levels).all():
            return None
        tick = (stretch.start or 0) + int(np.nanargmax(levels))
        return memory.start_ns + tick * memory.tick_ns + memory.tick_ns // 2


def _at_peak(traces: Sequence[Trace]) -> tuple[int, list[Held], int]:
    """Return when some processes together held most, who did then, and how much in all."""
    largest = max(traces, key=lambda trace: trace.peak_bytes)
    alone = _time_of(largest, largest.peak_at)
    if len(traces) == 1:
        return alone, list(largest.peak), largest.peak_bytes
    times = sorted({t for trace in traces for t in trace.times_ns})
    sums = [sum(_level(trace, t) for trace in traces) for t in times]
    best = max(range(len(times)), key=sums.__getitem__) if times else 0
    if not times or sums[best] <= largest.peak_bytes:
        return alone, list(largest.peak), largest.peak_bytes
    return times[best], *_at(traces, times[best])


def _time_of(trace: Trace, reading: int) -> int:
    place = min(reading // trace.step, len(trace.times_ns) - 1)
    return trace.times_ns[place] if trace.times_ns else 0


def _level(trace: Trace, t_unix_ns: int) -> int:
    reading = trace.reading_at(t_unix_ns)
    return 0 if reading is None else trace.heap_bytes[reading // trace.step]


def _at(traces: Sequence[Trace], t_unix_ns: int) -> tuple[list[Held], int]:
    """Return who held what at a time, and how much it was in all."""
    held: list[Held] = []
    for trace in traces:
        reading = trace.reading_at(t_unix_ns)
        if reading is not None:
            held += trace.held(reading)
    return held, sum(_level(trace, t_unix_ns) for trace in traces)


def _copies(traces: Sequence[Trace], start_unix_ns: int, sizes: Sequence[int]) -> Iterator[Copies]:
    """Yield the copies of payloads that each service had over time."""
    changes: dict[str, dict[int, tuple[int, int]]] = {}
    for trace in traces:
        of_service = changes.setdefault(service_of(trace.container), {})
        for place in trace.places:
            for span in place.spans:
                found = payloads(span.count, span.size_bytes, sizes)
                count, size = sum(found.values()), sum(s * n for s, n in found.items())
                if not count:
                    continue
                ends = [] if span.end is None else [(span.end, -1)]
                for reading, sign in [(span.start, 1), *ends]:
                    t = _time_of(trace, reading)
                    n, b = of_service.get(t, (0, 0))
                    of_service[t] = n + sign * count, b + sign * size
    for service, of_service in sorted(changes.items()):
        times, counts, all_bytes = [], [], []
        n = b = 0
        for t in sorted(of_service):
            n, b = n + of_service[t][0], b + of_service[t][1]
            times.append((t - start_unix_ns) / 1e9)
            counts.append(n)
            all_bytes.append(b)
        if times:
            yield Copies(service, tuple(times), tuple(counts), tuple(all_bytes))


def _servers(session: Session, directory: RunDirectory, usage: _Usage) -> Iterator[ServerAccount]:
    """Yield what servers said when they held most."""
    if not directory.server.exists():
        return
    rows: Sequence[Any] = read_table(directory.server, ServerRow).rows
    for run in session.runs:
        if run.start_ns is None or run.end_ns is None:
            continue
        of_run = [r for r in rows if r.run_id == run.run_id]
        within = [r for r in of_run if run.start_ns <= r.t_mono_ns <= run.end_ns]
        before = [r for r in of_run if r.t_mono_ns < run.start_ns]
        if not within:
            continue
        highest = max(within, key=lambda r: r.used_bytes)
        container = next((c for c in sorted(usage.rows) if service_of(c) == "redis"), "redis-1")
        peak = session.peaks.get((run.run_id, container))
        yield ServerAccount(
            run_id=run.run_id,
            mode=run.mode,
            container=container,
            kernel_bytes=peak.peak_bytes - peak.baseline_bytes if peak else None,
            baseline_bytes=(before[-1] if before else within[0]).used_bytes,
            at_peak=highest,
            samples=len(within),
        )
