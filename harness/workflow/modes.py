"""The data management modes: one class each, the same workflow for all.

A mode decides how start data enters the workflow, what tasks get, and when objects are
removed. The semantics are the reference's, except that ``manual-proxy`` also evicts the last
stage's results of every repetition (the reference evicts only the last repetition's).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from threading import Semaphore
from typing import Any, ClassVar, cast

from proxystore.store.base import Store
from proxystore.store.ref import RefProxy, borrow, into_owned
from proxystore.store.scopes import mark_refs_out_of_scope
from proxystore.store.scopes import submit as submit_in_scope
from proxystore.store.utils import get_key

from harness.executors import ReferringExecutor
from harness.plan import Mode
from harness.workflow.tasks import TaskLog, task_bytes, task_proxy


class DataManager:
    """Mode ``none``: bytes go through the executor, and removal is the executor's business."""

    uses_store: ClassVar[bool] = False
    populate_target: bool = True
    task: ClassVar[Callable[..., Any]] = staticmethod(task_bytes)

    def __init__(self) -> None:
        self.log = TaskLog()

    def enter(self, data: bytes) -> Any:
        """Put one object of start data into the workflow."""
        return data

    def submit(
        self, executor: Executor, inputs: Sequence[Sequence[Any]], options: Sequence[dict[str, Any]]
    ) -> list[Any]:
        """Submit one task for each list of inputs and return their futures, in order."""
        futures: list[Any] = []
        for items, kwargs in zip(inputs, options, strict=True):
            self.log.submitting()
            futures.append(executor.submit(type(self).task, *items, **kwargs))
        return futures

    def results(self, futures: Sequence[Any]) -> list[Any]:
        """Wait for tasks and return what they made, as the next stage's data."""
        return [self._result(future) for future in futures]

    def _result(self, future: Any) -> Any:
        result, event = future.result()
        self.log.received(event)
        return result

    def consumed(self, data: Sequence[Any]) -> None:
        """Be told that no task will need these objects again."""

    def clean_up(self) -> None:
        """Remove, after the clock has stopped, what the mode leaves in the store."""


class DefaultProxy(DataManager):
    """Mode ``default-proxy``: nothing is removed inside the run."""

    uses_store = True
    task = staticmethod(task_proxy)

    def __init__(self, store: Store[Any], *, populate_target: bool = True) -> None:
        super().__init__()
        self.store = store
        self.populate_target = populate_target
        self._keys: list[Any] = []

    def enter(self, data: bytes) -> Any:
        """Put one object of start data into the store."""
        return self.store.proxy(data, evict=False, populate_target=self.populate_target)

    def consumed(self, data: Sequence[Any]) -> None:
        """Remember the keys for the clean-up."""
        self._keys.extend(get_key(proxy) for proxy in data)

    def clean_up(self) -> None:
        """Evict all objects of the run."""
        while self._keys:
            self.store.evict(self._keys.pop())


class ManualProxy(DefaultProxy):
    """Mode ``manual-proxy``: the client evicts a stage's inputs as soon as the stage is done."""

    def consumed(self, data: Sequence[Any]) -> None:
        """Evict the objects."""
        for proxy in data:
            self.store.evict(get_key(proxy))


