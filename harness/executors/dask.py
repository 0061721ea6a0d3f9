"""Dask: a local cluster, or a scheduler that runs already."""

from __future__ import annotations

import pkgutil
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from inspect import signature
from typing import TYPE_CHECKING, Annotated, Any, cast
from uuid import uuid4

from pydantic import Field, field_validator

from harness import __version__
from harness.core.errors import InfrastructureError, UsageError, missing_package
from harness.core.flags import Flag
from harness.core.pairs import ConnectorTraits
from harness.executors._dask_call import ReferringCall, SealedCall, rest_of
from harness.executors._protocol import ExecutorConfig, ExecutorTopology, executors

if TYPE_CHECKING:
    from distributed import Client

# Inside a topology the scheduler has this name and port (compose/dask.yaml).
TOPOLOGY_SCHEDULER = "tcp://scheduler:8786"
# Where a worker container has a volume on disk that any user may write to; /tmp is memory.
TOPOLOGY_SCRATCH = "/harness/state"
_TIDY_TIMEOUT_S = 10.0
_MOST_NWORKERS = 256
_MOST_NTHREADS = 1024
_MOST_BYTES = 10**15


class DaskExecutor(Executor):
    """The ``concurrent.futures`` face of a Dask client.

    ``Client.get_executor`` is not used: it copies every result through a second future on the
    event loop, and the reference's results name a class of this name.

    Args:
        client: connected client; closed by :meth:`shutdown`.
        pure: let Dask see function and arguments and hash them to recognise equal calls. That
            costs 1.5 s per 100 MB argument and resolves proxies on the client; the reference
            does it.

    Attributes:
        hosts: address of each worker that was there when runs began -> its host's name.
    """

    def __init__(self, client: Client, *, pure: bool = False) -> None:
        self.client = client
        self.pure = pure
        self.hosts: dict[str, str] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a call; the future is Dask's, which has the same methods."""
        if self.pure:
            return cast(Future[Any], self.client.submit(fn, *args, pure=True, **kwargs))
        call = SealedCall(fn, args, kwargs)
        # The name is what Dask's logs and dashboards know the task by.
        key = f"{getattr(fn, '__name__', 'call')}-{uuid4()}"
        return cast(Future[Any], self.client.submit(call, key=key, pure=False))

    def put(self, data: bytes) -> Any:
        """Give data to a worker, not by way of the scheduler."""
        return self.client.scatter(data, direct=True, hash=False)

    def submit_by_reference(
        self, fn: Callable[..., Any], /, *references: Any, **kwargs: Any
    ) -> tuple[Any, Future[tuple[Any, ...]]]:
        """Submit a call that gets what Dask's futures stand for.

        What it returns stays in one piece on its worker; a second task there takes the rest of it.
        """
        name = f"{getattr(fn, '__name__', 'call')}-{uuid4()}"
        submit = self.client.submit
        made = submit(ReferringCall(fn, kwargs), *references, key=name, pure=False)
        return made, cast(Future[Any], submit(rest_of, made, key=f"rest-of-{name}", pure=False))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Close the client."""
        self.client.close()


def _workers(client: Client) -> Mapping[str, Any]:
    """Return what the scheduler knows of each worker, by address.

    Not ``client.scheduler_info()``: it returns what the client keeps, and every two seconds the
    client keeps an answer without workers. Older schedulers know no ``n_workers``:
    they name all workers anyway.
    """
    from distributed import Scheduler  # noqa: PLC0415

    scheduler: Any = client.scheduler
    limited = "n_workers" in signature(Scheduler.identity).parameters
    more = {"n_workers": -1} if limited else {}
    found: Mapping[str, Any] = client.sync(scheduler.identity, **more)["workers"]
    return found


def _check_package(client: Client) -> None:
    """Make sure that every worker has this package, and this version of it.

    Raises:
        InfrastructureError: one line that names the worker and the remedy.
    """
    # A function of the standard library, because one of ours would need the package to arrive.
    found = client.run(pkgutil.resolve_name, "harness:__version__", on_error="return")
    for address, version in found.items():
        if version != __version__:
            lacks = "lacks the package" if isinstance(version, Exception) else f"has {version} of"
            raise InfrastructureError(
                f"the Dask worker {address} {lacks} workflow-memory-harness: install"
                f" {__version__} of it, and proxystore, in the Python of every worker"
                " (or, from a client, register dask.distributed.PipInstall), then start again"
            )


def _check_one_stack(client: Client) -> None:
    """Make sure that scheduler, workers and client are of one version: a mix says nothing.

    Raises:
        InfrastructureError: one line that names who is of another.
    """
    wanted = "distributed:__version__"
    own = pkgutil.resolve_name(wanted)
    found = {"scheduler": client.run_on_scheduler(pkgutil.resolve_name, wanted)}
    found |= {f"worker {a}": v for a, v in client.run(pkgutil.resolve_name, wanted).items()}
    for who, version in found.items():
        if version != own:
            raise InfrastructureError(
                f"the Dask {who} has distributed {version}, this process {own}: start all of them"
                " with one version"
            )


def _rehearse(executor: DaskExecutor, warm_up: Callable[..., Any], tasks: int) -> None:
    """Call ``warm_up`` in tasks: only with tasks a scheduler imports what it needs for them.

    That is 9 MB of its own, and 3 MB of the modules their functions are from. In the first run of
    a fresh topology they would count as the run's.
    """
    for future in [executor.submit(warm_up) for _ in range(tasks)]:
        future.result()


def _versions(client: Client) -> dict[str, Any]:
    """Return the cluster's Python and packages; workers that are alike share an entry."""
    extra = ["proxystore", "psutil", "redis"]
    found = cast(dict[str, Any], client.get_versions(packages=extra))
    workers: list[dict[str, Any]] = []
    for address, versions in sorted(found["workers"].items()):
        for alike in workers:
            if alike["versions"] == versions:
                alike["addresses"].append(address)
                break
        else:
            workers.append({"addresses": [address], "versions": versions})
    return {"scheduler": found["scheduler"], "workers": workers}


