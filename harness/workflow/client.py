"""What a function of the user's own gets: an executor whose data travels by the run's mode.

The calls are those of ``concurrent.futures``; ``proxy``, ``borrow`` and ``evict`` do what the mode
does, and nothing where it does nothing. So one function runs in all modes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any

from proxystore.proxy import Proxy, extract, resolve
from proxystore.serialize import serialize
from proxystore.store import get_or_create_store
from proxystore.store.config import StoreConfig
from proxystore.store.ref import OwnedProxy as Owned
from proxystore.store.ref import RefProxy, borrow, into_owned
from proxystore.store.scopes import submit as submit_in_scope

from harness.connectors import Held
from harness.core.clock import reference
from harness.core.user_module import UserModule
from harness.workflow.modes import DataManager, DefaultProxy, ManualProxy, OwnedProxy
from harness.workflow.tasks import Entry, task_event

Code = tuple[UserModule, str]
"""A function: its module, and its name there."""


class Client:
    """Submits calls, and passes their data by the mode.

    Args:
        executor: runs the calls.
        manager: the mode's, for this run only.
        module: the user's; its functions reach workers by its text.
    """

    def __init__(self, executor: Executor, manager: DataManager, module: UserModule) -> None:
        self._executor = executor
        self._manager = manager
        self._module = module
        self._store = manager.store if isinstance(manager, DefaultProxy) else None
        self._config = None if self._store is None else self._store.config()
        # Those that have not succeeded: a future keeps its result, and with it what that owns.
        self._open: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._made = Held(0, 0)
        self._calls = 0

    @property
    def mode_has_store(self) -> bool:
        """Whether objects are in a store in this mode, and a result is a proxy of one."""
        return self._store is not None

    @property
    def made(self) -> Held:
        """Objects that the run has put into the store, and their serialised bytes."""
        return self._made

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a call, and return its future.

        Proxies among the arguments are resolved before the call. In a mode with a store the result
        is a proxy of what the call returned.

        Args:
            fn: a function at the top of a module: the workflow's own, or one that is installed.
            args, kwargs: its arguments.

        Raises:
            TypeError: if it is another function.
        """
        code = self._code_of(fn)
        names, values = tuple(kwargs), (*args, *kwargs.values())
        future: Future[Any] = Future()
        entry = self._manager.log.begin(0, 0, self._calls)
        self._calls += 1
        self._open.add(future)
        future.set_running_or_notify_cancel()
        submit: Callable[..., Any] = self._executor.submit
        lent: list[RefProxy[Any]] = []
        self._manager.log.submitting()
        if self._config is None:
            under = submit(call_value, code, names, *values)
        else:
            call = (call_proxy, code, self._config, names)
            if isinstance(self._manager, OwnedProxy):
                values, lent = self._lend(values)
            # Said to tasks only where it is not what they do anyway.
            more = {} if self._manager.populate_target else {"populate_target": False}
            under = submit_in_scope(submit, args=(*call, *values), kwargs=more)
        under.add_done_callback(lambda done: self._ended(done, future, entry, lent))
        return future

    def map(self, fn: Callable[..., Any], *iterables: Sequence[Any]) -> list[Any]:
        """Call a function on each element, all at once, and return the results in order."""
        return [
            f.result() for f in [self.submit(fn, *each) for each in zip(*iterables, strict=True)]
        ]

    def proxy(self, data: Any) -> Any:
        """Return what to pass instead of an object: a proxy of it, or without a store itself."""
        if self._store is None:
            return data
        sizes: list[int] = []
        populate = self._manager.populate_target

        def counting(each: Any) -> bytes:
            sizes.append(len(found := bytes(serialize(each))))
            return found

        found: Any
        if isinstance(self._manager, OwnedProxy):
            found = self._store.owned_proxy(
                data, serializer=counting, populate_target=populate, skip_nonproxiable=False
            )
        else:
            found = self._store.proxy(data, serializer=counting, populate_target=populate)
        _let_go_of_frames(found)
        self._note(found, sizes[0])
        return found

    def borrow(self, data: Any) -> Any:
        """Return a reference to an object that somebody owns, in other modes the object itself.

        What is passed to :meth:`submit` is borrowed anyway.
        """
        return borrow(data) if type(data) is Owned else data

    def evict(self, data: Any) -> None:
        """Say that nobody will read an object again: ``manual-proxy`` evicts it."""
        if isinstance(self._manager, ManualProxy) and isinstance(data, Proxy):
            self._manager.consumed([data])

    def value(self, data: Any) -> Any:
        """Return the object itself, which the client then has, too."""
        return extract(data) if isinstance(data, Proxy) else data

    def close(self) -> None:
        """Wait for every call that was submitted.

        Raises:
            Exception: what one of them has raised.
        """
        for future in tuple(self._open):
            future.result()

    def held_at_end(self) -> Held:
        """Return what the store holds by the mode's rule when the function has returned."""
        return self._made if type(self._manager) is DefaultProxy else Held(0, 0)

    def _code_of(self, fn: Callable[..., Any]) -> Code:
        name, module = getattr(fn, "__qualname__", ""), getattr(fn, "__module__", None)
        if not module or not name.isidentifier():
            raise TypeError(f"submit takes a function at the top of a module, not {fn!r}")
        return (self._module if module == self._module.name else UserModule(module, ())), name

    @staticmethod
    def _lend(values: Sequence[Any]) -> tuple[tuple[Any, ...], list[RefProxy[Any]]]:
        passed = tuple(borrow(value) if type(value) is Owned else value for value in values)
        pairs = zip(passed, values, strict=True)
        return passed, [after for after, before in pairs if type(before) is Owned]

    def _note(self, data: Any, size: int) -> None:
        with self._lock:
            self._made += Held(1, size)
            if type(self._manager) is DefaultProxy:
                self._manager.consumed([data])

    def _ended(
        self, done: Any, future: Future[Any], entry: Entry, lent: list[RefProxy[Any]]
    ) -> None:
        """Pass on how a call ended; in whatever thread the executor says so."""
        try:
            result, event = done.result()
            entry.received.append((reference().monotonic_ns(), event))
            # ProxyStore does not end a borrowing that was pickled.
            while lent:
                RefProxy.__del__(lent.pop())
            if isinstance(result, Proxy) and self._store is not None:
                if isinstance(self._manager, OwnedProxy):
                    result = into_owned(result)
                self._note(result, event[-1])
        except BaseException as error:  # noqa: BLE001  # it is raised where it is asked for
            future.set_exception(error)
        else:
            self._open.discard(future)
            future.set_result(result)


