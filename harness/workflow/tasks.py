"""All that travels to workers: keep it small and quick to import.

A task returns its result first and then when it did what: in a tuple that begins with bytes, Dask
sends these as they are; anywhere else in it, or in a class of ours, they would be copied.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from typing import Any

from proxystore.proxy import Proxy, resolve
from proxystore.store import get_store
from proxystore.store.base import Store

from harness.core.clock import clock_id
from harness.workflow.payload import payload

Event = tuple[str, int, str, int, int, int, int, int]
"""Host, thread, clock; started, resolved, finished (CLOCK_MONOTONIC, ns); bytes in and out."""


def warm_up(probe: Proxy[bytes] | None) -> None:
    """Resolve a proxy: a worker that has done so has imported what tasks and connector need.

    It has also opened its store, and with it the connection to a server. None: no run uses one.
    """
    if probe is not None:
        resolve(probe)
    _clock()


@functools.cache
def _clock() -> str:
    return clock_id()


def _check(data: tuple[Any, ...]) -> int:
    """Return the payload bytes of a task's inputs."""
    for item in data:
        if not isinstance(item, bytes):
            raise TypeError(f"a task got {type(item).__name__} where it expects bytes")
    return sum(map(len, data))


def _event(started_ns: int, resolved_ns: int, bytes_in: int, bytes_out: int) -> Event:
    times = (started_ns, resolved_ns, time.monotonic_ns())
    # Containers have process numbers of their own: host and thread together are unique.
    return os.uname().nodename, threading.get_native_id(), _clock(), *times, bytes_in, bytes_out


def task_bytes(
    *data: bytes, seed: int, label: str, size: int, sleep_s: float
) -> tuple[bytes, Event]:
    """Take bytes, sleep, return ``size`` bytes: the mode without proxies."""
    started_ns = time.monotonic_ns()
    bytes_in = _check(data)
    resolved_ns = time.monotonic_ns()
    time.sleep(sleep_s)
    return payload(seed, label, size), _event(started_ns, resolved_ns, bytes_in, size)


def task_proxy(
    *data: Proxy[bytes], seed: int, label: str, size: int, sleep_s: float
) -> tuple[Proxy[bytes], Event]:
    """Resolve proxies of bytes, sleep, return a proxy of ``size`` bytes.

    The returned proxy is a plain one in every mode: an owned proxy would go out of scope, and
    evict its object, as soon as this function returns. The client takes ownership.
    """
    started_ns = time.monotonic_ns()
    for item in data:
        resolve(item)
    bytes_in = _check(data)
    resolved_ns = time.monotonic_ns()
    time.sleep(sleep_s)
    store: Store[Any] | None = get_store(data[0])
    if store is None:
        raise RuntimeError("a task's input proxy belongs to no store")
    result = store.proxy(payload(seed, label, size), evict=False, populate_target=True)
    return result, _event(started_ns, resolved_ns, bytes_in, size)