_SETTING = re.compile(r"([a-z][a-z0-9_.-]{0,200})=(.{0,500})")


def _setting(word: str) -> tuple[str, str]:
    """Return name and value of a word of ``--dask-config``. Raises ValueError for another one."""
    found = _SETTING.fullmatch(word)
    if found is None:
        raise ValueError(
            f"{word[:80]!r} is not KEY=VALUE, such as distributed.comm.compression=zlib"
        )
    key, value = found.groups()
    return key, value


@contextmanager
def _configured(words: Sequence[str]) -> Iterator[None]:
    """Set what Dask reads at its start, here and in processes that it starts."""
    if not words:
        yield
        return
    import dask  # noqa: PLC0415
    from dask.config import interpret_value  # noqa: PLC0415

    with dask.config.set({key: interpret_value(value) for key, value in map(_setting, words)}):
        yield


class DaskTopology(ExecutorTopology["DaskConfig"]):
    """A scheduler and workers."""

    @property
    def environment(self) -> dict[str, str]:
        """Scale the worker service, and say what its containers have in them."""
        options = self.options
        return {
            "HARNESS_WORKERS": str(options.worker_containers),
            "HARNESS_DASK_NTHREADS": str(options.nthreads or 1),
            "HARNESS_DASK_NWORKERS": str(options.nworkers),
            "HARNESS_DASK_NANNY": "--nanny" if options.nanny else "--no-nanny",
            "HARNESS_DASK_MEMORY_LIMIT": str(options.memory_limit or 0),
            # What is spilled to a tmpfs stays in memory.
            **({"HARNESS_DASK_SCRATCH": TOPOLOGY_SCRATCH} if options.memory_limit else {}),
        }

    @property
    def service_environment(self) -> Mapping[str, Mapping[str, str]]:
        """Give Dask's settings to all of its processes, as it reads them from its environment."""
        settings = dict(map(_setting, self.options.config))
        variables = {
            f"DASK_{key.replace('.', '__').replace('-', '_').upper()}": value
            for key, value in settings.items()
        }
        return dict.fromkeys(("scheduler", "worker", "runner"), variables) if variables else {}

    def inside(self) -> DaskConfig:
        """Connect to the topology's scheduler and expect the topology's workers."""
        # To the scheduler each process is a worker, wherever it is.
        workers = self.options.worker_containers * self.options.nworkers
        update = {"scheduler": TOPOLOGY_SCHEDULER, "workers": workers, "nworkers": 1}
        return self.options.model_copy(update=update)

    @classmethod
    def variants(cls, name: str) -> Mapping[str, tuple[str, ...]]:
        """Have one row."""
        return {name: ("--dask-workers", "2")}


