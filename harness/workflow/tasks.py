"""What travels to workers: payloads, tasks, and what is written down of them.

Seeded payloads that cost no more memory than their size, and little time.

What the client writes down of a run's tasks while it runs; rows are made when it is over.

All that travels to workers: keep it small and quick to import.

A task returns its result first and then when it did what: in a tuple that begins with bytes, Dask
sends these as they are; anywhere else in it, or in a class of ours, they would be copied.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from proxystore.proxy import Proxy, resolve
from proxystore.store import get_store
from proxystore.store.base import Store

from harness.core.clock import clock_id, reference
from harness.results.schema import TaskRow

_CHUNK = 256 * 1024
_ZEROS = bytes(_CHUNK)


def payload(seed: int, label: str, size: int) -> bytes:
    """Return ``size`` pseudo-random, incompressible bytes.

    The bytes are the key stream of AES-128 in counter mode (NIST SP 800-38A), whose key and first
    counter are the SHA-256 of seed and label. They are written straight into the result: nothing
    of the same size exists beside it, where ``random.randbytes`` holds the payload twice. Making
    payloads is inside of the measured window, so it is also the fastest generator at hand: a
    quarter of the time of ``random.randbytes`` and a third of SHAKE-128's.

    Args:
        seed: the plan's seed.
        label: names the object within a workflow; other label, other bytes.
        size: in bytes.
    """
    if size == 0:
        return b""
    digest = hashlib.sha256(f"{seed}/{label}".encode()).digest()
    encryptor = Cipher(AES(digest[:16]), CTR(digest[16:])).encryptor()
    buffer = io.BytesIO()
    # Writing the last byte first makes the buffer as large as it must be and no larger; one that
    # grows as it is written over-allocates by an eighth.
    buffer.seek(size - 1)
    buffer.write(b"\0")
    with buffer.getbuffer() as view:
        for start in range(0, size, _CHUNK):
            chunk = view[start : start + _CHUNK]
            encryptor.update_into(_ZEROS[: len(chunk)], chunk)
            chunk.release()
    # Not a copy: a BytesIO that nothing else looks into gives its bytes away.
    return buffer.getvalue()


ContainerName = Callable[[str], str | None]
"""Host name -> the container's name in the memory files, None outside of containers."""


def no_container(_host: str) -> str | None:
    """Know no containers."""
    return None


@dataclass
class Entry:
    """Tasks that are submitted together: those of a stage, or one alone.

    Attributes:
        cycle, stage: whose tasks they are.
        first: number of the first of them within the stage.
    """

    cycle: int
    stage: int
    first: int = 0
    submitted_ns: list[int] = field(default_factory=list)
    received: list[tuple[int, Event]] = field(default_factory=list)


class TaskLog:
    """The events of one run, a hundred bytes or two for each task."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._taking: Entry | None = None

    def begin(self, cycle: int, stage: int, first: int = 0) -> Entry:
        """Begin a stage, or a part of it from task ``first`` on."""
        self._taking = Entry(cycle, stage, first)
        self.entries.append(self._taking)
        return self._taking

    def take(self, entry: Entry) -> None:
        """Expect results of an entry that is not the last that began."""
        self._taking = entry

    def submitting(self) -> None:
        """Note that the next task is about to be submitted."""
        self.entries[-1].submitted_ns.append(reference().monotonic_ns())

    def received(self, event: Event) -> None:
        """Note that the result of the next task is here, and what it says of itself."""
        assert self._taking is not None
        self._taking.received.append((reference().monotonic_ns(), event))

    def rows(self, run_id: str, container: ContainerName = no_container) -> Iterator[TaskRow]:
        """Yield a row for each task that was submitted, also if no result came back."""
        clock = _clock()
        for entry in self.entries:
            for place, submitted_ns in enumerate(entry.submitted_ns):
                came = entry.received[place] if place < len(entry.received) else None
                row = TaskRow(
                    run_id=run_id,
                    cycle=entry.cycle,
                    stage=entry.stage,
                    task=entry.first + place,
                    worker="",
                    submitted_mono_ns=submitted_ns,
                )
                yield row if came is None else _with_result(row, *came, clock, container)


class EventTimes(NamedTuple):
    """When a task had its inputs, and when its result was stored."""

    resolved_ns: int
    finished_ns: int


def event_times(event: Event) -> EventTimes | None:
    """Return what a task says of its times; None if its clock is not the client's."""
    _, _, its_clock, _, resolved_ns, finished_ns, _, _ = event
    return EventTimes(resolved_ns, finished_ns) if its_clock == _clock() else None


def _with_result(
    row: TaskRow, received_ns: int, event: Event, clock: str, container: ContainerName
) -> TaskRow:
    host, thread, its_clock, started_ns, resolved_ns, finished_ns, bytes_in, bytes_out = event
    same = its_clock == clock
    return replace(
        row,
        worker=f"{host}:{thread}",
        started_mono_ns=started_ns if same else None,
        resolved_mono_ns=resolved_ns if same else None,
        finished_mono_ns=finished_ns if same else None,
        received_mono_ns=received_ns,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        container=container(host),
    )


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
    return reference().clock or clock_id()


def _check(data: tuple[Any, ...]) -> int:
    """Return the payload bytes of a task's inputs."""
    for item in data:
        if not isinstance(item, bytes):
            raise TypeError(f"a task got {type(item).__name__} where it expects bytes")
    return sum(map(len, data))


def task_event(started_ns: int, resolved_ns: int, bytes_in: int, bytes_out: int) -> Event:
    """Return what a task says of itself, at its end."""
    times = (started_ns, resolved_ns, reference().monotonic_ns())
    # Containers have process numbers of their own: host and thread together are unique.
    return os.uname().nodename, threading.get_native_id(), _clock(), *times, bytes_in, bytes_out


def task_bytes(
    *data: bytes, seed: int, label: str, size: int, sleep_s: float
) -> tuple[bytes, Event]:
    """Take bytes, sleep, return ``size`` bytes: the mode without proxies."""
    started_ns = reference().monotonic_ns()
    bytes_in = _check(data)
    resolved_ns = reference().monotonic_ns()
    time.sleep(sleep_s)
    return payload(seed, label, size), task_event(started_ns, resolved_ns, bytes_in, size)


def task_proxy(
    *data: Proxy[bytes],
    seed: int,
    label: str,
    size: int,
    sleep_s: float,
    populate_target: bool = True,
) -> tuple[Proxy[bytes], Event]:
    """Resolve proxies of bytes, sleep, return a proxy of ``size`` bytes.

    The returned proxy is a plain one in every mode: an owned proxy would go out of scope, and
    evict its object, as soon as this function returns. The client takes ownership.
    """
    started_ns = reference().monotonic_ns()
    for item in data:
        resolve(item)
    bytes_in = _check(data)
    resolved_ns = reference().monotonic_ns()
    time.sleep(sleep_s)
    store: Store[Any] | None = get_store(data[0])
    if store is None:
        raise RuntimeError("a task's input proxy belongs to no store")
    made = payload(seed, label, size)
    result = store.proxy(made, evict=False, populate_target=populate_target)
    return result, task_event(started_ns, resolved_ns, bytes_in, size)
