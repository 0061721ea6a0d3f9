"""The samplers of one Dask cluster, started, asked and ended through a client.

Rows wait in files on the workers' hosts and are fetched between runs and at the end, because
whatever passes through a worker's event loop or the scheduler while a run is measured would be
in the measurement.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from harness.core.clock import clock_id
from harness.sampling.clocks import Exchange, estimate
from harness.sampling.spool import read_spool, remove_spool, touch_spool
from harness.sampling.workers._collector import Collector
from harness.sampling.workers._dask_plugin import (
    Found,
    SamplerPlugin,
    find_sampler,
    plugin_name,
    read_clock,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

    from harness.results.directory import RunDirectory
    from harness.sampling.spool import Piece

logger = logging.getLogger("run.workflow-memory")

# A cluster that does not answer must not hold up the end of the program.
_CALL_TIMEOUT_S = 15.0
_START_TIMEOUT_S = 20.0
_START_POLL_S = 0.1
_ROUND_TRIPS = 10
_TOUCH_EVERY_S = 60.0
# What Dask raises when scheduler or workers are gone: CommClosedError is an OSError, and a closed
# client says RuntimeError or ValueError.
_GONE = (OSError, TimeoutError, RuntimeError, ValueError)


class Cluster:
    """The samplers of one Dask cluster."""

    def __init__(self, client: Client, directory: RunDirectory, interval_s: float) -> None:
        self._client = client
        self._token = secrets.token_hex(4)
        self._interval_s = interval_s
        self._clock = clock_id()
        self._directory = directory
        self.collector = Collector(directory, self._clock)
        self._places: dict[str, str] = {}
        self._ended = threading.Event()
        self._toucher = threading.Thread(target=self._touch, daemon=True)

    def _run(self, function: Callable[..., Any], *args: Any, **options: Any) -> dict[str, Any]:
        """Call a function in workers: ``Client.run`` with a time-out, which that has not."""
        found: dict[str, Any] = self._client.sync(
            self._client._run,
            function,
            *args,
            callback_timeout=_CALL_TIMEOUT_S,
            on_error="return",
            **options,
        )
        return found

    def start(self) -> None:
        """Start samplers and wait until each has written a row."""
        self._client.register_plugin(
            SamplerPlugin(self._token, self._interval_s), name=plugin_name(self._token)
        )
        self._toucher.start()
        found = self._find()
        failed = {a: f.error for a, f in found.items() if f.error}
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            self._fetch()
            if all(self.collector.seen(a) or a in failed for a in found):
                break
            time.sleep(_START_POLL_S)
        else:
            late = [a for a in found if not self.collector.seen(a) and a not in failed]
            failed |= dict.fromkeys(late, f"no rows within {_START_TIMEOUT_S:g} s")
        for address, reason in failed.items():
            logger.warning("worker %s is not sampled from inside: %s", address, reason)
        self.collector.write_workers()

    def _find(self) -> dict[str, Found]:
        """Ask all workers where their rows are, and measure the clocks of other hosts."""
        answers = self._run(find_sampler, self._token)
        found = {a: f for a, f in answers.items() if isinstance(f, Found)}
        self._places = {}
        for address, sampler in found.items():
            if sampler.place:
                self._places.setdefault(sampler.place, address)
            if sampler.clock != self._clock:
                self._measure(address)
        return found

    def _measure(self, address: str) -> None:
        trips = []
        for _ in range(_ROUND_TRIPS):
            sent_ns = time.monotonic_ns()
            answer = self._run(read_clock, workers=[address]).get(address)
            received_ns = time.monotonic_ns()
            if isinstance(answer, int):
                trips.append(Exchange(sent_ns, answer, received_ns))
        if trips:
            self.collector.measured(address, estimate(trips))

    def _fetch(self) -> None:
        """Fetch from one worker of each host, piece by piece, until there is nothing new."""
        more = True
        while more and self._places:
            answers = self._run(
                read_spool,
                self._token,
                self.collector.offsets,
                workers=list(self._places.values()),
            )
            pieces: dict[str, Piece] = {}
            for answer in answers.values():
                if not isinstance(answer, Exception):
                    pieces |= answer
            more = self.collector.take(pieces)

    def collect(self) -> None:
        """Fetch what there is, between runs. A cluster that is gone is said and survived."""
        try:
            self._find()
            self._fetch()
            self.collector.write_workers()
        except _GONE as error:
            logger.warning("rows of the Dask workers could not be fetched: %s", error)

    def stop(self) -> None:
        """End the samplers, fetch the rest, and leave nothing on the cluster."""
        self._ended.set()
        try:
            self._find()
            self._client.sync(
                self._client._unregister_worker_plugin,
                name=plugin_name(self._token),
                callback_timeout=_CALL_TIMEOUT_S,
            )
            self._fetch()
            self._run(remove_spool, self._token, workers=list(self._places.values()))
        except _GONE as error:
            logger.warning("samplers of the Dask workers were not ended orderly: %s", error)
        lost = self.collector.lost()
        if lost:
            logger.warning("the last rows of %s are lost: their hosts are gone", ", ".join(lost))
        self.collector.close()

    def _touch(self) -> None:
        while not self._ended.wait(_TOUCH_EVERY_S):
            with suppress(*_GONE):
                self._run(touch_spool, self._token)
