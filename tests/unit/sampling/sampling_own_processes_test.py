from __future__ import annotations

import os
import threading
import time
from types import SimpleNamespace

import psutil
import pytest

from harness.results.conversation import NOT_WATCHED, SETTLED, TIMED_OUT, Settled
from harness.sampling import process_tree, settling
from harness.sampling.process_tree import settle_own_processes
from tests.fake_engine import FakeClock


def test_a_runner_that_grows_has_not_settled() -> None:
    held: list[bytearray] = []
    stop = threading.Event()

    def grow() -> None:
        while not stop.is_set() and len(held) < 300:
            held.append(bytearray(b"x") * 2**20)
            time.sleep(0.01)

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        settled = settle_own_processes(0.2, 2**20, 1.0)("0001-none-1")
    finally:
        stop.set()
        thread.join()
    assert settled.verdict == TIMED_OUT


def test_a_runner_that_rests_has_settled() -> None:
    assert settle_own_processes(0.1, 2**22, 30.0)("0001-none-1").verdict == SETTLED


class Told:
    """A runner and the processes below it, whose memory and number are told for each reading."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runner = [100]
        self.below = [1000]
        self.readings = 0
        self.closed = 0
        self.error: Exception | None = None
        monkeypatch.setattr(settling, "time", FakeClock())
        monkeypatch.setattr(process_tree, "ProcessTree", self._tree)
        monkeypatch.setattr(process_tree, "SampledProcess", self._process)

    def _tree(self, pid: int) -> SimpleNamespace:
        assert pid == os.getpid()
        return SimpleNamespace(refresh=self._next, rss=self._rss_below)

    def _rss_below(self) -> SimpleNamespace:
        return SimpleNamespace(rss_bytes=self._at(self.below))

    def _process(self, pid: int) -> SimpleNamespace:
        assert pid == os.getpid()
        return SimpleNamespace(rss=lambda: self._at(self.runner), close=self._close)

    def _next(self) -> None:
        if self.error is not None:
            raise self.error
        self.readings += 1

    def _close(self) -> None:
        self.closed += 1

    def _at(self, told: list[int]) -> int:
        # A worker that starts is seen only by whoever looks for new ones.
        return told[min(self.readings, len(told)) - 1]

    def settled(self) -> Settled:
        return settle_own_processes(0.1, 5, 1.0)("0001-none-1")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


def test_what_the_runner_gives_back_and_a_worker_takes_is_flat(told: Told) -> None:
    told.runner = list(range(1000, 0, -10))
    told.below = list(range(0, 1000, 10))
    assert told.settled() == Settled(SETTLED, 0)
    assert told.closed == 1


@pytest.mark.parametrize("who", ["runner", "below"])
def test_whoever_grows_is_waited_for(told: Told, who: str) -> None:
    setattr(told, who, [10 * reading for reading in range(10)])
    # Flat from the tenth reading, at 0.18 s, on.
    assert told.settled() == Settled(SETTLED, 0)
    assert told.readings == 15
    setattr(told, who, [10 * reading for reading in range(1000)])
    assert told.settled().verdict == TIMED_OUT


def test_what_cannot_be_read_is_not_watched(told: Told) -> None:
    told.error = psutil.AccessDenied()
    assert told.settled() == Settled(NOT_WATCHED)
    assert told.closed == 1
