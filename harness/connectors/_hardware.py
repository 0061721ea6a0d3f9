"""What connectors have in common whose library or hardware no image of ours has."""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any, ClassVar, Self

from proxystore.connectors.protocols import Connector
from pydantic import BaseModel, Field

from harness.connectors._journal import Journalled
from harness.connectors._protocol import ConnectorConfig, Held
from harness.core.errors import InfrastructureError
from harness.core.flags import Flag


class HardwareConfig(ConnectorConfig):
    """Options of a connector for a machine that has what it takes.

    None of these storages can list what it holds, so objects are counted by asking for every key
    this invocation has made (see ``_journal``), in a directory all hosts must share.
    """

    beyond: ClassVar[str]
    """What it takes: for the message in containers."""

    @classmethod
    def needs(cls, *, containers: bool) -> str | None:
        """Return the packages that are missing; containers never have what it takes."""
        if containers:
            return (
                f"{cls.beyond}, which the containers do not have; use 'harness run' on a machine"
                " that has"
            )
        return super().needs(containers=containers)

    @abstractmethod
    def connect(self, journal: str) -> Connector[Any]:
        """Return the connector, which notes its keys in the directory ``journal``.

        Raises:
            Exception: whatever the library raises.
        """

    @contextmanager
    def _open(self) -> Iterator[Connector[Any]]:
        # In the working directory, which is shared where jobs run on several hosts; /tmp is not.
        with tempfile.TemporaryDirectory(prefix=".harness-keys-", dir=".") as journal:
            try:
                connector = self.connect(journal)
            except Exception as error:  # each library has its own
                raise InfrastructureError(
                    f"--ps-connector {self.name}: cannot be opened"
                    f" ({type(error).__name__}: {' '.join(str(error).split())})"
                ) from error
            try:
                yield connector
            finally:
                connector.close()

    def open(self) -> AbstractContextManager[Connector[Any]]:
        """Open the library's connector."""
        return self._open()

    def held(self, connector: Connector[Any]) -> Held:
        """Ask for every key."""
        assert isinstance(connector, Journalled)
        return connector.held()

    @classmethod
    def for_topology(cls) -> Self:
        """Refuse: there is no such topology."""
        raise InfrastructureError(f"--ps-connector {cls.name}: needs {cls.needs(containers=True)}")


class HostServerOptions(BaseModel):
    """Where each host's server listens."""

    port: Annotated[int, Flag("--ps-port", "port of the server", "PORT", place=True)] = Field(
        gt=0, lt=65536
    )
    address: Annotated[
        str | None,
        Flag(
            "--ps-address",
            "IP address of this host; then all hosts use its server",
            "ADDR",
            place=True,
        ),
    ] = None
    interface: Annotated[
        str | None,
        Flag(
            "--ps-interface",
            "network interface whose address each host's server has",
            "NAME",
            place=True,
        ),
    ] = None
