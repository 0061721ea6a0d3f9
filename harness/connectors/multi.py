"""Two connectors behind one: small objects go to one of them, large ones to the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any, Self

from proxystore.connectors.multi import Policy
from proxystore.connectors.protocols import Connector
from pydantic import (
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from harness.connectors._multi_connector import MultiConnector
from harness.connectors._protocol import ConnectorConfig, Held, ServerMemory, connectors
from harness.core.errors import UsageError
from harness.core.flags import Flag, flags_of
from harness.core.pairs import ExecutorTraits

SMALL, LARGE = "small", "large"


@connectors.register("multi")
class MultiConfig(ConnectorConfig):
    """Options of the multi connector; those of the two inner ones have their own flags."""

    name = "multi"

    small_name: Annotated[
        str, Flag("--ps-multi-small", "connector for objects below the threshold", "NAME")
    ] = "redis"
    large_name: Annotated[
        str, Flag("--ps-multi-large", "connector for objects of the threshold or more", "NAME")
    ] = "file"
    threshold: Annotated[
        int,
        Flag("--ps-multi-threshold", "serialised size that counts as large", "SIZE", size=True),
    ] = Field(default=1_000_000, gt=0)
    small: SerializeAsAny[ConnectorConfig]
    large: SerializeAsAny[ConnectorConfig]

    @model_validator(mode="before")
    @classmethod
    def _inner(cls, data: Any) -> Any:
        """Read the inner connectors' options with their own classes (plan files)."""
        if isinstance(data, dict):
            data = dict(data)
            for inner in (SMALL, LARGE):
                if isinstance(data.get(inner), dict):
                    data[inner] = connectors.get(data[f"{inner}_name"])(**data[inner])
        return data

    @model_serializer(mode="wrap")
    def _named(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Name the two also where defaults are left out: their options are read by their names."""
        return {f"{inner}_name": getattr(self, f"{inner}_name") for inner in (SMALL, LARGE)} | dict(
            handler(self)
        )

    @classmethod
    def from_flags(cls, given: Mapping[str, Any], *, containers: bool) -> Self:
        """Return the options, with those of the two connectors that the flags choose."""
        fields, flags = cls.model_fields, flags_of(cls)
        chosen: dict[str, type[ConnectorConfig]] = {}
        for inner in (SMALL, LARGE):
            flag = flags[f"{inner}_name"]
            name = str(given.get(flag.dest, fields[f"{inner}_name"].default)).lower()
            known = [known for known in connectors.names() if known != cls.name]
            if name not in known:
                raise UsageError(f"{flag.name}: choose from {', '.join(known)}, not {name!r}")
            chosen[f"{inner}_name"] = connectors.get(name)
        small, large = chosen.values()
        _check_distinct(small, large, containers=containers)
        threshold = given.get(flags["threshold"].dest, fields["threshold"].default)
        if threshold <= 0:
            raise UsageError(f"{flags['threshold'].name}: must be greater than 0, not {threshold}")
        return cls(
            small_name=small.name,
            large_name=large.name,
            threshold=threshold,
            small=small.from_flags(given, containers=containers),
            large=large.from_flags(given, containers=containers),
        )

    def refusal(self, executor: ExecutorTraits) -> str | None:
        """Refuse what either refuses."""
        return self.small.refusal(executor) or self.large.refusal(executor)

    @property
    def largest_object(self) -> tuple[int, str] | None:
        """Have the limit of the one that large objects go to."""
        return self.large.largest_object

    def compose_files(self) -> tuple[str, ...]:
        """Name the services of both."""
        return (*self.small.compose_files(), *self.large.compose_files())

    @property
    def service_environment(self) -> Mapping[str, Mapping[str, str]]:
        """Have the variables of both, whose services differ."""
        return {**self.small.service_environment, **self.large.service_environment}

    @contextmanager
    def _open(self) -> Iterator[Connector[Any]]:
        with self.small.open() as small, self.large.open() as large:
            # Not closed itself: that would close the two a second time.
            yield MultiConnector(
                {
                    SMALL: (small, Policy(max_size_bytes=self.threshold - 1)),
                    LARGE: (large, Policy(min_size_bytes=self.threshold)),
                }
            )

    def open(self) -> AbstractContextManager[Connector[Any]]:
        """Open both."""
        return self._open()

    def held(self, connector: Connector[Any]) -> Held:
        """Add up what the two hold."""
        (small, its), (large, others) = self._both(connector)
        return small.held(its) + large.held(others)

    def _both(self, connector: Connector[Any]) -> list[tuple[ConnectorConfig, Connector[Any]]]:
        assert isinstance(connector, MultiConnector)
        inner = connector.connectors
        return [(self.small, inner[SMALL].connector), (self.large, inner[LARGE].connector)]

    def server_memory(self, connector: Connector[Any]) -> ServerMemory | None:
        """Add up what those say that have a server."""
        found = [config.server_memory(inner) for config, inner in self._both(connector)]
        known = [memory for memory in found if memory is not None]
        if not known:
            return None
        return ServerMemory(sum(m.used_bytes for m in known), sum(m.rss_bytes for m in known))

    def trim(self, connector: Connector[Any]) -> tuple[str, ...]:
        """Trim both."""
        return tuple(lack for config, inner in self._both(connector) for lack in config.trim(inner))

    @classmethod
    def for_topology(cls) -> Self:
        """Use the default pair's services."""
        return cls.from_flags({}, containers=True)


def _check_distinct(
    small: type[ConnectorConfig], large: type[ConnectorConfig], *, containers: bool
) -> None:
    if small is large:
        raise UsageError(
            f"--ps-multi-small, --ps-multi-large: both are {small.name}; name two connectors"
        )
    shared = {f.name for f in flags_of(small).values()} & {f.name for f in flags_of(large).values()}
    if shared and not containers:
        raise UsageError(
            f"--ps-multi-small {small.name}, --ps-multi-large {large.name}: both would take"
            f" {sorted(shared)[0]}; name two connectors that share no option"
        )
