"""What a connector plug-in is: its options, its ProxyStore connector, what it still holds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, Self

from proxystore.connectors.protocols import Connector
from pydantic import BaseModel, ConfigDict

from harness.core.errors import InfrastructureError
from harness.core.flags import from_args
from harness.core.pairs import ExecutorTraits
from harness.core.plug_ins import Registry


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

    def __add__(self, other: Held) -> Held:
        return Held(self.objects + other.objects, self.size_bytes + other.size_bytes)


@dataclass(frozen=True)
class ServerMemory:
    """What a server behind a connector says of its own memory.

    Attributes:
        used_bytes: what it has allocated for itself and what it keeps.
        rss_bytes: the resident set size of its process.
    """

    used_bytes: int
    rss_bytes: int


@dataclass(frozen=True)
class ServerParts:
    """What a server's memory is made of; the columns of ``server.csv`` that are not times."""

    used_bytes: int
    rss_bytes: int
    dataset_bytes: int
    query_buffer_bytes: int
    output_buffer_bytes: int
    other_bytes: int
    clients: int
    readers: int
    writers: int


class ConnectorConfig(BaseModel):
    """Options of one connector; subclass it and register the subclass under its name.

    Every field that carries a ``Flag`` is a command-line option; a field without a default is
    required with this connector.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]
    modules: ClassVar[Mapping[str, str]] = {}
    """What must be importable beside the core: module -> the package to install."""
    extra: ClassVar[str] = ""
    """Which extra of this package has them, if one does."""

    @classmethod
    def from_flags(cls, given: Mapping[str, Any], *, containers: bool) -> Self:
        """Return the options from parsed flags; in containers the topology fills them in.

        Raises:
            UsageError: if a flag is missing or wrong.
            InfrastructureError: if something is missing that the connector needs.
        """
        config = None if containers else from_args(cls, given)
        missing = cls.needs(containers=containers)
        if missing:
            raise InfrastructureError(f"--ps-connector {cls.name}: needs {missing}")
        return config or cls.for_topology()

    @classmethod
    def needs(cls, *, containers: bool) -> str | None:
        """Return what this connector needs and does not have, and the remedy; None if nothing.

        Args:
            containers: whether for a topology, whose images have what their locks name, or for
                this machine.
        """
        absent = [package for name, package in cls.modules.items() if find_spec(name) is None]
        if containers or not absent:
            return None
        noun, them = ("packages", "them") if len(absent) > 1 else ("package", "it")
        remedy = f"pip install 'workflow-memory-harness[{cls.extra}]'" if cls.extra else ""
        return f"the Python {noun} {' and '.join(absent)}; {remedy or f'install {them}'}"

    def refusal(self, executor: ExecutorTraits) -> str | None:  # noqa: ARG002
        """Return in one line why it cannot work with an executor, and what would; else None."""
        return None

    @property
    def largest_object(self) -> tuple[int, str] | None:
        """Return the most bytes one object may have, and why; None if nothing limits them."""
        return None

    @property
    def service_environment(self) -> Mapping[str, Mapping[str, str]]:
        """Return variables of the containers of its services: service -> name -> value."""
        return {}

    def compose_files(self) -> tuple[str, ...]:
        """Return the names in ``compose/connectors/`` that it has a file under, if it needs one."""
        return (self.name,)

    @abstractmethod
    def open(self) -> AbstractContextManager[Connector[Any]]:
        """Return a context that opens the connector and removes what it made on exit.

        Raises:
            InfrastructureError: (on entering) if the storage behind it does not answer.
        """

    @abstractmethod
    def held(self, connector: Connector[Any]) -> Held:
        """Count what the storage holds now, by asking the storage, not our own books."""

    def server_memory(self, connector: Connector[Any]) -> ServerMemory | None:  # noqa: ARG002
        """Return what the server behind it says of its memory; None without one that does."""
        return None

    def server_parts(
        self,
        connector: Connector[Any],  # noqa: ARG002
    ) -> AbstractContextManager[Callable[[], ServerParts] | None]:
        """Return a context of what asks the server behind it; of None without one that says it."""
        return nullcontext(None)

    def trim(self, connector: Connector[Any]) -> tuple[str, ...]:  # noqa: ARG002
        """Let the servers behind it give free memory back; it fails nothing.

        Returns:
            The servers that have no way to, in words.
        """
        return ()

    @classmethod
    @abstractmethod
    def for_topology(cls) -> Self:
        """Return the options with which the runner container reaches the topology's storage."""


connectors: Registry[ConnectorConfig] = Registry(
    "harness.connectors", "workflow_memory_harness.connectors"
)
