"""Globus Compute: endpoints that run already, or a local service with endpoints in containers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, field_validator

from harness.core.errors import UsageError, missing_package
from harness.core.flags import Flag
from harness.core.pairs import Payloads
from harness.core.uuids import check_uuids
from harness.executors import _globus_login
from harness.executors._globus_limits import MAX_SUBMISSION_BYTES, too_large
from harness.executors._protocol import ExecutorConfig, ExecutorTopology, executors

_WORKERS = 4

STAND_IN_NOTE = (
    "Globus Compute's web service was a local stand-in: SDK, endpoints and message broker are the"
    " real ones, but no figure includes the cloud's distance, rate limits, authorisation or object"
    " storage (docs/globus.md)."
)


class GlobusTopology(ExecutorTopology["GlobusConfig"]):
    """The local service with its endpoints; for the real service, the runner alone."""

    @property
    def name(self) -> str:
        """Return ``globus``, or ``globus-cloud`` for the real service."""
        return "globus-cloud" if self.options.endpoints else "globus"

    @property
    def environment(self) -> dict[str, str]:
        """Tell the endpoints their engine and size, and how many they are."""
        options = self.options
        if options.endpoints:
            return {}
        return {
            "HARNESS_GLOBUS_ENGINE": options.engine,
            "HARNESS_GLOBUS_WORKERS": str(options.expected_workers),
            "HARNESS_GLOBUS_ENDPOINTS": str(options.count),
            "HARNESS_GLOBUS_MAX_SUBMISSION_BYTES": str(options.max_submission),
        }

    def files(self, uid: int, gid: int) -> AbstractContextManager[dict[str, str]]:
        """Give the runner the user's login for the real service; the local one makes its own."""
        if not self.options.endpoints:
            return nullcontext({})
        return _globus_login.lent_login(uid, gid)

    @classmethod
    def variants(cls, name: str) -> Mapping[str, tuple[str, ...]]:
        """Have one row."""
        # Two objects of 5 MB are more than one task may carry.
        sizes = ("--stage-bytes-sizes", "3.5MB", "3.5MB", "3.5MB", "1MB")
        return {name: ("--globus-workers", "2", *sizes)}


@executors.register("globus")
class GlobusConfig(ExecutorConfig):
    """Options of the Globus Compute executor."""

    name = "globus"
    topology = GlobusTopology
    packages = ("globus-compute-sdk", "globus-compute-endpoint", "parsl")

    endpoints: Annotated[
        tuple[str, ...],
        Flag(
            "--globus-compute-endpoint",
            "endpoints of the real service, used in turn; without it 'harness bench' starts a local"
            " service and endpoints",
            "UUID",
            place=True,
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
            f"workers of each endpoint that is started ({_WORKERS}); with"
            " --globus-compute-endpoint, how many of each to wait for (1)",
            "N",
        ),
    ] = Field(default=None, gt=0)
    count: Annotated[
        int, Flag("--globus-endpoints", "number of endpoints that are started", "N")
    ] = Field(default=1, gt=0)
    max_submission: Annotated[
        int,
        Flag(
            "--globus-max-submission",
            "the service's limit for the serialised tasks of one submission",
            "BYTES",
            size=True,
        ),
    ] = Field(default=MAX_SUBMISSION_BYTES, ge=2**16)

    @field_validator("endpoints")
    @classmethod
    def _are_uuids(cls, endpoints: tuple[str, ...]) -> tuple[str, ...]:
        check_uuids(endpoints)
        return endpoints

    def payload_refusal(self, payloads: Payloads, *, containers: bool) -> str | None:
        """Refuse payloads that service or endpoint refuse, and stores out of the workers' reach."""
        if containers and self.endpoints and set(payloads.modes) != {"none"}:
            return (
                "--globus-compute-endpoint: its workers are elsewhere and cannot reach a store in"
                " this topology; use '--data-management none', or 'harness run' with a store that"
                " they can reach"
            )
        reason = too_large(payloads, self.max_submission) if "none" in payloads.modes else None
        if reason is None:
            return None
        return f"--data-management none: {reason}; use a mode with proxies, or smaller payloads"

    def check(self, *, containers: bool) -> None:
        """Refuse what cannot work here.

        Raises:
            UsageError: without an endpoint, where none is started.
            InfrastructureError: if the SDK or a login is needed and not there.
        """
        if self.endpoints:
            _globus_login.require_login()
        elif not containers and not _globus_login.in_topology():
            raise UsageError(
                "--globus-compute-endpoint: is required: UUID of a Globus Compute endpoint"
                " ('harness bench' starts endpoints of its own)"
            )
        if not containers and find_spec("globus_compute_sdk") is None:
            raise missing_package("--executor globus", "globus-compute-sdk", "globus")

    @contextmanager
    def _start(self, timeout_s: float) -> Iterator[Executor]:
        from harness.executors import _globus_compute  # noqa: PLC0415  # 0.5 s, only when used

        client = _globus_compute.connect(timeout_s)
        endpoints = tuple(map(UUID, self.endpoints)) or _globus_compute.find_endpoints(
            client, self.count, timeout_s
        )
        with _globus_compute.GlobusComputeExecutor(
            client, endpoints, self.max_submission
        ) as executor:
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

    def call_in_each(self, executor: Executor, call: Callable[[], Any]) -> tuple[str, ...]:
        """Call it in every worker of every endpoint, in tasks; endpoints run nothing for others.

        The processes of a topology's endpoints attend by themselves.
        """
        from harness.executors import _globus_compute  # noqa: PLC0415

        assert isinstance(executor, _globus_compute.GlobusComputeExecutor)
        own = ("the endpoints' own processes",) if self.endpoints else ()
        return *executor.call_in_each(call, self.expected_workers), *own

    def facts_at_end(self, executor: Executor) -> Mapping[str, Any]:
        """Say whether the SDK's rate limit has delayed anything."""
        from harness.executors import _globus_compute  # noqa: PLC0415

        assert isinstance(executor, _globus_compute.GlobusComputeExecutor)
        return {"requests_delayed_by_sdk": executor.delays}

    @property
    def expected_workers(self) -> int:
        """Workers of each endpoint."""
        return self.workers or (1 if self.endpoints else _WORKERS)

    @property
    def worker_count(self) -> int:
        """Those of all endpoints."""
        return self.expected_workers * (len(self.endpoints) or self.count)

    @property
    def lends_login(self) -> bool:
        """Say that the runner logs in to the real service as the user."""
        return bool(self.endpoints)

    def notes(self) -> tuple[str, ...]:
        """Say what the local service is."""
        return () if self.endpoints else (STAND_IN_NOTE,)
