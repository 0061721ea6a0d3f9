"""Which processes are summed up, and that the kept descriptors tell what psutil does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import psutil
import pytest

from harness.sampling import process_memory
from harness.sampling.process_memory import FullSum, ProcessSums, RssSum, SampledProcess


class Some(ProcessSums):
    """Processes that are told, and this one, which is never summed up."""

    def __init__(self, *processes: subprocess.Popen[str]) -> None:
        self.pids = [os.getpid(), *(process.pid for process in processes)]
        super().__init__()

    def _pids(self) -> list[int]:
        return self.pids


@contextmanager
def idle_process() -> Iterator[subprocess.Popen[str]]:
    program = "print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_sum_is_psutils() -> None:
    with idle_process() as one, idle_process() as other:
        found = Some(one, other).rss()
        expected = [psutil.Process(each.pid).memory_info().rss for each in (one, other)]
    assert found == RssSum(2, sum(expected))


def test_new_ones_are_taken_up_and_ended_ones_dropped_with_their_descriptors() -> None:
    sums = Some()
    before = open_files()
    with idle_process() as first:
        assert sums.rss() == RssSum(0, 0)
        sums.pids.append(first.pid)
        sums.refresh()
        assert sums.rss().n_procs == 1
    assert sums.rss() == RssSum(0, 0)
    with idle_process() as second:
        sums.pids.append(second.pid)
        sums.refresh()
    sums.refresh()
    assert sums.rss() == RssSum(0, 0)
    assert open_files() == before


def test_a_number_in_use_again_is_another_process() -> None:
    with idle_process() as first:
        sums = Some(first)
        ended = sums._known[first.pid]
    assert ended.ended
    with idle_process() as second:
        # As if the kernel had given the second the first one's number.
        sums._known[second.pid] = sums._known.pop(first.pid)
        sums.pids.append(second.pid)
        sums.refresh()
        assert sums._known[second.pid] is not ended
        assert sums.rss().rss_bytes == psutil.Process(second.pid).memory_info().rss


def test_without_a_descriptor_psutil_is_asked() -> None:
    with idle_process() as process:
        sampled = SampledProcess(process.pid)
        through_descriptor = sampled.rss()
        sampled.close()
        assert sampled.rss() == through_descriptor
        assert not sampled.ended
    assert sampled.ended
    with pytest.raises(psutil.NoSuchProcess):
        SampledProcess(process.pid)


def test_what_the_engine_puts_into_a_container_is_not_counted_nor_what_it_starts() -> None:
    """Play ``docker exec``: a process whose first ancestor is not the sampler's."""
    starts_one = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'input()'],"
        " stdin=subprocess.PIPE); print(child.pid, flush=True); input(); child.wait()"
    )
    with (
        idle_process() as service,
        subprocess.Popen(
            [sys.executable, "-c", starts_one],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as executed,
    ):
        assert executed.stdout is not None
        child = int(executed.stdout.readline())
        sums = Some(service)
        sums._foreign.add(psutil.Process(executed.pid))
        sums.pids += [executed.pid, child]
        sums.refresh()
        assert set(sums._known) == {service.pid}
        executed.kill()
        executed.wait()
        # The orphan is another's child now, and is still nobody of the service.
        sums.refresh()
        assert set(sums._known) == {service.pid}


class Fake:
    """A process by those above it; the number of its parent is 0 where that is not seen."""

    def __init__(self, *above: Fake, parent: int = 1) -> None:
        self.above = list(above)
        self.parent = parent if above else 0

    def parents(self) -> list[Fake]:
        return self.above

    def ppid(self) -> int:
        return self.parent


class Counting(ProcessSums):
    """Judges processes of a container whose first one is told."""

    def __init__(self, first: Fake) -> None:
        super().__init__()
        self._first = cast("psutil.Process", first)

    def _pids(self) -> list[int]:
        return []

    def counts(self, process: Fake) -> bool:
        return self._is_counted(cast("psutil.Process", process))


def test_what_descends_from_the_first_process_is_counted_and_that_one_is_not() -> None:
    first = Fake()
    sums = Counting(first)
    child = Fake(first)
    assert sums.counts(child)
    assert sums.counts(Fake(child, first))
    assert not sums.counts(first)


def test_docker_exec_has_no_parent_here_and_is_not_counted_nor_what_it_started() -> None:
    first = Fake()
    sums = Counting(first)
    executed = Fake()
    child = Fake(executed)
    assert not sums.counts(executed)
    assert not sums.counts(child)
    # What it started is taken in by the first process when it ends: it was seen before.
    child.above, child.parent = [first], 1
    assert not sums.counts(child)
    grandchild = Fake(child, first)
    assert not sums.counts(grandchild)
    assert sums.counts(Fake(first))


def test_an_orphan_is_looked_at_again_once_somebody_has_taken_it_in() -> None:
    first = Fake()
    sums = Counting(first)
    orphan = Fake()
    orphan.parent = 77
    assert not sums.counts(orphan)
    orphan.above = [first]
    assert sums.counts(orphan)


def test_unique_and_proportional_sums_are_psutils() -> None:
    with idle_process() as one, idle_process() as other:
        found = Some(one, other).full()
        expected = [psutil.Process(each.pid).memory_full_info() for each in (one, other)]
    assert found is not None
    assert found.uss_bytes == pytest.approx(sum(each.uss for each in expected), rel=0.02)
    # What two processes share is counted once between them all.
    assert found.pss_bytes == pytest.approx(sum(each.pss for each in expected), rel=0.02)
    assert found.uss_bytes < found.pss_bytes


def test_a_process_that_is_too_large_or_not_ours_leaves_no_sum_and_one_that_ended_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with idle_process() as one:
        sums = Some(one)
        monkeypatch.setattr(process_memory, "_FULL_LIMIT_BYTES", sums.rss().rss_bytes // 2)
        assert sums.full() is None
        monkeypatch.undo()
        sampled = sums._known[one.pid]

        def denied() -> None:
            raise psutil.AccessDenied(one.pid)

        monkeypatch.setattr(sampled.process, "memory_full_info", denied)
        assert sums.full() is None
    assert sums.full() == FullSum(0, 0)


def test_every_process_is_looked_at_but_this_one() -> None:
    sums = Counting(Fake())
    with idle_process() as one:
        assert {os.getpid(), one.pid} <= set(ProcessSums._pids(sums))
    assert sums.own_rss() == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)
