"""The modes by themselves: what enters, what is lent, what is evicted when."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from proxystore.connectors.local import LocalConnector
from proxystore.proxy import Proxy, is_resolved
from proxystore.store import register_store, unregister_store
from proxystore.store.base import Store
from proxystore.store.ref import OwnedProxy as Owned

from harness.plan import Mode
from harness.workflow.modes import (
    MODES,
    DataManager,
    DefaultProxy,
    Futures,
    Made,
    ManualProxy,
    OwnedProxy,
    manager_for,
)
from harness.workflow.tasks import task_bytes, task_proxy

OPTIONS = {"seed": 1, "label": "0/0/0", "size": 40, "sleep_s": 0.0}


class Kept:
    """A reference to what this executor keeps."""

    def __init__(self, data: bytes) -> None:
        self.data = data


class Here(Executor):
    """Runs tasks at once, in the caller's thread."""

    def __init__(self) -> None:
        self.tasks: list[Callable[..., Any]] = []

    def submit(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.tasks.append(task)
        future: Future[Any] = Future()
        future.set_result(task(*args, **kwargs))
        return future

    def put(self, data: bytes) -> Kept:
        return Kept(data)

    def submit_by_reference(
        self, task: Callable[..., Any], /, *references: Any, **kwargs: Any
    ) -> tuple[Kept, Future[Any]]:
        self.tasks.append(task)
        payload, *rest = task(*(reference.data for reference in references), **kwargs)
        future: Future[Any] = Future()
        future.set_result(tuple(rest))
        return Kept(payload), future


class Late(Future[Any]):
    """A future whose result is there before its callbacks have run, as with threads it may be."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.called_back = False
        self._callbacks: list[Callable[[Any], object]] = []
        self.set_result(result)

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._callbacks.append(callback)

    def call_back(self) -> None:
        *before, last = self._callbacks
        for callback in before:
            callback(self)
        self.called_back = True
        last(self)


class LateHere(Here):
    """Runs tasks at once, and what was to be called back a moment later in another thread."""

    def __init__(self) -> None:
        super().__init__()
        self.futures: list[Late] = []

    def submit(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.futures.append(Late(task(*args, **kwargs)))
        return self.futures[-1]

    def call_back(self) -> None:
        for future in self.futures:
            future.call_back()


@pytest.fixture
def store() -> Iterator[Store[Any]]:
    store: Store[Any] = Store("modes", LocalConnector(), cache_size=0)
    register_store(store)
    yield store
    unregister_store(store.name)


def held(store: Store[Any]) -> int:
    """Return how many objects a store holds, once nobody's garbage keeps any."""
    gc.collect()
    return len(store.connector._store)


def step(manager: DataManager, executor: Executor, data: list[Any]) -> list[Any]:
    """Run one stage of one task."""
    manager.log.begin(0, 0)
    return manager.results(manager.submit(executor, [data], [OPTIONS]))


def test_every_mode_has_its_manager(store: Store[Any]) -> None:
    assert type(manager_for(Mode.NONE, store)) is DataManager
    assert not manager_for(Mode.NONE, store).uses_store
    for mode, manager in MODES.items():
        assert type(manager_for(mode, store)) is manager
        assert manager.uses_store
    assert type(manager_for(Mode.FUTURES, store, executor=Here())) is Futures
    assert not Futures.uses_store
    assert set(MODES) == set(Mode) - {Mode.NONE, Mode.FUTURES}


def test_references_go_through_and_no_data_comes_back(store: Store[Any]) -> None:
    executor = Here()
    manager = Futures(executor)
    start = manager.enter(b"start")
    (result,) = step(manager, executor, [start])
    assert type(result) is Kept
    assert len(result.data) == 40
    (following,) = step(manager, executor, [result])
    assert executor.tasks == [task_bytes, task_bytes]
    assert [row.bytes_in for row in manager.log.rows("run")] == [5, 40]
    gone = weakref.ref(result)
    manager.consumed([result])
    del result
    gc.collect()
    # Nobody but the workflow keeps what the executor would keep for us.
    assert gone() is None
    assert type(following) is Kept
    manager.clean_up()
    assert held(store) == 0


def test_a_task_by_reference_tells_when_it_is_done(store: Store[Any]) -> None:
    rest: Future[Any] = Future()
    made = Made(Kept(b""), rest)
    told: list[object] = []
    made.add_done_callback(told.append)
    assert told == []
    rest.set_result(())
    assert len(told) == 1


def test_without_proxies_bytes_go_through(store: Store[Any]) -> None:
    manager, executor = DataManager(), Here()
    assert manager.enter(b"start") == b"start"
    (result,) = step(manager, executor, [b"start"])
    assert isinstance(result, bytes)
    assert len(result) == 40
    assert executor.tasks == [task_bytes]
    manager.consumed([result])
    manager.clean_up()
    assert held(store) == 0


def test_every_task_is_logged(store: Store[Any]) -> None:
    for mode in Mode:
        manager = manager_for(mode, store, executor=Here())
        manager.log.begin(3, 4)
        inputs = [[manager.enter(b"a")], [manager.enter(b"bc")]]
        manager.results(manager.submit(Here(), inputs, [OPTIONS, OPTIONS]))
        rows = list(manager.log.rows("run"))
        assert [(row.cycle, row.stage, row.task, row.bytes_in) for row in rows] == [
            (3, 4, 0, 1),
            (3, 4, 1, 2),
        ]
        times = [(row.submitted_mono_ns, row.received_mono_ns) for row in rows]
        assert times == sorted(times)
        assert None not in times[0]


def test_as_many_options_as_tasks(store: Store[Any]) -> None:
    for mode in Mode:
        manager = manager_for(mode, store, executor=Here())
        manager.log.begin(0, 0)
        with pytest.raises(ValueError, match="zip"):
            manager.submit(Here(), [[manager.enter(b"a")]], [])


def test_default_proxies_stay_until_the_clean_up(store: Store[Any]) -> None:
    manager, executor = DefaultProxy(store), Here()
    start = manager.enter(b"start")
    assert isinstance(start, Proxy)
    # The client has the object at hand: it fetches nothing.
    assert is_resolved(start)
    assert start == b"start"
    results = step(manager, executor, [start])
    assert executor.tasks == [task_proxy]
    assert len(results[0]) == 40
    manager.consumed([start])
    manager.consumed(results)
    assert held(store) == 2
    manager.clean_up()
    assert held(store) == 0
    manager.clean_up()


def test_reading_a_proxy_does_not_evict_it(store: Store[Any]) -> None:
    for manager in (DefaultProxy(store), ManualProxy(store), OwnedProxy(store)):
        start = manager.enter(b"start")
        for _ in range(2):
            manager.log.begin(0, 0)
            (result,) = manager.results(manager.submit(Here(), [[start]], [OPTIONS]))
            assert len(result) == 40
        # The first result's owner is gone with it.
        assert held(store) == (2 if isinstance(manager, OwnedProxy) else 3)
        del start, result
        store.connector._store.clear()


def test_manual_proxies_go_as_soon_as_they_are_consumed(store: Store[Any]) -> None:
    manager = ManualProxy(store)
    start = manager.enter(b"start")
    results = step(manager, Here(), [start])
    assert held(store) == 2
    manager.consumed([start])
    assert held(store) == 1
    manager.consumed(results)
    assert held(store) == 0


def test_an_owned_object_goes_with_its_owner(store: Store[Any]) -> None:
    manager = OwnedProxy(store)
    data = [manager.enter(b"start")]
    assert type(data[0]) is Owned
    assert is_resolved(data[0])
    results = step(manager, Here(), data)
    assert type(results[0]) is Owned
    manager.consumed(data)
    assert held(store) == 2
    data.clear()
    assert held(store) == 1
    del results
    assert held(store) == 0


def test_an_owner_is_given_back_only_when_every_borrowing_has_ended(store: Store[Any]) -> None:
    manager, executor = OwnedProxy(store), LateHere()
    data = [manager.enter(b"start")]
    manager.log.begin(0, 0)
    futures = manager.submit(executor, [data, data, data], [OPTIONS] * 3)
    threading.Timer(0.05, executor.call_back).start()
    results = manager.results(futures)
    assert [future.called_back for future in executor.futures] == [True] * 3
    # Nothing is lent any more: the owner may go, and does not raise.
    data.clear()
    assert held(store) == 3
    results.clear()
    assert held(store) == 0


def test_a_borrowing_that_a_cycle_keeps_has_ended_all_the_same(store: Store[Any]) -> None:
    kept: list[Any] = []

    class Keeping(Here):
        def submit(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            kept.append([args, kept])
            return super().submit(task, *args, **kwargs)

    manager = OwnedProxy(store)
    data = [manager.enter(b"start")]
    results = step(manager, Keeping(), data)
    data.clear()
    assert held(store) == 1
    assert len(results[0]) == 40


def test_stage_by_stage_each_has_its_own_borrowings(store: Store[Any]) -> None:
    manager, executor = OwnedProxy(store), Here()
    data = [manager.enter(b"start")]
    for _ in range(3):
        results = step(manager, executor, data)
        manager.consumed(data)
        data = results
        del results
        assert held(store) == 1
    data.clear()
    assert held(store) == 0


def test_each_proxy_is_given_up_once(store: Store[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class Pickling(Here):
        """Pickles what it submits, as executors with processes do."""

        def submit(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(task(*pickle.loads(pickle.dumps(args)), **kwargs))
            return future

    manager = OwnedProxy(store)
    for executor in (Here(), Pickling()):
        given_up: list[Any] = []
        unregister = mock.Mock(side_effect=given_up.append)
        instead = SimpleNamespace(register=lambda function: function, unregister=unregister)
        monkeypatch.setattr("proxystore.store.ref.atexit", instead)
        owner = manager.enter(b"data")
        (result,) = step(manager, executor, [owner])
        assert held(store) == 2
        del owner, result
        assert held(store) == 0
        # Two owners and a reference, once each; what was pickled has one of the task's, too.
        expected = 3 if type(executor) is Here else 4
        assert len(given_up) == len({id(each) for each in given_up}) == expected