class OwnedProxy(DefaultProxy):
    """Mode ``owned-proxy``: an object goes when its owner on the client goes out of scope."""

    def enter(self, data: bytes) -> Any:
        """Put one object of start data into the store and own it."""
        return self.store.owned_proxy(data, populate_target=self.populate_target)

    def __init__(self, store: Store[Any], *, populate_target: bool = True) -> None:
        super().__init__(store, populate_target=populate_target)
        # Of each future: told when ProxyStore has ended its borrowings, and these.
        self._lent: dict[int, tuple[Semaphore, list[RefProxy[Any]]]] = {}

    def submit(
        self, executor: Executor, inputs: Sequence[Sequence[Any]], options: Sequence[dict[str, Any]]
    ) -> list[Any]:
        """Lend the inputs to the tasks."""
        submit: Callable[..., Any] = executor.submit
        futures = []
        for items, kwargs in zip(inputs, options, strict=True):
            borrowed = [borrow(item) for item in items]
            ended = Semaphore(0)
            self.log.submitting()
            future: Any = submit_in_scope(submit, args=(type(self).task, *borrowed), kwargs=kwargs)
            # Callbacks run in the order they were added: this one after the one that ended the
            # borrowing. result() may return before either; an owner that goes out of scope
            # while it is still lent raises inside __del__ and its object stays for ever.
            future.add_done_callback(lambda _, ended=ended: ended.release())
            self._lent[id(future)] = ended, borrowed
            futures.append(future)
        return futures

    def results(self, futures: Sequence[Any]) -> list[Any]:
        """Wait until nothing is lent to them any more and own what the tasks returned."""
        results = [self._result(future) for future in futures]
        for future in futures:
            ended, borrowed = self._lent.pop(id(future))
            ended.acquire()
            # A reference may stay for long: Parsl keeps it in a cycle, which the collector takes
            # apart in any order.
            while borrowed:
                _end_borrowing(borrowed.pop())
        return [into_owned(result) for result in results]

    def consumed(self, data: Sequence[Any]) -> None:
        """Do nothing: the caller drops its references, which evicts the objects."""


def _end_borrowing(reference: RefProxy[Any]) -> None:
    """End a borrowing whose task is done, whoever has the reference still.

    Not by its ``__del__``, which is called again when it goes: each call compares it with all
    proxies that there are.
    """
    if object.__getattribute__(reference, "__proxy_owner__") is None:
        return
    # ProxyStore takes one that was pickled for ended already, but its owner still counts it.
    object.__setattr__(reference, "__proxy_valid__", True)
    mark_refs_out_of_scope(reference)


class Made:
    """What a task makes that stays with the executor: a reference to it, and when it is done."""

    def __init__(self, reference: Any, rest: Future[Any]) -> None:
        self.reference = reference
        self.rest = rest

    def add_done_callback(self, call: Callable[[Any], object]) -> None:
        """Call ``call`` when it is there."""
        self.rest.add_done_callback(call)


class Futures(DataManager):
    """Mode ``futures``: tasks get the executor's references; data goes from worker to worker.

    The client puts the start data in, and gets none back. An object goes when its last reference
    does.
    """

    def __init__(self, executor: ReferringExecutor) -> None:
        super().__init__()
        self._executor = executor

    def enter(self, data: bytes) -> Any:
        """Give one object of start data to the executor."""
        return self._executor.put(data)

    def submit(
        self,
        executor: Executor,  # noqa: ARG002
        inputs: Sequence[Sequence[Any]],
        options: Sequence[dict[str, Any]],
    ) -> list[Any]:
        """Submit tasks with references of their inputs."""
        made = []
        for items, kwargs in zip(inputs, options, strict=True):
            self.log.submitting()
            call = self._executor.submit_by_reference(type(self).task, *items, **kwargs)
            made.append(Made(*call))
        return made

    def _result(self, future: Made) -> Any:
        (event,) = future.rest.result()
        self.log.received(event)
        return future.reference


MODES: dict[str, type[DefaultProxy]] = {
    Mode.DEFAULT_PROXY: DefaultProxy,
    Mode.MANUAL_PROXY: ManualProxy,
    Mode.OWNED_PROXY: OwnedProxy,
}


def manager_for(
    mode: str,
    store: Store[Any],
    *,
    populate_target: bool = True,
    executor: Executor | None = None,
) -> DataManager:
    """Return a data manager for one run.

    Args:
        mode: the run's.
        store: where proxies' objects go.
        populate_target: whether proxies keep what they were made of.
        executor: whose references tasks get, in the mode ``futures``.
    """
    if mode == Mode.NONE:
        return DataManager()
    if mode == Mode.FUTURES:
        return Futures(cast(ReferringExecutor, executor))
    return MODES[mode](store, populate_target=populate_target)
