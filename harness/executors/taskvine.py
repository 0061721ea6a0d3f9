"""TaskVine: a manager in this process, and workers on this machine or in containers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from harness.core.errors import InfrastructureError, UsageError
from harness.core.flags import Flag
from harness.core.pairs import ConnectorTraits
from harness.executors._protocol import ExecutorConfig, ExecutorTopology, executors

if TYPE_CHECKING:
    from harness.executors._taskvine_kernel import TaskVineExecutor

# Where the workers of a topology find the manager (compose/taskvine.yaml).
TOPOLOGY_PORT = 9123
_HOST_SERVERS = ("margo", "ucx", "zmq")


class TaskVineTopology(ExecutorTopology["TaskVineConfig"]):
    """The runner, which has the manager, and workers."""

    @property
    def environment(self) -> dict[str, str]:
        """Scale the worker service."""
        return {"HARNESS_WORKERS": str(self.options.worker_count)}

    def inside(self) -> TaskVineConfig:
        """Let the runner wait for the workers in their containers."""
        update = {"port": TOPOLOGY_PORT, "workers": self.options.worker_count}
        return self.options.model_copy(update=update)

    @classmethod
    def variants(cls, name: str) -> Mapping[str, tuple[str, ...]]:
        """Have one row."""
        return {name: ("--taskvine-workers", "2")}


@executors.register("taskvine")
class TaskVineConfig(ExecutorConfig):
    """Options of the TaskVine executor."""

    name = "taskvine"
    topology = TaskVineTopology
    death_errors = frozenset({"WorkerDiedError"})

    workers: Annotated[
        int | None,
        Flag("--taskvine-workers", "number of workers of one core", "N"),
    ] = Field(default=None, gt=0)
    port: Annotated[
        int | None,
        Flag(
            "--taskvine-port",
            "where the manager listens for workers that you start ('vine_worker HOST PORT');"
            " without it workers are started on this machine",
            "PORT",
            place=True,
        ),
    ] = Field(default=None, gt=0, lt=65536)
    exec_mode: Annotated[
        Literal["fork", "direct"],
        Flag(
            "--taskvine-exec-mode",
            "how a worker's library runs a call: in a fork of itself, TaskVine's default, or in"
            " its own process",
            choices=("fork", "direct"),
        ),
    ] = "fork"

    def refusal(self, connector: ConnectorTraits) -> str | None:
        """Refuse connectors whose server is a child of the process that first needs it."""
        if self.exec_mode == "direct" or connector.name not in _HOST_SERVERS:
            return None
        return (
            f"--ps-connector {connector.name}: each host keeps objects in a server, which ends with"
            " the fork that started it; add --taskvine-exec-mode direct, or use another connector"
        )

    def check(self, *, containers: bool) -> None:
        """Refuse somebody else's workers in containers, and a machine without TaskVine.

        Raises:
            UsageError: for a port in containers.
            InfrastructureError: if TaskVine is needed here and not installed.
        """
        if containers and self.port is not None:
            raise UsageError(
                f"--taskvine-port {self.port}: 'harness bench' starts workers of its own;"
                " use 'harness run' with workers that you start"
            )
        if not containers and find_spec("ndcctools") is None:
            raise InfrastructureError(
                "--executor taskvine: needs TaskVine (ndcctools.taskvine), which the Python index"
                " does not have: install Debian's python3-workqueue and coop-computing-tools or"
                " conda-forge's ndcctools, or use 'harness bench', whose image has it"
            )

    def start(self, timeout_s: float) -> AbstractContextManager[Executor]:  # noqa: ARG002
        """Start a manager and, without ``port``, workers on this machine."""
        from harness.executors import _taskvine_kernel  # noqa: PLC0415

        local = 0 if self.port is not None else self.workers or os.cpu_count() or 1
        return _taskvine_kernel.started(self.port or 0, local, self.exec_mode)

    def wait_ready(
        self, executor: Executor, warm_up: Callable[..., Any], timeout_s: float
    ) -> Mapping[str, Any]:
        """Wait for the workers, install a library on each and run ``warm_up`` in it."""
        wanted = self.workers or (1 if self.port is not None else os.cpu_count() or 1)
        return _taskvine(executor).wait_ready(wanted, warm_up, timeout_s)

    def alive(self, executor: Executor) -> Mapping[str, str]:
        """Ask the manager for workers and the libraries in them."""
        return _taskvine(executor).alive()

    def host_of(self, executor: Executor, place: str) -> str:
        """Return the host of a worker that has been alive."""
        return _taskvine(executor).hosts.get(place, "")

    def trim(self, executor: Executor, trim: Callable[[], Any]) -> tuple[str, ...]:
        """Trim the libraries, where they run calls themselves."""
        return _taskvine(executor).trim(trim)

    def call_in_each(self, executor: Executor, call: Callable[[], Any]) -> tuple[str, ...]:
        """Call it in the libraries, where they run calls themselves."""
        return _taskvine(executor).call_in_each(call)

    @property
    def worker_count(self) -> int:
        """As many as a topology has."""
        return 4 if self.workers is None else self.workers

    def notes(self) -> tuple[str, ...]:
        """Say where the data is."""
        return (
            "TaskVine keeps arguments and results in files, of the manager and of each worker: the"
            " kernel's figures have their page cache, which it may take back, in them.",
        )


def _taskvine(executor: Executor) -> TaskVineExecutor:
    from harness.executors._taskvine_kernel import TaskVineExecutor  # noqa: PLC0415

    assert isinstance(executor, TaskVineExecutor)
    return executor