def call_value(code: Code, names: Sequence[str], *values: Any) -> tuple[Any, Any]:
    """Call a function in a worker, and return what it returns, and when it did what."""
    started_ns = reference().monotonic_ns()
    result = _called(code, names, values)
    return result, task_event(started_ns, started_ns, 0, 0)


def call_proxy(
    code: Code,
    config: StoreConfig,
    names: Sequence[str],
    *values: Any,
    populate_target: bool = True,
) -> tuple[Any, Any]:
    """Resolve proxies, call a function in a worker, and return a proxy of what it returns.

    ProxyStore knows the objects' sizes only where it makes them: those of results are told.
    """
    started_ns = reference().monotonic_ns()
    store = get_or_create_store(config)
    code[0].load()  # before an object of one of its classes is read
    for value in values:
        if isinstance(value, Proxy):
            resolve(value)
    resolved_ns = reference().monotonic_ns()
    plain = [extract(value) if isinstance(value, Proxy) else value for value in values]
    data = _called(code, names, plain)
    sizes: list[int] = []

    def counting(each: Any) -> bytes:
        made = bytes(serialize(each))
        sizes.append(len(made))
        return made

    # What has no proxies (None, True, False) travels as it is.
    result: Any = store.proxy(
        data,
        evict=False,
        serializer=counting,
        populate_target=populate_target,
        skip_nonproxiable=True,
    )
    if isinstance(result, Proxy):
        _let_go_of_frames(result)
    return result, task_event(started_ns, resolved_ns, 0, sum(sizes))


def _let_go_of_frames(proxy: Proxy[Any]) -> None:
    """Drop what a proxy of an unhashable object keeps: the frames in which it was made.

    ProxyStore asks for its hash, and keeps the exception with its traceback. All that these frames
    hold would stay until the garbage collector comes by: payloads, and owners of objects.
    """
    found: object = None
    with suppress(AttributeError):  # older releases keep no hash
        found = object.__getattribute__(proxy, "__proxy_default_hash__")
    if isinstance(found, BaseException):
        found.__traceback__ = None


def _called(code: Code, names: Sequence[str], values: Sequence[Any]) -> Any:
    module, function = code
    first = len(values) - len(names)
    more: Mapping[str, Any] = dict(zip(names, values[first:], strict=True))
    return getattr(module.load(), function)(*values[:first], **more)
