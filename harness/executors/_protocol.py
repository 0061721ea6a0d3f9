"""What an executor plug-in is: its options, its executor, and how to wait until it is ready."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from harness.core.pairs import ConnectorTraits, Payloads
from harness.core.plug_ins import Registry

C = TypeVar("C", bound="ExecutorConfig")


@dataclass(frozen=True)
class ObjectStore:
    """What an executor says of one object store of its own.

    Attributes:
        host: name of the machine or container that it is in.
        used_bytes: in use.
        size_bytes: what it may use at most.
    """

    host: str
    used_bytes: int
    size_bytes: int


class ExecutorTopology(Generic[C]):
    """How ``harness bench`` starts containers for one executor; name the subclass in its options.

    This one is for executors that need nothing but a compose file of their name.

    Args:
        options: the executor's, as the user gave them.
    """

    def __init__(self, options: C) -> None:
        self.options = options

    @property
    def name(self) -> str:
        """Which file ``compose/<name>.yaml`` the options need."""
        return self.options.name

    @property
    def environment(self) -> dict[str, str]:
        """Variables of that compose file, such as the number of workers."""
        return {}

    @property
    def service_environment(self) -> Mapping[str, Mapping[str, str]]:
        """Variables of the services' containers: service -> name -> value."""
        return {}

    def inside(self) -> C:
        """Return the options with which the runner container reaches its services."""
        return self.options

    def files(self, uid: int, gid: int) -> AbstractContextManager[dict[str, str]]:  # noqa: ARG002
        """Return a context that holds files for the containers, and yields where they are.

        They are removed on exit. It is the place for what must not get into the run directory.

        Args:
            uid, gid: who must be able to read them.

        Returns:
            Further variables of the compose file.
        """
        return nullcontext({})

    @classmethod
    def variants(cls, name: str) -> Mapping[str, tuple[str, ...]]:
        """Return the rows that the executor has in ``harness doctor --matrix``.

        Args:
            name: of the executor.

        Returns:
            Name of the row -> flags of a small instance, two workers where they have a number.
        """
        return {name: ()}


