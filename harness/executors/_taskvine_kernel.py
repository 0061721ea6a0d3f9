"""TaskVine behind ``concurrent.futures``: its manager, and a library on each worker.

Imported only when TaskVine is used. What TaskVine's own ``FuturesExecutor`` does by itself, and is
done differently here:

- Its futures are done only when somebody asks for their result, and nobody else is told. Here a
  thread asks the manager.
- It keeps all results until it ends, here and on the workers. Here each is given up once it has
  been fetched.

The manager holds the interpreter's lock while it waits, a second at most, and takes no calls
meanwhile: what belongs together is submitted as a batch.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib import import_module
from typing import Any

from harness.core.errors import InfrastructureError
from harness.executors._pools import CALL_TIMEOUT_S
from harness.executors._taskvine_call import call, in_library, pack, prepare, unpack_result

FOLDER_VARIABLE = "HARNESS_TASKVINE_DIR"
"""Where the manager keeps its files, if not in ``/tmp``."""

OWN = "TaskVine's workers"
_LIBRARIES = "their libraries, whose calls are processes of their own"
_LIBRARY = "harness"
_TRIM_TIMEOUT_S = 2.0
_STOP_S = 5.0
_LINGER_S = 0.02
# So that who is told of a result can submit what comes next.
_PAUSE_S = 0.001


class WorkerDiedError(Exception):
    """A call's process, library or worker has died."""


def _vine() -> Any:
    """Return TaskVine; it warns of Dask, which this does not need."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module("ndcctools.taskvine")


class TaskVineExecutor(Executor):
    """The ``concurrent.futures`` face of a TaskVine manager; its calls are futures of a library.

    Args:
        manager: TaskVine's.
        exec_mode: how the library runs calls: ``fork`` or ``direct``.
    """

    def __init__(self, manager: Any, exec_mode: str) -> None:
        self.hosts: dict[str, str] = {}
        self._manager = manager
        self._exec_mode = exec_mode
        self._forks = exec_mode == "fork"
        self._new_call = _vine().FutureFunctionCall
        self._open: dict[int, Future[Any]] = {}
        # Held by who talks to the manager.
        self._turn = threading.RLock()
        self._work = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._drive, name="TaskVine", daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a call; its arguments go to a worker as a file."""
        future: Future[Any] = Future()
        words = pack(fn), tuple(map(pack, args)), pack(kwargs)
        with self._turn:
            number = self._manager.submit(self._new_call(self._manager, _LIBRARY, "call", *words))
            self._open[number] = future
            self._work.set()
        return future

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Hold the manager off: else it would wait for the first call before it takes the next."""
        with self._turn:
            yield

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Stop asking the manager, which ends with its context."""
        self._ended = True
        self._work.set()
        self._thread.join()
        self._open.clear()

    def _drive(self) -> None:
        while self._work.wait() and not self._ended:
            with self._turn:
                if not self._open:
                    self._work.clear()
                    continue
                task = self._manager.wait(1)
                future = None if task is None else self._open.pop(task.id, None)
                value, error = (None, None) if future is None else self._fetched(task)
                if task is not None:
                    # It and its future hold each other: its files would stay until the collector
                    # comes by. FuturesExecutor calls it as well, at its end.
                    task.__del__()
                del task
            if future is not None and error is not None:
                future.set_exception(error)
            elif future is not None:
                future.set_result(value)
            del future, value, error
            time.sleep(_PAUSE_S)

    def _fetched(self, task: Any) -> tuple[Any, Exception | None]:
        """Return a call's result or error, and give up the files with it."""
        if not task.successful():
            # "success" is TaskVine's word for a process that ended, however it ended.
            said = f"exit code {task.exit_code}" if task.completed() else task.result
            return None, WorkerDiedError(f"a call's process on {task.hostname} ended ({said})")
        try:
            self._manager.fetch_file(task.output_file)
            answer = task.output_file.contents(pickle.load)
        except Exception:  # noqa: BLE001  # whatever TaskVine raises: it cannot tell why
            return None, WorkerDiedError(f"a result was lost with its worker on {task.hostname}")
        finally:
            self._manager.undeclare_file(task.output_file)
        if not answer["Success"]:
            return None, RuntimeError(" ".join(str(answer["Reason"]).split()))
        returned, value = answer["Result"]
        value = unpack_result(value)
        return (value, None) if returned else (None, value)

    def wait_ready(
        self, workers: int, warm_up: Callable[..., Any], timeout_s: float
    ) -> dict[str, Any]:
        """Wait for workers, then install the library and run ``warm_up`` on each."""
        deadline = time.monotonic() + timeout_s
        while (found := self._manager.stats.workers_connected) < workers:
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"{found} of {workers} TaskVine workers joined within {timeout_s:g} s"
                )
            with self._turn:
                self._manager.wait(1)
        library = self._manager.create_library_from_functions(
            _LIBRARY,
            call,
            add_env=False,
            exec_mode=self._exec_mode,
            library_context_info=[prepare, [pack(warm_up)], {}] if self._forks else None,
        )
        library.set_cores(1)
        library.set_function_slots(1)
        self._manager.install_library(library)
        seen = self._call_in_each(warm_up, found, deadline)
        if seen < found:
            raise InfrastructureError(
                f"{seen} of {found} TaskVine workers answered within {timeout_s:g} s"
            )
        return {"workers": found, "taskvine_exec_mode": self._exec_mode}

    def _call_in_each(self, work: Callable[[], Any], workers: int, deadline: float) -> int:
        """Return how many workers have called it when all have, or time is up."""
        linger_s = _LINGER_S
        seen: set[tuple[str, int]] = set()
        while len(seen) < workers and time.monotonic() <= deadline:
            with self.batch():
                futures = [
                    self.submit(in_library, work, linger_s, self._forks) for _ in range(workers)
                ]
            for future in futures:
                with suppress(TimeoutError):
                    seen.add(future.result(max(0.0, deadline - time.monotonic())))
            linger_s = min(1.0, 2 * linger_s)
        return len(seen)

    def _reach(self, work: Callable[[], Any], timeout_s: float) -> tuple[str, ...]:
        if self._forks:
            return OWN, _LIBRARIES
        workers = self._manager.stats.workers_connected
        try:
            seen = self._call_in_each(work, workers, time.monotonic() + timeout_s)
        except Exception:  # noqa: BLE001  # a worker that died is the run's outcome
            seen = 0
        return (OWN,) if seen >= workers else (f"{workers - seen} of {workers} libraries", OWN)

    def trim(self, work: Callable[[], Any]) -> tuple[str, ...]:
        """Call ``work`` in the libraries if calls run in them; return in words who was missed."""
        return self._reach(work, _TRIM_TIMEOUT_S)

    def call_in_each(self, work: Callable[[], Any]) -> tuple[str, ...]:
        """Do as for trimming, with more time."""
        return self._reach(work, CALL_TIMEOUT_S)

    def alive(self) -> dict[str, str]:
        """Return the workers, each with the number of its library: a new one has another."""
        found = {}
        for worker in self._manager.status("workers"):
            numbers = [
                str(worker[key.removesuffix("command") + "id"])
                for key, value in worker.items()
                if key.startswith("current_task_") and "library_code" in str(value)
            ]
            place = "/".join([worker["addrport"], *sorted(numbers)])
            self.hosts[place] = worker["hostname"]
            found[place] = f"worker {place}"
        return found


