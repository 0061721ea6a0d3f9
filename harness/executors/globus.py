"""Globus Compute: endpoints that run already, or a local service with endpoints in containers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field

from harness.core.errors import InfrastructureError, UsageError
from harness.core.flags import Flag
from harness.executors._globus_limits import MAX_SUBMISSION_BYTES
from harness.executors._protocol import ExecutorConfig, executors

# Set where the topology has its own service (compose/globus.yaml).
LOGIN_VARIABLE = "HARNESS_GLOBUS_LOGIN"
_WORKERS = 4


@executors.register("globus")
class GlobusConfig(ExecutorConfig):
    """Options of the Globus Compute executor."""

    name = "globus"

    endpoints: Annotated[
        tuple[UUID, ...],
        Flag(
            "--globus-compute-endpoint",
            "endpoints of the real service, used in turn; without it, 'harness bench' starts a local"
            " service and endpoints",
            "UUID",
        ),
    ] = ()
    engine: Annotated[
        Literal["thread", "process", "htex"],
        Flag(
            "--globus-engine",
            "what executes tasks in the endpoints that are started: ThreadPoolEngine,"
            " ProcessPoolEngine or GlobusComputeEngine",
            choices=("thread", "process", "htex"),
        ),
    ] = "htex"
    workers: Annotated[
        int | None,
        Flag(
            "--globus-workers",
            f"workers of each endpoint that is started ({_WORKERS}); with --globus-compute-endpoint,"
            " how many of each to wait for (1)",
            "N",
        ),
    ] = Field(default=None, gt=0)
    count: Annotated[
        int, Flag("--globus-endpoints", "number of endpoints that are started", "N")
    ] = Field(default=1, gt=0)

    @contextmanager
    def _start(self, timeout_s: float) -> Iterator[Executor]:
        from harness.executors import _globus_compute  # noqa: PLC0415  # 1 s, only when used

        client = _globus_compute.connect(timeout_s)
        endpoints = self.endpoints or _globus_compute.find_endpoints(client, self.count, timeout_s)
        executor = _globus_compute.GlobusComputeExecutor(client, endpoints, MAX_SUBMISSION_BYTES)
        with executor:
            yield executor

    def start(self, timeout_s: float) -> AbstractContextManager[Executor]:
        """Log in, find the endpoints, start the SDK's executor."""
        return self._start(timeout_s)

    def wait_ready(
        self, executor: Executor, warm_up: Callable[..., Any], timeout_s: float
    ) -> Mapping[str, Any]:
        """Wait until a task came back from every endpoint, and from each worker that is known."""
        from harness.executors import _globus_compute  # noqa: PLC0415

        assert isinstance(executor, _globus_compute.GlobusComputeExecutor)
        return executor.wait_ready(warm_up, self.expected_workers, timeout_s)

    @property
    def expected_workers(self) -> int:
        """Workers of each endpoint."""
        return self.workers or (1 if self.endpoints else _WORKERS)

    def check(self, *, containers: bool) -> None:
        """Refuse what cannot work here.

        Raises:
            UsageError: without an endpoint, where none is started.
            InfrastructureError: if the SDK is needed here and not installed.
        """
        if containers:
            return
        if not self.endpoints and LOGIN_VARIABLE not in os.environ:
            raise UsageError(
                "--globus-compute-endpoint: is required: UUID of a Globus Compute endpoint"
                " ('harness bench' can start endpoints of its own)"
            )
        if find_spec("globus_compute_sdk") is None:
            raise InfrastructureError(
                "--executor globus: Globus Compute's SDK is missing: 'pip install"
                " globus-compute-sdk'"
            )

    def topology_env(self) -> dict[str, str]:
        """Tell the endpoints their engine and size, and how many they are."""
        return {
            "HARNESS_GLOBUS_ENGINE": self.engine,
            "HARNESS_GLOBUS_WORKERS": str(self.expected_workers),
            "HARNESS_GLOBUS_ENDPOINTS": str(self.count),
        }

    @classmethod
    def variants(cls) -> Mapping[str, tuple[str, ...]]:
        """Have one row."""
        return {cls.name: ("--globus-workers", "2")}