class ExecutorConfig(BaseModel):
    """Options of one executor; subclass it and register the subclass under the executor's name.

    Every field that carries a ``Flag`` is a command-line option.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]
    topology: ClassVar[type[ExecutorTopology[Any]]] = ExecutorTopology
    death_errors: ClassVar[frozenset[str]] = frozenset({"BrokenProcessPool"})
    """Names of the exceptions by which tasks say that their worker has died."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Its own packages, the one that matters most first: comparisons name these first."""

    idle_bytes: ClassVar[int] = 0
    """What each of its containers has in use at rest, beyond 80 MB; for estimates."""
    passes_references: ClassVar[bool] = False
    """Whether its executor is a :class:`ReferringExecutor`, for the mode ``futures``."""
    keeps_memory: ClassVar[str] = ""
    """Why a run's memory stays for the next one: each run then has a topology of its own."""

    @property
    def in_client_process(self) -> bool:
        """Whether tasks run in the client's own process and so see its memory."""
        return False

    @property
    def worker_count(self) -> int:
        """Number of tasks that run at once, as far as the options say; for estimates."""
        return os.cpu_count() or 1

    @property
    def worker_containers(self) -> int:
        """Number of containers, or steps of a job, of the service ``worker`` where there is one."""
        return self.worker_count

    @property
    def worker_processes(self) -> int:
        """Number of processes that the workers are; for estimates."""
        return self.worker_count

    @property
    def lends_login(self) -> bool:
        """Whether containers are lent a login of the user's: not for a stranger's images."""
        return False

    def refusal(self, connector: ConnectorTraits) -> str | None:  # noqa: ARG002
        """Return in one line why these options, or they with a connector, cannot work; else None.

        It is asked about what the user gave, not about what a topology makes of it.
        """
        return None

    def payload_refusal(self, payloads: Payloads, *, containers: bool) -> str | None:  # noqa: ARG002
        """Return in one line why it cannot carry a workload's payloads, and what would; else None.

        Args:
            payloads: sizes and modes.
            containers: whether a topology is going to be started around the executor.
        """
        return None

    @abstractmethod
    def start(self, timeout_s: float) -> AbstractContextManager[Executor]:
        """Return a context that starts the executor and shuts it down cleanly on exit.

        Args:
            timeout_s: how long what runs already may take to answer.

        Raises:
            InfrastructureError: (on entering) if it does not.
        """

    @abstractmethod
    def wait_ready(
        self, executor: Executor, warm_up: Callable[..., Any], timeout_s: float
    ) -> Mapping[str, Any]:
        """Block until every worker runs and has called ``warm_up()`` once.

        Returns:
            Facts for the manifest, e.g. the number of workers.

        Raises:
            InfrastructureError: if they are not all there after ``timeout_s`` seconds.
        """

    def facts_at_end(self, executor: Executor) -> Mapping[str, Any]:  # noqa: ARG002
        """Return facts for the manifest that are known only when all runs are done."""
        return {}

    def alive(self, executor: Executor) -> Mapping[str, str]:  # noqa: ARG002
        """Return the workers that are alive now: what tells each from its successor -> its name.

        It is asked before and after each run. An executor that starts a dead worker's task again
        would otherwise hide that it died. Nothing where nothing is known of them.
        """
        return {}

    def host_of(self, executor: Executor, place: str) -> str:  # noqa: ARG002
        """Return the name of the host of a worker that has been alive; empty if it is not known.

        Args:
            place: what :meth:`alive` tells the worker by.
        """
        return ""

    def object_stores(
        self,
        executor: Executor,  # noqa: ARG002
    ) -> Callable[[], Sequence[ObjectStore]] | None:
        """Return what asks the executor's own object stores what they have in use, if it has any.

        It is called ten times a second during runs, on a thread of its own.
        """
        return None

    def tidy(self, executor: Executor, clean_up: Callable[[], Any]) -> None:
        """Call ``clean_up()`` once in every worker that is going to outlive the executor.

        Most workers end with it. It fails nothing: what has run has run.
        """

    def trim(self, executor: Executor, trim: Callable[[], Any]) -> tuple[str, ...]:  # noqa: ARG002
        """Call ``trim()`` in every process of the executor but the client's own.

        It is called between runs and fails nothing.

        Returns:
            The processes that could not be reached, in words.
        """
        return () if self.in_client_process else (f"the processes of --executor {self.name}",)

    def call_in_each(self, executor: Executor, call: Callable[[], Any]) -> tuple[str, ...]:
        """Call ``call()`` in every process that :meth:`trim` reaches, however long that takes.

        It is called around traced runs, and fails nothing.

        Returns:
            The processes that could not be reached, in words.
        """
        return self.trim(executor, call)

    def check(self, *, containers: bool) -> None:
        """Refuse options that cannot work here, before anything is started.

        Args:
            containers: whether a topology is going to be started around the executor.

        Raises:
            UsageError: one line that names the flag and the remedy.
            InfrastructureError: if something is not installed.
        """

    def containers(self) -> ExecutorTopology[Any]:
        """Return how containers are started with these options."""
        return self.topology(self)

    def notes(self) -> tuple[str, ...]:
        """Return sentences that every report of a run with these options must show."""
        return ()


class ReferringExecutor(Protocol):
    """An executor whose tasks pass data on by reference: it never is with the client."""

    def put(self, data: bytes) -> Any:
        """Give data to the executor; return a reference, which keeps it as long as it lives."""

    def submit_by_reference(
        self, fn: Callable[..., Any], /, *references: Any, **kwargs: Any
    ) -> tuple[Any, Future[tuple[Any, ...]]]:
        """Submit a call of ``fn`` with what references stand for.

        Args:
            fn: returns a tuple that begins with its payload.
            references: of :meth:`put` or of other calls.
            kwargs: as they are.

        Returns:
            A reference to the payload, which stays where it is, and a future of the rest of the
            tuple.
        """


def together(executor: Executor) -> AbstractContextManager[None]:
    """Return a context within which what is submitted belongs together.

    An executor that sends requests to a service has a method ``batch`` that returns it; to all
    others each call goes by itself.
    """
    batch: Callable[[], AbstractContextManager[None]] = getattr(executor, "batch", nullcontext)
    return batch()


executors: Registry[ExecutorConfig] = Registry(
    "harness.executors", "workflow_memory_harness.executors"
)
