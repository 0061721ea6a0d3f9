"""All that travels to workers: keep it small and quick to import."""

from __future__ import annotations

import time
from typing import Any

from proxystore.proxy import Proxy, resolve
from proxystore.store import get_store
from proxystore.store.base import Store

from harness.workflow.payload import payload


def warm_up(probe: Proxy[bytes] | None) -> None:
    """Resolve a proxy: a worker that has done so has imported what tasks and connector need.

    It has also opened its store, and with it the connection to a server. None: no run uses one.
    """
    if probe is not None:
        resolve(probe)


def _check(data: tuple[Any, ...]) -> None:
    for item in data:
        if not isinstance(item, bytes):
            raise TypeError(f"a task got {type(item).__name__} where it expects bytes")


def task_bytes(*data: bytes, seed: int, label: str, size: int, sleep_s: float) -> bytes:
    """Take bytes, sleep, return ``size`` bytes: the mode without proxies."""
    _check(data)
    time.sleep(sleep_s)
    return payload(seed, label, size)


def task_proxy(
    *data: Proxy[bytes], seed: int, label: str, size: int, sleep_s: float
) -> Proxy[bytes]:
    """Resolve proxies of bytes, sleep, return a proxy of ``size`` bytes.

    The returned proxy is a plain one in every mode: an owned proxy would go out of scope, and
    evict its object, as soon as this function returns. The client takes ownership.
    """
    for item in data:
        resolve(item)
    _check(data)
    time.sleep(sleep_s)
    store: Store[Any] | None = get_store(data[0])
    if store is None:
        raise RuntimeError("a task's input proxy belongs to no store")
    return store.proxy(payload(seed, label, size), evict=False, populate_target=True)
