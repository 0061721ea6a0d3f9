"""The samplers of Parsl's worker pools, started, asked and ended by tasks.

Rows wait in files on the pools' hosts and are fetched between runs and at the end, as those of
Dask's workers. Nothing of it runs while a run is measured.
"""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from harness.core.clock import clock_id
from harness.sampling.clocks import Exchange, estimate
from harness.sampling.workers._collector import Collector
from harness.sampling.workers._parsl_visit import (
    Visit,
    read_clock,
    read_sampler,
    remove_sampler,
    start_sampler,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from harness.results.directory import RunDirectory
    from harness.sampling.spool import Piece, Sampled

logger = logging.getLogger("run.workflow-memory")

# Workers that are busy, or gone, must not hold up the end of the program.
_CALL_TIMEOUT_S = 5.0
_START_TIMEOUT_S = 20.0
_START_POLL_S = 0.1
_ROUND_TRIPS = 5
_MANY_BYTES = 1 << 19


class PoolsExecutor(Protocol):
    """What is needed of an executor."""

    @property
    def has_pools(self) -> bool:
        """Whether its workers are processes below managers that stay."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Submit a call."""

    def ask_each(self, ask: Callable[[], Any], timeout_s: float) -> list[Any]:
        """Call ``ask`` in every worker; return the answers of those that were reached in time."""


class Pools:
    """The samplers of one executor's pools."""

    def __init__(self, executor: PoolsExecutor, directory: RunDirectory, interval_s: float) -> None:
        self._executor = executor
        self._token = secrets.token_hex(4)
        self._interval_s = interval_s
        self._clock = clock_id()
        self.collector = Collector(directory, self._clock)
        self._pools: dict[str, Sampled] = {}

    def start(self) -> None:
        """Start samplers and wait until each has written a row; what fails is said."""
        try:
            self._start()
        except Exception as error:  # noqa: BLE001  # whatever Parsl raises, it is told
            logger.warning("Parsl's pools are not sampled from inside: %s", _said(error))

    def _start(self) -> None:
        failed = {
            visit.process: visit.error
            for visit in self._ask(partial(start_sampler, self._token, self._interval_s))
            if visit.error
        }
        self._measure()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            self._fetch()
            late = [p for p in self._pools if not self._has_rows(p) and p not in failed]
            if not late:
                break
            time.sleep(_START_POLL_S)
        else:
            failed |= dict.fromkeys(late, f"no rows within {_START_TIMEOUT_S:g} s")
        for process, reason in failed.items():
            host = self._pools[process].host
            logger.warning("a pool on %s is not sampled from inside: %s", host, reason)
        self.collector.write_workers()

    def _has_rows(self, process: str) -> bool:
        return self.collector.offsets.get(process, 0) > 0

    def _ask(self, ask: Callable[[], Any]) -> list[Visit]:
        """Ask all workers, and note which are in which pool."""
        visits: list[Visit] = self._executor.ask_each(ask, _CALL_TIMEOUT_S)
        if not visits:
            raise TimeoutError(f"no worker answered within {_CALL_TIMEOUT_S:g} s")
        for visit in visits:
            known = self._pools.setdefault(visit.process, replace(visit.sampled, workers=[]))
            known.workers += [each for each in visit.sampled.workers if each not in known.workers]
        return visits

    def _measure(self) -> None:
        """Measure the clocks of other hosts, with whatever worker takes a task."""
        foreign = [p for p, sampled in self._pools.items() if sampled.clock != self._clock]
        trips: dict[str, list[Exchange]] = {process: [] for process in foreign}
        deadline = time.monotonic() + _CALL_TIMEOUT_S
        while any(len(found) < _ROUND_TRIPS for found in trips.values()):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            sent_ns = time.monotonic_ns()
            process, there_ns = self._executor.submit(read_clock).result(left_s)
            if process in trips:
                trips[process].append(Exchange(sent_ns, there_ns, time.monotonic_ns()))
        for process, found in trips.items():
            if found:
                offset = estimate(found)
                for _, address in self._pools[process].workers:
                    self.collector.measured(address, offset)

    def _fetch(self, *, end: bool = False) -> None:
        """Fetch what is new; at the end until there is nothing, for then reports come."""
        more = True
        while more:
            ask = partial(read_sampler, self._token, dict(self.collector.offsets), end=end)
            pieces: dict[str, Piece] = {}
            for visit in self._ask(ask):
                if visit.piece is not None:
                    sampled = self._pools[visit.process]
                    pieces[visit.process] = replace(visit.piece, sampled=sampled)
            more = self.collector.take(pieces)
            if not end:  # a round takes its time, and the rest can wait, unless it is a lot
                more = any(len(piece.rows) > _MANY_BYTES for piece in pieces.values())

    def collect(self) -> None:
        """Fetch what there is, between runs. Workers that are gone are said and survived."""
        try:
            self._measure()
            self._fetch()
            self.collector.write_workers()
        except Exception as error:  # noqa: BLE001  # whatever Parsl raises, it is told
            logger.warning("rows of Parsl's workers could not be fetched: %s", _said(error))

    def stop(self) -> None:
        """End the samplers, fetch the rest, and leave nothing on the pools' hosts."""
        try:
            self._measure()
            self._fetch(end=True)
            self._executor.ask_each(partial(remove_sampler, self._token), _CALL_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001  # whatever Parsl raises, it is told
            logger.warning("samplers of Parsl's pools were not ended orderly: %s", _said(error))
        lost = self.collector.lost()
        if lost:
            logger.warning("the last rows of %s are lost: their hosts are gone", ", ".join(lost))
        self.collector.close()


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