@executors.register("dask")
class DaskConfig(ExecutorConfig):
    """Options of the Dask executor."""

    name = "dask"
    topology = DaskTopology
    death_errors = frozenset({"KilledWorker"})
    packages = ("distributed", "dask")
    passes_references = True

    scheduler: Annotated[
        str | None,
        Flag(
            "--dask-scheduler",
            "address of a running Dask scheduler; without it a local cluster is started",
            "ADDR",
            place=True,
        ),
    ] = None
    workers: Annotated[
        int | None,
        Flag(
            "--dask-workers",
            "number of workers of the local cluster, or of worker containers (default there: 4)",
            "N",
        ),
    ] = Field(default=None, gt=0)
    nworkers: Annotated[
        int,
        Flag(
            "--dask-nworkers",
            "worker processes in each worker container, with --dask-nanny",
            "N",
        ),
    ] = Field(default=1, gt=0, le=_MOST_NWORKERS)
    nthreads: Annotated[
        int | None,
        Flag(
            "--dask-nthreads",
            "threads of each worker process (default: 1 in containers, else Dask's own)",
            "N",
        ),
    ] = Field(default=None, gt=0, le=_MOST_NTHREADS)
    nanny: Annotated[
        bool,
        Flag(
            "--dask-nanny",
            "a nanny for each worker in containers, which starts it again when it dies",
        ),
    ] = False
    memory_limit: Annotated[
        int | None,
        Flag(
            "--dask-memory-limit",
            "memory of each worker process by which Dask itself spills to disk, pauses it and,"
            " with a nanny, ends it (default: none in containers, else Dask's own)",
            "BYTES",
            size=True,
        ),
    ] = Field(default=None, ge=2**20, le=_MOST_BYTES)
    use_threads: Annotated[
        bool, Flag("--dask-use-threads", "threads instead of processes as local workers")
    ] = False
    pure: Annotated[
        bool,
        Flag(
            "--dask-pure",
            "let Dask hash, and so fetch, all arguments on the client, as psbench did: only to"
            " compare with figures published before",
        ),
    ] = False

    config: Annotated[
        list[str],
        Flag(
            "--dask-config",
            "a setting of Dask for all of its processes, such as distributed.comm.compression=zlib",
            "KEY=VALUE",
            repeats=True,
        ),
    ] = Field(default=[], max_length=200)

    @field_validator("config")
    @classmethod
    def _settings(cls, words: list[str]) -> list[str]:
        for word in words:
            _setting(word)
        return words

    @property
    def in_client_process(self) -> bool:
        """Only the threads of a local cluster do."""
        return self.use_threads and self.scheduler is None

    def refusal(self, connector: ConnectorTraits) -> str | None:  # noqa: ARG002
        """Refuse to count workers of a cluster that is somebody else's."""
        if self.scheduler is not None and self.workers is not None:
            return (
                "--dask-workers: is the size of a cluster that is started, but --dask-scheduler"
                f" {self.scheduler} names one that runs already; give one of the two"
            )
        if self.nworkers > 1 and not self.nanny:
            return (
                f"--dask-nworkers {self.nworkers}: Dask starts more than one worker only under"
                " nannies: add --dask-nanny"
            )
        return None

    def _of_a_cluster(self) -> str:
        """Return the first flag that is about a cluster that is started; empty if none is given."""
        given = {
            f"--dask-config {' '.join(self.config[:1])}": bool(self.config),
            f"--dask-nworkers {self.nworkers}": self.nworkers > 1,
            f"--dask-nthreads {self.nthreads}": self.nthreads is not None,
            "--dask-nanny": self.nanny,
            f"--dask-memory-limit {self.memory_limit}": self.memory_limit is not None,
        }
        return next((flag for flag, is_given in given.items() if is_given), "")

    def check(self, *, containers: bool) -> None:
        """Refuse somebody else's cluster where one is started in containers."""
        if containers and self.scheduler is not None:
            raise UsageError(
                f"--dask-scheduler {self.scheduler}: 'harness bench' starts a cluster of its own;"
                " use 'harness run' with a cluster that runs already"
            )
        if self.scheduler is not None and (flag := self._of_a_cluster()):
            raise UsageError(
                f"{flag}: is for a cluster that is started; give it to the"
                f" one at {self.scheduler} where that is started"
            )
        if not containers and self.nanny:
            raise UsageError(
                "--dask-nanny: is for containers ('harness bench'); here each worker process has"
                " a nanny: say how many with --dask-workers"
            )
        if not containers and find_spec("distributed") is None:
            raise missing_package("--executor dask", "distributed", "dask")

    @contextmanager
    def _start(self, timeout_s: float) -> Iterator[Executor]:
        from distributed import Client, LocalCluster  # noqa: PLC0415  # 0.3 s, only when used

        if self.scheduler is not None:
            try:
                client = Client(self.scheduler, timeout=timeout_s)
            except (OSError, ValueError) as error:
                raise InfrastructureError(
                    f"--dask-scheduler {self.scheduler}: no scheduler answers ({error})"
                ) from None
            with client:
                yield DaskExecutor(client, pure=self.pure)
            return
        with (
            _configured(self.config),
            LocalCluster(
                n_workers=self.workers,
                threads_per_worker=self.nthreads,
                processes=not self.use_threads,
                memory_limit="auto" if self.memory_limit is None else self.memory_limit,
                dashboard_address=None,
            ) as cluster,
            Client(cluster) as client,
        ):
            yield DaskExecutor(client, pure=self.pure)

    def start(self, timeout_s: float) -> AbstractContextManager[Executor]:
        """Start a local cluster or connect to ``scheduler``."""
        return self._start(timeout_s)

    def wait_ready(
        self, executor: Executor, warm_up: Callable[..., Any], timeout_s: float
    ) -> Mapping[str, Any]:
        """Wait for ``workers`` workers (at least one) and run ``warm_up`` in each."""
        assert isinstance(executor, DaskExecutor)
        client = executor.client
        wanted = self.workers or 1
        try:
            client.wait_for_workers(wanted, timeout=timeout_s)
        except TimeoutError:  # Dask's own is this one too
            found = len(_workers(client))
            raise InfrastructureError(
                f"{found} of {wanted} Dask workers joined within {timeout_s:g} s"
            ) from None
        _check_package(client)
        _check_one_stack(client)
        client.run(warm_up)
        _rehearse(executor, warm_up, len(_workers(client)))
        facts: dict[str, Any] = {"workers": len(_workers(client))}
        if self.scheduler is not None:
            facts["cluster"] = _versions(client)
            executor.hosts = client.run(socket.gethostname)
        return facts

    def alive(self, executor: Executor) -> Mapping[str, str]:
        """Ask the scheduler: a worker that a nanny starts again has another address."""
        assert isinstance(executor, DaskExecutor)
        known = _workers(executor.client)
        return {address: f"worker {worker['name']}" for address, worker in known.items()}

    def host_of(self, executor: Executor, place: str) -> str:
        """Know the hosts of the workers that were there when runs began."""
        assert isinstance(executor, DaskExecutor)
        return executor.hosts.get(place, "")

    def tidy(self, executor: Executor, clean_up: Callable[..., Any]) -> None:
        """Tidy the workers of somebody else's cluster."""
        assert isinstance(executor, DaskExecutor)
        if self.scheduler is None:
            return
        with suppress(OSError, TimeoutError, RuntimeError, ValueError):  # the cluster is gone
            executor.client.sync(
                executor.client._run, clean_up, on_error="ignore", callback_timeout=_TIDY_TIMEOUT_S
            )

    def trim(self, executor: Executor, trim: Callable[[], Any]) -> tuple[str, ...]:
        """Trim every worker and the scheduler, unless they share the client's process."""
        assert isinstance(executor, DaskExecutor)
        if self.in_client_process:
            return ()
        client = executor.client
        lacks = []
        reach = {"workers": client.run, "scheduler": client.run_on_scheduler}
        if self.nanny:
            reach["nannies"] = partial(client.run, nanny=True)
        for what, run in reach.items():
            # In a local cluster the scheduler is in the client's process, which is trimmed anyway.
            if what == "scheduler" and self.scheduler is None:
                continue
            try:
                run(trim)
            except Exception as error:  # noqa: BLE001  # whatever it raises, it is told
                lacks.append(f"the Dask {what} ({type(error).__name__})")
        return tuple(lacks)

    @property
    def worker_count(self) -> int:
        """As many as a topology's threads; of somebody else's cluster nothing is known."""
        return self.worker_containers * self.nworkers * (self.nthreads or 1)

    @property
    def worker_processes(self) -> int:
        """Workers, and in each container one more that is all of its nannies."""
        return self.worker_containers * (self.nworkers + self.nanny)

    @property
    def worker_containers(self) -> int:
        """Four, if nothing else is said."""
        return 4 if self.workers is None else self.workers

    def worker_words(self) -> list[str]:
        """Return what ``dask worker`` is told of its own, as compose/dask.yaml tells it."""
        return [
            "--nanny" if self.nanny else "--no-nanny",
            f"--nworkers={self.nworkers}",
            f"--nthreads={self.nthreads or 1}",
            f"--memory-limit={self.memory_limit or 0}",
        ]
