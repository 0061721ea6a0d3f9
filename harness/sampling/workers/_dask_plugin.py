"""What travels to Dask workers: the plug-in that starts and ends their samplers.

Everything here runs in the worker's event loop, between runs only, and is over in milliseconds.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distributed import WorkerPlugin

from harness.core.clock import clock_id
from harness.sampling.child import SamplerChild
from harness.sampling.spool import Sampled, open_spool, spool_place, write_who

if TYPE_CHECKING:
    from distributed import Worker

logger = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 2.0


class _Sampler:
    """The sampler of this process, shared by all workers in it: threads share their memory."""

    def __init__(self, token: str, interval_s: float) -> None:
        self.users = 0
        self.sampled = Sampled.here(os.getpid())
        process = f"{self.sampled.host}-{self.sampled.pid}-{secrets.token_hex(4)}"
        self.directory: Path = open_spool(token, process, self.sampled)
        self._child = SamplerChild(
            "harness.sampling.process_tree",
            str(os.getpid()),
            str(self.directory),
            process,
            str(interval_s),
        )

    def add(self, name: str, address: str) -> None:
        """Note one more worker of this process."""
        self.users += 1
        self.sampled.workers.append((name, address))
        write_who(self.directory, self.sampled)

    def stop(self) -> None:
        """End the sampler, which then writes what it still has."""
        self._child.stop(_STOP_TIMEOUT_S)


_samplers: dict[str, _Sampler] = {}


def plugin_name(token: str) -> str:
    """Return the name the plug-in is registered under."""
    return f"workflow-memory-harness-{token}"


class SamplerPlugin(WorkerPlugin):
    """Starts a sampler beside a worker when it is registered or the worker joins."""

    def __init__(self, token: str, interval_s: float) -> None:
        self.token = token
        self.interval_s = interval_s
        self.error = ""

    def setup(self, worker: Worker) -> None:
        """Start sampling. What goes wrong is remembered, not raised: the worker goes on."""
        try:
            sampler = _samplers.get(self.token)
            if sampler is None:
                sampler = _samplers[self.token] = _Sampler(self.token, self.interval_s)
            sampler.add(str(worker.name), worker.address)
        except OSError as error:
            self.error = f"{type(error).__name__}: {error}"
            logger.warning("no memory sampler: %s", self.error)

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002
        """End sampling with the last worker of the process."""
        sampler = _samplers.get(self.token)
        if sampler is None:
            return
        sampler.users -= 1
        if sampler.users <= 0:
            del _samplers[self.token]
            sampler.stop()


@dataclass(frozen=True)
class Found:
    """What a worker says of its sampler: where its files are, or why there is none."""

    clock: str
    place: str
    error: str


def find_sampler(token: str, dask_worker: Worker) -> Found:
    """Say where this worker's sampler writes."""
    plugin = dask_worker.plugins.get(plugin_name(token))
    error = plugin.error if isinstance(plugin, SamplerPlugin) else "not registered"
    try:
        return Found(clock_id(), spool_place(token), error)
    except OSError as reason:
        return Found(clock_id(), "", error or str(reason))


def read_clock() -> int:
    """Return this host's CLOCK_MONOTONIC in nanoseconds."""
    return time.monotonic_ns()
