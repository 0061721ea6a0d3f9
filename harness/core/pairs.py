"""What executors and connectors know of each other, so that either may refuse a pair.

The two rooms do not import each other; this is the little that passes between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol


class ExecutorTraits(Protocol):
    """What a connector may ask of an executor's options."""

    name: ClassVar[str]

    @property
    def in_client_process(self) -> bool:
        """Whether tasks run in the client's own process and so see its memory."""
        ...


class ConnectorTraits(Protocol):
    """What an executor may ask of a connector's options."""

    name: ClassVar[str]


class RefusingExecutor(ExecutorTraits, Protocol):
    """An executor that may refuse a connector."""

    def refusal(self, connector: ConnectorTraits) -> str | None:
        """Return why, or None."""
        ...


class RefusingConnector(ConnectorTraits, Protocol):
    """A connector that may refuse an executor."""

    def refusal(self, executor: ExecutorTraits) -> str | None:
        """Return why, or None."""
        ...


@dataclass(frozen=True)
class Payloads:
    """What a workload asks of an executor, so that it may refuse it before anything starts.

    Attributes:
        modes: the data management modes.
        input_bytes: what the tasks with the largest inputs get, all of one task's together.
        result_bytes: the largest result of a task.
    """

    modes: tuple[str, ...]
    input_bytes: int
    result_bytes: int


def pair_refusal(
    executor: RefusingExecutor, connector: RefusingConnector, launched: ExecutorTraits | None
) -> str | None:
    """Return why an executor and a connector cannot work together; None if they can.

    Args:
        executor: as the user asked for it.
        connector: as it will be opened.
        launched: the executor as a topology launches it, if there is one: what were threads of
            a local cluster are worker containers there.
    """
    return executor.refusal(connector) or connector.refusal(launched or executor)
