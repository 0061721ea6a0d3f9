"""Ray: nodes on this machine or in containers, and their object stores."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator

from harness.core.errors import InfrastructureError, UsageError
from harness.core.flags import Flag
from harness.core.pairs import ConnectorTraits, Payloads
from harness.executors._protocol import (
    ExecutorConfig,
    ExecutorTopology,
    ObjectStore,
    executors,
)

if TYPE_CHECKING:
    from harness.executors._ray_kernel import RayExecutor

# Inside a topology the head has this name and port (compose/ray.yaml).
TOPOLOGY_HEAD = "head:6379"
# Ray starts no node with less.
LEAST_STORE = 80_000_000
_ROOM = 1.1
_ADDRESS = re.compile(r"[^\s:]+:\d{1,5}")


class RayTopology(ExecutorTopology["RayConfig"]):
    """A head and workers: a node each."""

    @property
    def environment(self) -> dict[str, str]:
        """Scale the worker service, and say how large each node's object store is."""
        store = self.options.object_store
        # Ray puts a little of its own beside the objects, and takes the disk if there is no room.
        shared = round(_ROOM * store)
        return {
            "HARNESS_WORKERS": str(self.options.topology_workers),
            "HARNESS_RAY_STORE": str(store),
            "HARNESS_RAY_SHM": str(shared),
        }

    def inside(self) -> RayConfig:
        """Let the runner join the topology's cluster."""
        return self.options.model_copy(update={"address": TOPOLOGY_HEAD})

    @classmethod
    def variants(cls, name: str) -> Mapping[str, tuple[str, ...]]:
        """Have one row."""
        return {name: ("--ray-workers", "2")}


@executors.register("ray")
class RayConfig(ExecutorConfig):
    """Options of the Ray executor."""

    name = "ray"
    topology = RayTopology
    death_errors = frozenset(
        {"LocalRayletDiedError", "NodeDiedError", "OwnerDiedError", "WorkerCrashedError"}
    )
    packages = ("ray",)
    passes_references = True
    idle_bytes = 180_000_000
    keeps_memory = "Ray's object store gives no memory back"

    address: Annotated[
        str | None,
        Flag(
            "--ray-address",
            "HOST:PORT of a running cluster's head, which a node without CPUs joins from here;"
            " without it a cluster is started on this machine",
            "ADDR",
            place=True,
        ),
    ] = None
    workers: Annotated[
        int | None,
        Flag("--ray-workers", "number of workers: nodes of one CPU in containers, else CPUs", "N"),
    ] = Field(default=None, gt=0)
    object_store: Annotated[
        int,
        Flag(
            "--ray-object-store",
            "size of each node's object store (plasma), which is memory only as it is used",
            "BYTES",
            size=True,
        ),
    ] = Field(default=4_000_000_000, ge=LEAST_STORE, le=10**15)

    @field_validator("address")
    @classmethod
    def _place(cls, value: str | None) -> str | None:
        if value is not None and not _ADDRESS.fullmatch(value):
            raise ValueError(f"{value[:80]!r} is not HOST:PORT, such as head.example.org:6379")
        return value

    def refusal(self, connector: ConnectorTraits) -> str | None:  # noqa: ARG002
        """Refuse to count workers of a cluster that is somebody else's."""
        if self.address is not None and self.workers is not None:
            return (
                "--ray-workers: is the size of a cluster that is started, but --ray-address"
                f" {self.address} names one that runs already; give one of the two"
            )
        return None

    def payload_refusal(self, payloads: Payloads, *, containers: bool) -> str | None:  # noqa: ARG002
        """Refuse what one node's object store cannot hold of one task."""
        needed = max(payloads.input_bytes, payloads.result_bytes)
        through = {"none", "futures"}.intersection(payloads.modes)
        if not through or needed <= self.object_store:
            return None
        return (
            f"--ray-object-store {self.object_store}: {needed} bytes of inputs or result of one"
            " task do not fit; give it more, or use smaller payloads"
        )

    def check(self, *, containers: bool) -> None:
        """Refuse somebody else's cluster where one is started in containers."""
        if containers and self.address is not None:
            raise UsageError(
                f"--ray-address {self.address}: 'harness bench' starts a cluster of its own;"
                " use 'harness run' with a cluster that runs already"
            )
        if not containers and find_spec("ray") is None:
            raise InfrastructureError(
                "--executor ray: needs the Python package ray: pip install ray"
            )

    def start(self, timeout_s: float) -> AbstractContextManager[Executor]:
        """Start a cluster on this machine, or join the one at ``address``."""
        from harness.executors import _ray_kernel  # noqa: PLC0415  # 0.6 s, only when used

        if self.address is None:
            return _ray_kernel.local_cluster(self.local_workers, self.object_store)
        return _ray_kernel.joined_cluster(self.address, self.object_store, timeout_s)

    def wait_ready(
        self, executor: Executor, warm_up: Callable[..., Any], timeout_s: float
    ) -> Mapping[str, Any]:
        """Wait for ``workers`` CPUs (at least one) and run ``warm_up`` in a process for each."""
        return _ray(executor).wait_ready(self.workers or 1, warm_up, timeout_s)

    def alive(self, executor: Executor) -> Mapping[str, str]:
        """Ask the head for nodes and worker processes that have not crashed."""
        return _ray(executor).alive()

    def trim(self, executor: Executor, trim: Callable[[], Any]) -> tuple[str, ...]:
        """Trim the worker processes; Ray's own processes run nothing for others."""
        return _ray(executor).trim(trim)

    def call_in_each(self, executor: Executor, call: Callable[[], Any]) -> tuple[str, ...]:
        """Call it in the worker processes; Ray's own are partly not Python's."""
        return _ray(executor).call_in_each(call)

    def object_stores(self, executor: Executor) -> Callable[[], tuple[ObjectStore, ...]]:
        """Ask the head what each node's store has in use."""
        return _ray(executor).object_stores

    @property
    def worker_count(self) -> int:
        """As many as a topology has; of somebody else's cluster nothing is known."""
        return self.topology_workers

    @property
    def topology_workers(self) -> int:
        """Number of worker containers."""
        return 4 if self.workers is None else self.workers

    @property
    def local_workers(self) -> int:
        """Number of CPUs of a cluster on this machine."""
        return (os.cpu_count() or 1) if self.workers is None else self.workers

    def notes(self) -> tuple[str, ...]:
        """Say what a node's memory is."""
        return (
            "Ray's object store (plasma) is shared memory of whichever container touched it first,"
            " and stays so until the node ends: the kernel's figures have all that was ever"
            " touched, object-stores.csv what is in use.",
        )


def _ray(executor: Executor) -> RayExecutor:
    from harness.executors._ray_kernel import RayExecutor  # noqa: PLC0415

    assert isinstance(executor, RayExecutor)
    return executor
