"""Parsl's data flow kernel, started so that it can also be ended.

Imported only when Parsl is used. What Parsl does by itself, and is done differently here:

- It starts ``interchange.py`` and ``process_worker_pool.py`` from ``PATH``, where they are not when
  the interpreter is called by its path: they are started as modules of this interpreter.
- The interchange is in the terminal's process group. Ctrl-C kills it, and the client's next
  question to it, asked when shutting down, has no time limit: the program hangs. Here it has a
  session of its own, and ends when its parent does.
- A block of workers is ended by a shell that asks ``ps`` for the process group. Where there is no
  ``ps`` the workers stay. Here the pool is a child that is ended as one.
- Blocks are started and looked for by a thread that wakes up each few seconds. A fixed number of
  workers needs none of that.
"""

from __future__ import annotations

import contextlib
import logging
import os
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import parsl.concurrent
from parsl import curvezmq
from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
from parsl.executors.base import ParslExecutor
from parsl.executors.high_throughput.errors import CommandClientTimeoutError
from parsl.providers import LocalProvider

from harness.core.errors import InfrastructureError, UsageError
from harness.executors._parsl_call import call_sealed
from harness.executors._pools import CALL_TIMEOUT_S, ask_pool, trim_pool, warm_pool

# The port of the interchange in a topology (compose/parsl-htex.yaml), unless its runner is told
# another: on a node that is somebody else's, too, it may be taken.
TOPOLOGY_PORT = 54321
PORT_VARIABLE = "HARNESS_PARSL_PORT"

_POOL = "parsl.executors.high_throughput.process_worker_pool"
# Module names its Parsl parts; 1 is PR_SET_PDEATHSIG: whatever kills the client ends this too.
_INTERCHANGE = (
    "import ctypes, os, runpy, signal; os.setsid(); ctypes.CDLL(None).prctl(1, signal.SIGTERM);"
    " runpy.run_module('parsl.executors.high_throughput.interchange', run_name='__main__')"
)
OWN = "Parsl's interchange and the managers of its pools"
"""What runs nothing for others."""

_INTERNAL = "_parsl_internal"
_POLL_S = 0.02
_QUESTION_S = 5.0
_CLEANUP_S = 20.0
_TERMINATE_S = 3.0
# A worker process that died is noticed, and its task fails, this late.
_HEARTBEAT_S = 2
_HEARTBEAT_THRESHOLD_S = 30

logger = logging.getLogger("run.workflow-memory")


