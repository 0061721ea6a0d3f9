"""What the storage held while tasks ran, and what the order in which they ran says it must hold.

Between two boundaries something is always under way: a task has stored its result, and the client
has not heard of it yet. When each task began to store and when it had ended is known afterwards,
from what the tasks say of themselves.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from proxystore.serialize import serialize

from harness.connectors import Held
from harness.core.clock import reference
from harness.plan.graph import Graph
from harness.results.schema import CompletionRow
from harness.workflow.phases import Phases
from harness.workflow.tasks import Entry, TaskLog, event_times


class _Asked(NamedTuple):
    entry: Entry
    from_ns: int
    to_ns: int
    held: Held
    known: Held


class StorageAudit:
    """Asks the storage at boundaries and completions.

    Args:
        phases: the run's; it writes down boundaries.
        keeps: whether the mode removes nothing while it runs.
    """

    def __init__(self, phases: Phases, *, keeps: bool) -> None:
        self._phases = phases
        self._keeps = keeps
        self._asked: list[_Asked] = []

    def boundary(self, cycle: int, stage: int) -> None:
        """Write down what is held at a boundary."""
        self._phases.audit(cycle, stage)

    def completion(self, entry: Entry, alive: Callable[[], Held], made: Held) -> None:
        """Remember what is held when a task is done."""
        known = made if self._keeps else alive()
        from_ns = reference().monotonic_ns()
        held = self._phases.held()
        self._asked.append(_Asked(entry, from_ns, reference().monotonic_ns(), held, known))

    @property
    def completions(self) -> int:
        """How often it asked at a completion."""
        return len(self._asked)

    def rows(self, run_id: str, log: TaskLog, graph: Graph) -> Iterator[CompletionRow]:
        """Yield a row for each completion of a run that has ended."""
        under_way = _UnderWay(log, graph)
        for entry, from_ns, to_ns, held, known in self._asked:
            least = _serialised(known + under_way.stored(from_ns))
            most = _serialised(known + under_way.perhaps_stored(from_ns, to_ns))
            yield CompletionRow(
                run_id=run_id,
                cycle=entry.cycle,
                stage=entry.stage,
                task=entry.first,
                t_mono_ns=from_ns,
                objects=held.objects,
                size_bytes=held.size_bytes,
                least_objects=least.objects,
                least_bytes=least.size_bytes,
                most_objects=most.objects,
                most_bytes=most.size_bytes,
            )


def _serialised(payloads: Held) -> Held:
    """Return what payloads are in the store: ProxyStore puts some bytes before each."""
    return Held(payloads.objects, payloads.size_bytes + payloads.objects * len(serialize(b"")))


class _Counted:
    """Objects by a moment each."""

    def __init__(self, moments: Sequence[tuple[int, int]]) -> None:
        ordered = sorted(moments)
        self.moments = [moment for moment, _ in ordered]
        self.bytes = [0, *accumulate(size for _, size in ordered)]

    def until(self, moment: int) -> Held:
        """Return what comes at a moment or before."""
        count = bisect_right(self.moments, moment)
        return Held(count, self.bytes[count])

    def before(self, moment: int) -> Held:
        """Return what comes before a moment."""
        count = bisect_left(self.moments, moment)
        return Held(count, self.bytes[count])


class _UnderWay:
    """Results of tasks between their storing and the client's hearing of it."""

    def __init__(self, log: TaskLog, graph: Graph) -> None:
        begun, ended, heard = [], [], []
        for entry in log.entries:
            level = graph.levels[entry.stage]
            for place, (submitted_ns, (heard_ns, event)) in enumerate(
                zip(entry.submitted_ns, entry.received, strict=False), entry.first
            ):
                task = level[place]
                times = event_times(event)
                # Of a clock that is not ours nothing is known but what the client saw.
                begun_ns, ended_ns = submitted_ns, heard_ns
                if times is not None:
                    begun_ns = times.resolved_ns + int(task.sleep_s * 1e9)
                    ended_ns = times.finished_ns
                begun.append((begun_ns, task.size))
                ended.append((ended_ns, task.size))
                heard.append((heard_ns, task.size))
        self._begun, self._ended, self._heard = map(_Counted, (begun, ended, heard))

    def stored(self, at_ns: int) -> Held:
        """Return what was certainly stored, and not heard of."""
        return self._ended.until(at_ns) - self._heard.until(at_ns)

    def perhaps_stored(self, from_ns: int, to_ns: int) -> Held:
        """Return what may have been stored by the end of a time, and was not heard of before."""
        return self._begun.before(to_ns) - self._heard.until(from_ns)
