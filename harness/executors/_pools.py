"""What pools share whose workers cannot be addressed one by one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, wait
from functools import partial
from typing import Any

from harness.core.errors import InfrastructureError
from harness.executors._protocol import ExecutorConfig

_TRIM_TIMEOUT_S = 2.0
CALL_TIMEOUT_S = 30.0
"""How long all workers may take to answer where nothing is measured."""

_LINGER_S = 0.02

_Place = tuple[str, int, int]
"""A worker: its host, process and thread."""


def cpu_count() -> int:
    """Return the number of CPUs, the default size of a pool (as in the reference)."""
    return os.cpu_count() or 1


def call_and_linger(warm_up: Callable[..., Any], linger_s: float) -> _Place:
    """Call it, keep the worker busy for a moment, and return which worker it was."""
    warm_up()
    # Long enough that the next call goes to another worker.
    time.sleep(linger_s)
    # Containers have process numbers of their own.
    return os.uname().nodename, os.getpid(), threading.get_ident()


def answer_and_linger(ask: Callable[[], Any], linger_s: float) -> tuple[_Place, Any]:
    """Call it, keep the worker busy for a moment, and return which worker it was and its answer."""
    answers: list[Any] = []
    place = call_and_linger(lambda: answers.append(ask()), linger_s)
    return place, answers[0]


def _silently(call: Callable[[], Any]) -> None:
    call()


def warm_pool(
    executor: Executor,
    workers: int,
    warm_up: Callable[..., Any],
    timeout_s: float,
    linger_s: float = _LINGER_S,
) -> None:
    """Call ``warm_up`` in every worker: pools start workers only as calls arrive.

    Args:
        executor: the pool.
        workers: how many it has.
        warm_up: what is called in each.
        timeout_s: how long all of it may take.
        linger_s: how long a worker is kept busy at first, so that the next call goes to another.

    Raises:
        InfrastructureError: if fewer than ``workers`` distinct workers answered in time.
    """
    seen = _call_in_each(executor, workers, warm_up, timeout_s, linger_s)
    if seen < workers:
        raise InfrastructureError(
            f"{seen} of {workers} pool workers answered within {timeout_s:g} s"
        )


def trim_pool(
    executor: Executor,
    workers: int,
    trim: Callable[[], Any],
    timeout_s: float = _TRIM_TIMEOUT_S,
    linger_s: float = _LINGER_S,
) -> tuple[str, ...]:
    """Call ``trim`` in every worker; return in words which were not reached in a second or two."""
    try:
        seen = _call_in_each(executor, workers, trim, timeout_s, linger_s)
    except RuntimeError:  # the pool broke: that is the run's outcome, not trimming's
        seen = 0
    return () if seen >= workers else (f"{workers - seen} of {workers} pool workers",)


def ask_pool(
    executor: Executor, workers: int, ask: Callable[[], Any], timeout_s: float
) -> list[Any]:
    """Call ``ask`` in every worker; return the answers of those that were reached in time.

    Raises:
        Exception: what ``ask`` raised, or the pool if it broke.
    """
    return list(_answers(executor, workers, ask, timeout_s, _LINGER_S).values())


def _call_in_each(
    executor: Executor,
    workers: int,
    call: Callable[..., Any],
    timeout_s: float,
    linger_s: float = _LINGER_S,
) -> int:
    """Return how many distinct workers have called it when all have, or the time is up."""
    return len(_answers(executor, workers, partial(_silently, call), timeout_s, linger_s))


def _answers(
    executor: Executor,
    workers: int,
    ask: Callable[[], Any],
    timeout_s: float,
    linger_s: float,
) -> dict[_Place, Any]:
    """Return what each worker answered first."""
    deadline = time.monotonic() + timeout_s
    found: dict[_Place, Any] = {}
    while len(found) < workers and time.monotonic() <= deadline:
        futures = [executor.submit(answer_and_linger, ask, linger_s) for _ in range(workers)]
        done, open_ = wait(futures, timeout=max(0.0, deadline - time.monotonic()))
        for future in open_:
            future.cancel()
        for future in done:
            place, answer = future.result()
            found.setdefault(place, answer)
        linger_s = min(1.0, 2 * linger_s)
    return found


class PoolConfig(ExecutorConfig):
    """Options of a pool of the standard library; subclasses name the flag."""

    max_workers: int | None = None

    @property
    def workers(self) -> int:
        """Size of the pool."""
        return cpu_count() if self.max_workers is None else self.max_workers

    @property
    def worker_count(self) -> int:
        """As many as the pool has."""
        return self.workers

    def wait_ready(
        self, executor: Executor, warm_up: Callable[..., Any], timeout_s: float
    ) -> Mapping[str, Any]:
        """Make the pool start all of its workers."""
        warm_pool(executor, self.workers, warm_up, timeout_s)
        return {"workers": self.workers}