class ParslPoolExecutor(Executor):
    """Parsl's ``concurrent.futures`` face with a way to wait for its workers.

    Has the name of Parsl's own class, which is what the reference's results say.

    Args:
        kernel: a started data flow kernel; it is cleaned up by who started it.
        workers: how many workers to wait for; ``None``: at least one.
        pool: the process that starts workers, if it is ours.
    """

    def __init__(
        self,
        kernel: DataFlowKernel,
        workers: int | None,
        pool: subprocess.Popen[bytes] | None = None,
    ) -> None:
        (self._executor,) = (e for e in kernel.executors.values() if e.label != _INTERNAL)
        self._submit: Callable[..., Future[Any]] = parsl.concurrent.ParslPoolExecutor(
            dfk=kernel
        ).submit
        self._seals = not isinstance(self._executor, ThreadPoolExecutor)
        self._workers = workers
        self._pool = pool
        self._connected = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a call."""
        if self._seals:
            return self._submit(call_sealed, fn, *args, **kwargs)
        return self._submit(fn, *args, **kwargs)

    def wait_ready(self, warm_up: Callable[..., Any], timeout_s: float) -> Mapping[str, Any]:
        """Wait for the workers and call ``warm_up`` in each; return facts for the manifest.

        Raises:
            InfrastructureError: if they are not there in time, or their pool has ended.
        """
        deadline = time.monotonic() + timeout_s
        wanted = self._workers or 1
        while (connected := _workers_of(self._executor)) < wanted:
            if self._pool is not None and self._pool.poll() is not None:
                raise InfrastructureError(
                    f"Parsl's worker pool ended (exit code {self._pool.returncode})"
                )
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"{connected} of {wanted} Parsl workers joined within {timeout_s:g} s"
                )
            time.sleep(_POLL_S)
        there, asked = 0, 0
        if isinstance(self._executor, HighThroughputExecutor):
            # Now: the others may come while runs go on.
            there, asked = _pools_of(self._executor)
        warm_pool(self, connected, warm_up, max(1.0, deadline - time.monotonic()))
        self._connected = connected
        facts = {"parsl_executor": type(self._executor).__name__, "workers": connected}
        if isinstance(self._executor, HighThroughputExecutor):
            facts["encrypted"] = self._executor.encrypted
        if there < asked:
            facts["pools"] = f"{there} of {asked}"
            logger.warning(
                "Runs begin with %s of the worker pools that the configuration asks for;"
                " --parsl-max-workers says how many workers to wait for",
                facts["pools"],
            )
        return facts

    def trim(self, trim: Callable[[], Any]) -> tuple[str, ...]:
        """Call ``trim`` in every worker; return in words what was not reached."""
        return *trim_pool(self, self._connected, trim), OWN

    def call_in_each(self, call: Callable[[], Any]) -> tuple[str, ...]:
        """Call it in every worker, however long that takes; return which were not reached."""
        return trim_pool(self, self._connected, call, CALL_TIMEOUT_S)

    @property
    def has_pools(self) -> bool:
        """Whether its workers are processes below managers that stay."""
        return isinstance(self._executor, HighThroughputExecutor)

    def ask_each(self, ask: Callable[[], Any], timeout_s: float) -> list[Any]:
        """Call ``ask`` in every worker; return the answers of those that were reached in time."""
        return ask_pool(self, self._connected, ask, timeout_s)


def _workers_of(executor: ParslExecutor) -> int:
    """Return how many workers an executor has now; 1 where it cannot be asked."""
    if isinstance(executor, ThreadPoolExecutor):
        return executor.max_threads or 1
    if not isinstance(executor, HighThroughputExecutor):
        return 1
    if executor.bad_state_is_set:
        raise InfrastructureError(f"Parsl gave up {executor.label}: {executor.executor_exception}")
    try:
        managers = executor.command_client.run("MANAGERS", timeout_s=_QUESTION_S)
    except CommandClientTimeoutError:
        raise InfrastructureError(f"Parsl's interchange of {executor.label} is silent") from None
    return sum(manager["worker_count"] for manager in managers if manager["active"])


def _pools_of(executor: HighThroughputExecutor) -> tuple[int, int]:
    """Return how many pools are connected, and how many the configuration asks for at first."""
    provider = executor.provider
    asked = 0 if provider is None else provider.init_blocks * provider.nodes_per_block
    try:
        managers = executor.command_client.run("MANAGERS", timeout_s=_QUESTION_S)
    except CommandClientTimeoutError:
        return asked, asked
    return sum(bool(manager["active"]) for manager in managers), asked


def load_config(path: str) -> Config:
    """Return what a user's file calls ``config``.

    Raises:
        UsageError: if the file cannot be run or has no such configuration.
    """
    try:
        names = runpy.run_path(path)
    except OSError as error:
        raise UsageError(f"--parsl-config {path}: {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001  # somebody's code: whatever it raises is its fault
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"--parsl-config {path}: {said}") from None
    config = names.get("config")
    if not isinstance(config, Config):
        raise UsageError(f"--parsl-config {path}: must define 'config', a parsl.Config")
    if len(config.executors) != 1:
        raise UsageError(
            f"--parsl-config {path}: has {len(config.executors)} executors where one is measured"
        )
    return config


@contextmanager
def _kernel(config: Config) -> Iterator[DataFlowKernel]:
    """Start a data flow kernel, and end it within a bounded time."""
    # A failed task is the run's outcome, told once by us; Parsl also logs its traceback.
    logging.getLogger("parsl").propagate = False
    try:
        kernel = DataFlowKernel(config)
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise InfrastructureError(f"Parsl did not start: {said}") from error
    try:
        yield kernel
    finally:
        _clean_up(kernel)


def _clean_up(kernel: DataFlowKernel) -> None:
    for executor in kernel.executors.values():
        if isinstance(executor, HighThroughputExecutor) and _lost_its_interchange(executor):
            # Parsl asks the interchange which blocks there are, unless it knows better.
            executor.set_bad_state_and_fail_all(RuntimeError("the interchange has ended"))
    # All of its threads are daemons or idle: if it hangs nevertheless, the program can end.
    cleaner = threading.Thread(target=kernel.cleanup, name="Parsl clean-up", daemon=True)
    cleaner.start()
    cleaner.join(_CLEANUP_S)
    if cleaner.is_alive():
        logger.warning("Parsl has not cleaned up after %g s: look for its jobs", _CLEANUP_S)


def _lost_its_interchange(executor: HighThroughputExecutor) -> bool:
    process = executor.interchange_proc
    return not executor.bad_state_is_set and process is not None and process.poll() is not None


def users_own(config: Config, workers: int | None) -> AbstractContextManager[ParslPoolExecutor]:
    """Return a context of an executor with a user's configuration."""
    # Its providers' scripts start worker pools by name.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    for executor in config.executors:
        if isinstance(executor, HighThroughputExecutor):
            executor.interchange_launch_cmd = [sys.executable, "-c", _INTERCHANGE]
    return _users_own(config, workers)


