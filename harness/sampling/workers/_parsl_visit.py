"""What is called in Parsl's workers: it starts, reads and ends the samplers of their pools.

A pool is a manager and the worker processes below it. What it holds of tasks and results is in
the manager, too, so all of it is sampled as one. Parsl gives a task to any worker: each is asked,
and the one of a pool that came first has its sampler.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.sampling.child import SamplerChild
from harness.sampling.spool import Sampled, open_spool, read_piece, remove_if_empty, spool

if TYPE_CHECKING:
    from pathlib import Path

    from harness.sampling.spool import Piece

_STARTER = "starter"
_STOP_TIMEOUT_S = 2.0
_samplers: dict[str, SamplerChild] = {}


@dataclass(frozen=True)
class Visit:
    """What a worker says.

    Attributes:
        process: its pool, for the spool.
        sampled: its pool, with this worker only.
        piece: what is new of the pool, from the worker that has its sampler.
        error: why there is no sampler.
    """

    process: str
    sampled: Sampled
    piece: Piece | None = None
    error: str = ""


def _here() -> tuple[str, Sampled]:
    """Return name and description of this worker's pool."""
    pool = os.environ.get("PARSL_WORKER_POOL_ID", "")
    rank = os.environ.get("PARSL_WORKER_RANK", str(os.getpid()))
    sampled = Sampled.here(os.getppid())
    sampled.workers.append((rank, pool))
    return f"{sampled.host}-{sampled.pid}-{pool}", sampled


def _directory(token: str, process: str) -> Path:
    return spool(token) / process


def start_sampler(token: str, interval_s: float) -> Visit:
    """Start the sampler of this worker's pool, unless another worker has."""
    process, sampled = _here()
    try:
        own = open_spool(token, process, replace(sampled, workers=[]))
        with (own / _STARTER).open("x", encoding="ascii") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return Visit(process, sampled)
    except OSError as error:
        return Visit(process, sampled, error=f"{type(error).__name__}: {error}")
    try:
        _samplers[token] = SamplerChild(
            "harness.sampling.process_tree",
            *(str(sampled.pid), str(own), process, str(interval_s), "tied"),
        )
    except OSError as error:
        return Visit(process, sampled, error=f"{type(error).__name__}: {error}")
    return Visit(process, sampled)


def read_sampler(token: str, offsets: dict[str, int], *, end: bool = False) -> Visit:
    """Return what is new of this worker's pool, if this is the worker to ask.

    Args:
        token: of the invocation.
        offsets: bytes that were taken so far, by pool.
        end: whether the sampler ends first, and writes what it still has.
    """
    process, sampled = _here()
    sampler = _samplers.get(token)
    if sampler is None:
        return Visit(process, sampled)
    if end and sampler.poll() is None:
        with suppress(OSError):
            sampler.send("its rows are fetched\n")
        sampler.stop(_STOP_TIMEOUT_S)
    return Visit(process, sampled, read_piece(_directory(token, process), offsets.get(process, 0)))


def remove_sampler(token: str) -> None:
    """Remove what the sampler of this worker wrote."""
    if _samplers.pop(token, None) is not None:
        directory = _directory(token, _here()[0])
        shutil.rmtree(directory, ignore_errors=True)
        remove_if_empty(directory.parent)


def read_clock() -> tuple[str, int]:
    """Return this worker's pool and its host's CLOCK_MONOTONIC in nanoseconds."""
    return _here()[0], time.monotonic_ns()