@contextmanager
def started(port: int, workers: int, exec_mode: str) -> Iterator[Executor]:
    """Start a manager, and workers on this machine.

    Args:
        port: where the manager listens; 0: anywhere.
        workers: how many are started here.
        exec_mode: how their libraries run calls.

    Raises:
        InfrastructureError: (on entering) if nobody can listen there.
    """
    vine = _vine()
    place = os.environ.get(FOLDER_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="taskvine-", dir=place) as folder:
        try:
            # Without a name it tells no catalog server of itself.
            manager = vine.Manager(port=port, run_info_path=folder)
        except Exception as error:  # noqa: BLE001  # TaskVine raises just that
            said = " ".join(str(error).split())
            raise InfrastructureError(f"--taskvine-port {port}: {said}") from None
        with manager, _workers_here(manager.port, workers, folder):
            with TaskVineExecutor(manager, exec_mode) as executor:
                yield executor
            manager.workers_shutdown(0)


def _workers_here(port: int, workers: int, folder: str) -> AbstractContextManager[None]:
    commands = [
        ["vine_worker", "--cores=1", "--max-backoff=1", "-s", f"{folder}/worker-{number}"]
        for number in range(workers)
    ]
    return _processes([[*command, "127.0.0.1", str(port)] for command in commands])


@contextmanager
def _processes(commands: list[list[str]]) -> Iterator[None]:
    # A terminal's Ctrl-C is for the client, which ends them in its time.
    running = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        for command in commands
    ]
    try:
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
