"""One session, whoever recorded it, and the workload that it tells of (pure).

The workload as results.csv tells it, and what follows from it alone (pure).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.text import one_line

if TYPE_CHECKING:
    from harness.analysis.series import Memory


# What results.csv has before the sizes of a graph's levels (``harness.plan.workload.TOTAL``).
_TOTAL = "total:"
_NUMBERS = re.compile(r"[0-9]{1,18}(?:-[0-9]{1,18}){0,9999}")


@dataclass(frozen=True)
class WorkloadFacts:
    """A workload, whoever ran it.

    Attributes:
        executor: class name of the executor.
        connector: class name of the connector; empty where only mode none was run.
        task_counts: tasks of each stage.
        bytes_sizes: size of the start data, then of each stage's results, in bytes; of a graph's
            levels, whose objects have no one size, nothing.
        repeat: times the stages were run within one workflow.
        sleep_s: seconds each task slept; in a graph the mean of what its levels take at least.
        total_bytes: of a graph: all start data, then all results of each level.
    """

    executor: str
    connector: str
    task_counts: tuple[int, ...]
    bytes_sizes: tuple[int, ...]
    repeat: int
    sleep_s: float
    total_bytes: tuple[int, ...] = ()

    @property
    def payload_bytes(self) -> int:
        """Bytes that one workflow makes: start data and the results of all tasks.

        This is also what default-proxy holds when the workflow ends.
        """
        if self.total_bytes:
            return self.repeat * sum(self.total_bytes)
        counts = (self.task_counts[0], *self.task_counts)
        return self.repeat * sum(c * s for c, s in zip(counts, self.bytes_sizes, strict=True))

    @property
    def ideal_s(self) -> float:
        """Makespan in seconds if nothing cost time but the tasks' sleep."""
        return self.repeat * len(self.task_counts) * self.sleep_s

    def differences(self, other: WorkloadFacts) -> dict[str, tuple[str, str]]:
        """Return what differs from another workload: its name to both values.

        A side that ran without a connector (mode none) agrees with any.
        """
        pairs = {
            "executor": (self.executor, other.executor),
            "connector": (self.connector, other.connector),
            "--stage-task-counts": (_joined(self.task_counts), _joined(other.task_counts)),
            "--stage-bytes-sizes": (_joined(self.bytes_sizes), _joined(other.bytes_sizes)),
            "bytes of each level": (_joined(self.total_bytes), _joined(other.total_bytes)),
            "--stage-repeat": (str(self.repeat), str(other.repeat)),
            "--task-sleep": (f"{self.sleep_s:g}", f"{other.sleep_s:g}"),
        }
        if not (self.connector and other.connector):
            del pairs["connector"]
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def parse_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a cell such as ``32-1``.

    Raises:
        ValueError: if it is none.
    """
    if not _NUMBERS.fullmatch(text):
        raise ValueError(text)
    return tuple(int(part) for part in text.split("-"))


def parse_sizes(text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the sizes of a cell such as ``100-10``; and those of one such as ``total:100-10``.

    Raises:
        ValueError: if it is neither.
    """
    if text.startswith(_TOTAL):
        return (), parse_numbers(text.removeprefix(_TOTAL))
    return parse_numbers(text), ()


def _joined(numbers: tuple[int, ...]) -> str:
    return " ".join(map(str, numbers))


Row = dict[str, Any]
"""Cells by column, None where nothing was read."""

OK = "ok"
MEASURED = ("ok", "leak")
"""Outcomes of runs that went through and so have figures."""


@dataclass(frozen=True)
class Run:
    """One run of a session.

    Times are in nanoseconds on the session's own clock: the host's monotonic one, or UNIX time
    where nothing else was recorded.

    Attributes:
        run_id: its name, unique in the session.
        mode: its data management mode.
        repetition: which of the mode's runs, from 1.
        outcome: ``ok``, ``failed``, ``leak`` or ``interrupted``.
        reason: one line where it is not ok.
        makespan_s: from start to end; None where it has none.
        start_ns, end_ns: the measured window; None where it was not recorded.
        after_ns: until when memory after the run was recorded before the next began.
        marks: all marks of the run by name.
        unusable: why its times say nothing about its memory; empty if they do.
    """

    run_id: str
    mode: str
    repetition: int
    outcome: str = OK
    reason: str = ""
    makespan_s: float | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    after_ns: int | None = None
    marks: Mapping[str, int] = field(default_factory=dict)
    unusable: str = ""

    @property
    def measured(self) -> bool:
        """Whether it went through, so that its figures count."""
        return self.outcome in MEASURED and self.makespan_s is not None


@dataclass(frozen=True)
class Peak:
    """A peak and baseline of ``peaks.csv``, in bytes, and where the peak was read.

    Attributes:
        nodes: how many nodes it is the sum of, whose kernels know no common moment: then the
            peak was at most that. 0: it is one node's, as the kernel or the sampler told it.
    """

    peak_bytes: int
    baseline_bytes: int
    kind: str
    interval_ns: int
    nodes: int = 0


@dataclass(frozen=True)
class Session:
    """What one directory holds.

    Attributes:
        path: the directory.
        source: ``harness`` or ``psbench``: who wrote it.
        workload: None where results.csv has no usable row.
        runs: in the order they were run.
        memory: usage over time; None where none was recorded.
        peaks: by run and by container, service or ``topology``.
        tables: further files that are there, by name without suffix: tasks, predictions, ledger,
            objects, marks.
        documents: JSON files that are there, by name without suffix: manifest, sampling, quality,
            calibration.
        problems: one line for each thing that could not be read.
        started_unix_s: when the first run started; None where that was not recorded.
        label: what to call it beside others; empty: as its directory.
    """

    path: Path
    source: str
    workload: WorkloadFacts | None
    runs: tuple[Run, ...]
    memory: Memory | None
    peaks: Mapping[tuple[str, str], Peak] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    documents: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    started_unix_s: float | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """Name of the directory; with as much of its path as tells it from others beside it."""
        return self.label or one_line(self.path.name)

    @property
    def modes(self) -> list[str]:
        """The modes, in the order of their first run."""
        return list(dict.fromkeys(run.mode for run in self.runs))

    def measured(self, mode: str) -> list[Run]:
        """Return the mode's runs that went through."""
        return [run for run in self.runs if run.mode == mode and run.measured]


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of some paths that tell them apart: ``old/run`` and ``new/run``.

    A path that is there twice is numbered.
    """
    whole = [path.absolute().parts for path in paths]
    ends = dict.fromkeys(whole, 1)

    def end(parts: tuple[str, ...]) -> str:
        return one_line(str(Path(*parts[-ends[parts] :])))

    while True:
        counts = Counter(map(end, ends))
        alike = [parts for parts in ends if counts[end(parts)] > 1 and ends[parts] < len(parts)]
        if not alike:
            break
        for parts in alike:
            ends[parts] += 1
    names = [end(parts) for parts in whole]
    counts = Counter(names)
    return [f"{n} {name}" if counts[name] > 1 else name for n, name in enumerate(names, 1)]