@contextmanager
def _users_own(config: Config, workers: int | None) -> Iterator[ParslPoolExecutor]:
    with _kernel(config) as kernel:
        yield ParslPoolExecutor(kernel, workers)


def _config(executor: ParslExecutor, directory: str) -> Config:
    return Config(
        executors=[executor],
        run_dir=directory,
        strategy="none",
        initialize_logging=False,
        usage_tracking=0,
    )


@contextmanager
def threads(workers: int) -> Iterator[ParslPoolExecutor]:
    """Run tasks in threads of this process."""
    with (
        tempfile.TemporaryDirectory(prefix="parsl-") as directory,
        _kernel(_config(ThreadPoolExecutor(max_threads=workers), directory)) as kernel,
    ):
        yield ParslPoolExecutor(kernel, workers)


class _FixedWorkers(LocalProvider):
    """Provides no blocks: the workers are started by other means, once, and stay."""

    def __init__(self) -> None:
        super().__init__(init_blocks=0, min_blocks=0, max_blocks=0)  # type: ignore[no-untyped-call]  # Parsl's

    @property
    def status_polling_interval(self) -> int:
        """Tell Parsl that there is no status to poll."""
        return 0


def _interchange(address: str, workers: int, **options: Any) -> HighThroughputExecutor:
    return HighThroughputExecutor(
        label="htex",
        address=address,
        interchange_launch_cmd=[sys.executable, "-c", _INTERCHANGE],
        launch_cmd=(
            f"{shlex.quote(sys.executable)} -m {_POOL} {{max_workers_per_node}} -a {{addresses}}"
            " -p 0 -c {cores_per_worker} -m None --port={worker_port} --cert_dir {cert_dir}"
            " --logdir={logdir} --block_id=0 --hb_period={heartbeat_period}"
            " --hb_threshold={heartbeat_threshold} --drain_period None --cpu-affinity none"
        ),
        max_workers_per_node=workers,
        # There are as many workers as were asked for, however few processors there are.
        cores_per_worker=0.5 / workers,
        heartbeat_period=_HEARTBEAT_S,
        heartbeat_threshold=_HEARTBEAT_THRESHOLD_S,
        provider=_FixedWorkers(),
        encrypted=True,
        **options,
    )


@contextmanager
def local_pool(workers: int, timeout_s: float) -> Iterator[ParslPoolExecutor]:
    """Run tasks in worker processes below this one, by way of an interchange."""
    del timeout_s  # the wait for the workers comes next, and knows it
    with tempfile.TemporaryDirectory(prefix="parsl-", ignore_cleanup_errors=True) as directory:
        htex = _interchange("127.0.0.1", workers)
        with _kernel(_config(htex, directory)) as kernel:
            with Path(directory, "pool.log").open("wb") as log:
                pool = subprocess.Popen(
                    shlex.split(htex.launch_cmd),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            try:
                yield ParslPoolExecutor(kernel, workers, pool)
            finally:
                _end_group(pool)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and all of its descendants."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_TERMINATE_S)
    process.wait()


@contextmanager
def pools_elsewhere(
    workers: int, shared_directory: str, timeout_s: float
) -> Iterator[ParslPoolExecutor]:
    """Run tasks in worker pools that connect to this machine's interchange by themselves.

    Args:
        workers: how many there will be.
        shared_directory: where the certificates are put for the pools to find; must be private
            to them and this process.
        timeout_s: how long connecting may take.
    """
    del timeout_s
    with tempfile.TemporaryDirectory(prefix="parsl-", ignore_cleanup_errors=True) as directory:
        port = int(os.environ.get(PORT_VARIABLE) or TOPOLOGY_PORT)
        htex = _interchange("0.0.0.0", workers, worker_port=port)  # noqa: S104
        setattr(htex, "cert_dir", _publish(Path(shared_directory)))  # noqa: B010
        with _kernel(_config(htex, directory)) as kernel:
            yield ParslPoolExecutor(kernel, workers)


def _publish(shared: Path) -> str:
    """Tell the pools certificates and address; return the certificates' directory.

    All of it appears at once: the pools wait for the directory ``interchange``.
    """
    made = Path(tempfile.mkdtemp(dir=shared))
    curvezmq.create_certificates(made)
    # The pools need numbers; on several networks they find out which one leads here.
    _, _, addresses = socket.gethostbyname_ex(socket.gethostname())
    (made / "addresses").write_text(",".join(addresses), encoding="ascii")
    return str(made.rename(shared / "interchange") / "certificates")
