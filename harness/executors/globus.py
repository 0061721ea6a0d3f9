"""Globus Compute: its options are known, so that plans and the table of pairs can name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from typing import Annotated, Any, NoReturn
from uuid import UUID

from harness.core.errors import InfrastructureError
from harness.core.flags import Flag
from harness.executors._protocol import ExecutorConfig, executors


def _needs() -> NoReturn:
    raise InfrastructureError(
        "--executor globus: needs support for Globus Compute, which this version has not got;"
        " choose another executor"
    )


@executors.register("globus")
class GlobusConfig(ExecutorConfig):
    """Options of the Globus Compute executor."""

    name = "globus"

    endpoint: Annotated[
        UUID, Flag("--globus-compute-endpoint", "UUID of a Globus Compute endpoint", "UUID")
    ]

    def check(self, *, containers: bool) -> None:  # noqa: ARG002
        """Say what is missing, before anything is started.

        Raises:
            InfrastructureError: always.
        """
        _needs()

    def start(self, timeout_s: float) -> AbstractContextManager[Executor]:  # noqa: ARG002
        """Say what is missing."""
        _needs()

    def wait_ready(
        self,
        executor: Executor,  # noqa: ARG002
        warm_up: Callable[..., Any],  # noqa: ARG002
        timeout_s: float,  # noqa: ARG002
    ) -> Mapping[str, Any]:
        """Say what is missing."""
        _needs()

    @classmethod
    def variants(cls) -> Mapping[str, tuple[str, ...]]:
        """Have one row."""
        return {cls.name: ("--globus-compute-endpoint", "00000000-0000-0000-0000-000000000000")}
