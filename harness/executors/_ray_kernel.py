"""Ray behind ``concurrent.futures``: its nodes, its worker processes, its object stores."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from harness.core.errors import InfrastructureError
from harness.executors._pools import call_and_linger
from harness.executors._protocol import ObjectStore
from harness.executors._ray_call import call, sealed

SETTINGS = {
    # Nothing is told to anybody, and no container has a way to.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    # Tokens are for clusters that others reach; a topology's network is its own.
    "RAY_AUTH_MODE": "disabled",
    # A busy machine takes longer than half a minute to start six processes of Python a node.
    "RAY_agent_register_timeout_ms": "180000",
    "RAY_worker_register_timeout_seconds": "180",
    # The container's memory limit is the only one: Ray's own would kill workers before it, and
    # what is spilled goes to a tmpfs, which is memory, too.
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_automatic_object_spilling_enabled": "0",
    # All that is in a store, copies of other nodes' objects too.
    "RAY_scheduler_report_pinned_bytes_only": "0",
}
"""Variables of all of Ray's processes (also in compose/ray.yaml)."""

# Ray reserves it for tasks and refuses to start with less; nothing is taken.
_TASK_MEMORY = 1_000_000_000
_TRIM_TIMEOUT_S = 2.0
_CALL_TIMEOUT_S = 30.0
_STOP_S = 10.0
_LINGER_S = 0.02
OWN = "Ray's own processes (raylets, the head's control service, agents)"


def _ray(inner: str = "") -> Any:
    """Return Ray, or a module of its: 0.6 s, only when used, and only where it is installed."""
    return import_module(f"ray.{inner}" if inner else "ray")


class RayFuture(Future[Any]):
    """What a call is going to return; its payload is fetched when somebody asks for it.

    Args:
        payload, rest: Ray's references.
        thread: where those are told who wait for it: what they do may wait for the payload, and
            Ray's thread must not.
    """

    def __init__(self, payload: Any, rest: Any, thread: Executor) -> None:
        super().__init__()
        self.payload = payload
        rest.future().add_done_callback(lambda done: thread.submit(self._rest_done, done))

    def _rest_done(self, rest: Future[Any]) -> None:
        error = rest.exception()
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(rest.result())

    def result(self, timeout: float | None = None) -> Any:
        """Return what the function returned.

        Raises:
            Exception: what the function raised, or what became of its worker.
        """
        rest = super().result(timeout)
        payload = _ray().get(self.payload, timeout=timeout)
        return payload if rest is None else (payload, *rest)


class RayExecutor(Executor):
    """The ``concurrent.futures`` face of a Ray cluster that this process is connected to."""

    def __init__(self) -> None:
        self._ray = ray = _ray()
        self._call: Any = ray.remote(num_returns=2)(call)
        self._telling = ThreadPoolExecutor(1, thread_name_prefix="ray-results")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> RayFuture:
        """Submit a call; bytes among its arguments go through the object store if large."""
        return self._submit({}, fn, *args, **kwargs)

    def _submit(
        self, options: Mapping[str, Any], fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> RayFuture:
        options = {"name": getattr(fn, "__name__", "call"), **options}
        payload, rest = self._call.options(**options).remote(fn, *map(sealed, args), **kwargs)
        return RayFuture(payload, rest, self._telling)

    def put(self, data: bytes) -> Any:
        """Put data into the store of this process's node."""
        return self._ray.put(data)

    def submit_by_reference(
        self, fn: Callable[..., Any], /, *references: Any, **kwargs: Any
    ) -> tuple[Any, Future[tuple[Any, ...]]]:
        """Submit a call that gets what references stand for, from one node's store to another's."""
        name = getattr(fn, "__name__", "call")
        payload, rest = self._call.options(name=name).remote(fn, *references, **kwargs)
        return payload, rest.future()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Tell nobody any more; the connection ends with the cluster's context."""
        self._telling.shutdown(wait=False, cancel_futures=True)

    def _nodes(self) -> list[dict[str, Any]]:
        """Return the nodes that are alive, those without CPUs too."""
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _workplaces(self) -> dict[str, int]:
        """Return node -> number of its CPUs, of those that have any."""
        cpus = {node["NodeID"]: int(node["Resources"].get("CPU", 0)) for node in self._nodes()}
        return {node: count for node, count in cpus.items() if count}

    def wait_ready(
        self, workers: int, warm_up: Callable[..., Any], timeout_s: float
    ) -> dict[str, Any]:
        """Wait for CPUs, then run ``warm_up`` in a process for each."""
        deadline = time.monotonic() + timeout_s
        while (found := sum(self._workplaces().values())) < workers:
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"{found} of {workers} Ray workers joined within {timeout_s:g} s"
                )
            time.sleep(0.05)
        seen = self._call_in_each(warm_up, deadline)
        if seen < found:
            raise InfrastructureError(f"{seen} of {found} Ray workers answered in {timeout_s:g} s")
        return {"workers": found, "nodes": len(self._workplaces())}

    def _call_in_each(self, work: Callable[[], Any], deadline: float) -> int:
        """Return how many processes have called it when one for each CPU has, or time is up."""
        on_node = _ray("util.scheduling_strategies").NodeAffinitySchedulingStrategy
        linger_s = _LINGER_S
        seen: dict[str, set[object]] = {}
        open_ = self._workplaces()
        while open_ and time.monotonic() <= deadline:
            futures = [
                (node, self._submit(options, call_and_linger, work, linger_s))
                for node, count in open_.items()
                for options in [{"scheduling_strategy": on_node(node, soft=False)}] * count
            ]
            for node, future in futures:
                with suppress(TimeoutError):
                    who = future.result(max(0.0, deadline - time.monotonic()))
                    seen.setdefault(node, set()).add(who)
            open_ = {node: n for node, n in open_.items() if len(seen.get(node, ())) < n}
            linger_s = min(1.0, 2 * linger_s)
        return sum(map(len, seen.values()))

    def _reach(self, work: Callable[[], Any], timeout_s: float) -> tuple[str, ...]:
        wanted = sum(self._workplaces().values())
        try:
            seen = self._call_in_each(work, time.monotonic() + timeout_s)
        except Exception:  # noqa: BLE001  # a node that died is the run's outcome
            seen = 0
        return (OWN,) if seen >= wanted else (f"{wanted - seen} of {wanted} Ray workers", OWN)

    def trim(self, work: Callable[[], Any]) -> tuple[str, ...]:
        """Call ``work`` in the worker processes; return in words who was not reached."""
        return self._reach(work, _TRIM_TIMEOUT_S)

    def call_in_each(self, work: Callable[[], Any]) -> tuple[str, ...]:
        """Do as for trimming, with more time."""
        return self._reach(work, _CALL_TIMEOUT_S)

    def alive(self) -> dict[str, str]:
        """Return nodes and worker processes but those that crashed: idle ones Ray ends itself."""
        state = _ray("_private.state").state
        common_pb2, gcs_pb2 = _ray("core.generated.common_pb2"), _ray("core.generated.gcs_pb2")
        found = {n["NodeID"]: f"node {n['NodeManagerHostname']}" for n in self._nodes()}
        for row in state._connect_and_get_accessor().get_worker_table():
            worker = gcs_pb2.WorkerTableData.FromString(row)
            crashed = not worker.is_alive and worker.exit_type in (
                common_pb2.WorkerExitType.SYSTEM_ERROR,
                common_pb2.WorkerExitType.NODE_OUT_OF_MEMORY,
            )
            if worker.worker_type == common_pb2.WORKER and not crashed:
                found[worker.worker_address.worker_id.hex()] = f"worker process {worker.pid}"
        return found

    def object_stores(self) -> tuple[ObjectStore, ...]:
        """Return what each node's store has in use, as the head knows it."""
        left_on_nodes = _ray("_private.state").available_resources_per_node
        nodes = {node["NodeID"]: node for node in self._nodes()}
        found = []
        for node, left in left_on_nodes().items():
            if node not in nodes:
                continue
            size = int(nodes[node]["Resources"].get("object_store_memory", 0))
            # A store that is full says nothing of itself.
            used = size - int(left.get("object_store_memory", 0))
            found.append(ObjectStore(nodes[node]["NodeManagerHostname"], used, size))
        return tuple(found)


