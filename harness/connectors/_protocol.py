"""What a connector plug-in is: its options, its ProxyStore connector, what it still holds."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from proxystore.connectors.protocols import Connector
from pydantic import BaseModel, ConfigDict

from harness.core.registry import Registry


@dataclass(frozen=True)
class Held:
    """What a connector holds at one moment.

    Attributes:
        objects: number of objects.
        size_bytes: their serialised size in bytes.
    """

    objects: int
    size_bytes: int

    def __sub__(self, other: Held) -> Held:
        return Held(self.objects - other.objects, self.size_bytes - other.size_bytes)


class ConnectorConfig(BaseModel):
    """Options of one connector; subclass it and register the subclass under its name.

    Every field that carries a ``Flag`` is a command-line option; a field without a default is
    required with this connector.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]

    @abstractmethod
    def open(self) -> AbstractContextManager[Connector[Any]]:
        """Return a context that opens the connector and removes what it made on exit.

        Raises:
            InfrastructureError: (on entering) if the storage behind it does not answer.
        """

    @abstractmethod
    def held(self, connector: Connector[Any]) -> Held:
        """Count what the storage holds now, by asking the storage, not our own books."""

    @classmethod
    @abstractmethod
    def for_topology(cls) -> Self:
        """Return the options with which the runner container reaches the topology's storage."""


connectors: Registry[ConnectorConfig] = Registry(
    "harness.connectors", "workflow_memory_harness.connectors"
)