@contextmanager
def _settings() -> Iterator[None]:
    """Set what Ray's processes read at their start, here and in those that are started."""
    before = {key: os.environ.get(key) for key in SETTINGS}
    os.environ.update({key: os.environ.get(key, value) for key, value in SETTINGS.items()})
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


@contextmanager
def _connected(**options: Any) -> Iterator[RayExecutor]:
    ray = _ray()
    terminates = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **options)
        if threading.current_thread() is threading.main_thread():
            # Ray's handler would end this process before it has written how its run ended.
            signal.signal(signal.SIGTERM, terminates)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise InfrastructureError(f"--executor ray: {_one_line(error)}") from None
    try:
        with RayExecutor() as executor:
            yield executor
    finally:
        ray.shutdown()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


@contextmanager
def local_cluster(workers: int, store: int) -> Iterator[Executor]:
    """Start a node of ``workers`` CPUs on this machine, with a store of ``store`` bytes."""
    # Sockets are in it, whose paths are short: not where a user's TMPDIR may be.
    with (
        _settings(),
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder,
        _connected(
            num_cpus=workers,
            object_store_memory=store,
            include_dashboard=False,
            _temp_dir=folder,
            _memory=_TASK_MEMORY,
        ) as executor,
    ):
        yield executor


@contextmanager
def joined_cluster(address: str, store: int, timeout_s: float) -> Iterator[Executor]:
    """Start a node without CPUs that joins the cluster at ``address``: clients need one."""
    own = _address_towards(address)
    words = [
        *("--address", address, "--node-ip-address", own, "--num-cpus", "0"),
        *("--object-store-memory", str(store), "--memory", str(_TASK_MEMORY)),
        *("--include-log-monitor", "false", "--disable-usage-stats", "--block"),
    ]
    with (
        _settings(),
        _node(words, address, timeout_s),
        _connected(address=address, _node_ip_address=own) as executor,
    ):
        yield executor


def _address_towards(address: str) -> str:
    """Return this machine's address as others see it on the way to ``address``; sends nothing.

    Raises:
        InfrastructureError: if there is no way.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
            way.connect((host, int(port)))
            return str(way.getsockname()[0])
    except (OSError, OverflowError) as error:
        raise InfrastructureError(f"--ray-address {address}: no way there ({error})") from None


@contextmanager
def _node(words: Sequence[str], address: str, timeout_s: float) -> Iterator[None]:
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *words]
    with tempfile.TemporaryFile() as said:
        # A terminal's Ctrl-C is for the client, which ends the node in its time.
        process = subprocess.Popen(
            command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait_until_started(process, said, address, timeout_s)
            yield
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_started(process: Any, said: Any, address: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        text = os.pread(said.fileno(), 1_000_000, 0).decode(errors="replace")
        if "Ray runtime started" in text:
            return
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            lines = [line for line in text.splitlines() if line.strip()]
            why = lines[-1].strip()[:300] if lines else "nothing said"
            raise InfrastructureError(f"--ray-address {address}: no node could join it ({why})")
        time.sleep(0.05)
