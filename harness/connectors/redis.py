"""Objects in a Redis server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Self

from proxystore.connectors.protocols import Connector
from pydantic import BaseModel, Field, field_validator

from harness.connectors._protocol import (
    ConnectorConfig,
    Held,
    ServerMemory,
    ServerParts,
    connectors,
)
from harness.core.errors import InfrastructureError, UsageError
from harness.core.flags import Flag, from_args
from harness.core.redis_server import SETTINGS_VARIABLE, setting

if TYPE_CHECKING:
    import redis

# In the topology's own tmpfs volume (compose/connectors/redis.yaml).
TOPOLOGY_PASSWORD = "/harness/secrets/redis"  # noqa: S105  # the name of a file
_TOPOLOGY_PATIENCE_S = 60.0
# A string of Redis; a serialised payload is a little larger than the payload.
_LARGEST_VALUE_BYTES = 512 * 2**20 - 4096

# What is less is a buffer that any client has.
_LARGE_OUTPUT = 16 * 1024
_LARGE_QUERY = 64 * 1024


class _ServerConfig(BaseModel):
    """Options of the server that a bench starts."""

    server_config: Annotated[
        list[str],
        Flag(
            "--redis-config",
            "a setting of the Redis server that a bench starts, as in redis.conf, such as"
            " 'client-output-buffer-limit=normal 256mb 64mb 10'",
            "KEY=VALUE",
            repeats=True,
        ),
    ] = Field(default=[], max_length=100)

    @field_validator("server_config")
    @classmethod
    def _settings(cls, words: list[str]) -> list[str]:
        for word in words:
            setting(word)
        return words


@connectors.register("redis")
class RedisConfig(_ServerConfig, ConnectorConfig):
    """Options of the Redis connector."""

    name = "redis"
    modules = {"redis": "redis"}  # a ClassVar
    extra = "redis"

    host: Annotated[str, Flag("--ps-host", "host name of the server", "HOST", place=True)]
    port: Annotated[int, Flag("--ps-port", "port of the server", "PORT", place=True)] = Field(
        gt=0, lt=65536
    )
    password_file: Annotated[
        str | None,
        Flag(
            "--ps-redis-password-file",
            "file with the server's password, at the same place for client and workers",
            "FILE",
            secret=True,
        ),
    ] = None

    @classmethod
    def from_flags(cls, given: Mapping[str, Any], *, containers: bool) -> Self:
        """Return the options; settings are for a server that is started for a bench."""
        found = super().from_flags(given, containers=containers)
        if containers:
            settings = from_args(_ServerConfig, given).server_config
            return found.model_copy(update={"server_config": settings})
        if found.server_config:
            raise UsageError(
                f"--redis-config {found.server_config[0]}: is for the server that 'harness bench'"
                f" starts; give it to the one at {found.host} where that is started"
            )
        return found

    @property
    def service_environment(self) -> Mapping[str, Mapping[str, str]]:
        """Hand the settings to what starts the server."""
        if not self.server_config:
            return {}
        return {self.name: {SETTINGS_VARIABLE: "\n".join(self.server_config)}}

    @property
    def largest_object(self) -> tuple[int, str] | None:
        """Redis's own limit."""
        return _LARGEST_VALUE_BYTES, "Redis stores values of up to 512 MiB"

    @contextmanager
    def _open(self) -> Iterator[Connector[Any]]:
        # Only when used.
        from harness.connectors._redis_connector import RedisConnector  # noqa: PLC0415

        self._wait_for_server()
        with RedisConnector(self.host, self.port, password_file=self.password_file) as connector:
            yield connector

    def _wait_for_server(self) -> None:
        import redis  # noqa: PLC0415

        # The topology's server starts at the same time as its clients.
        patience_s = _TOPOLOGY_PATIENCE_S if self.password_file == TOPOLOGY_PASSWORD else 0.0
        deadline = time.monotonic() + patience_s
        while True:
            try:
                with self._client() as client:
                    client.ping()
            except redis.RedisError as error:
                problem = (
                    f"--ps-host {self.host} --ps-port {self.port}: no Redis server answers"
                    f" ({error})"
                )
            except (OSError, UnicodeError) as error:
                problem = f"--ps-redis-password-file {self.password_file}: cannot be read ({error})"
            else:
                return
            if time.monotonic() >= deadline:
                raise InfrastructureError(problem)
            time.sleep(0.05)

    @contextmanager
    def _client(self) -> Iterator[redis.Redis]:
        """Provide a connection that is not the connector's."""
        import redis  # noqa: PLC0415

        from harness.connectors._redis_connector import read_password  # noqa: PLC0415

        client = redis.Redis(
            self.host,
            self.port,
            password=read_password(self.password_file),
            socket_connect_timeout=5,
        )
        try:
            yield client
        finally:
            client.close()

    def open(self) -> AbstractContextManager[Connector[Any]]:
        """Connect; nothing is deleted on exit, the server may be somebody's."""
        return self._open()

    def held(self, connector: Connector[Any]) -> Held:  # noqa: ARG002
        """Count the server's keys and their values' sizes."""
        with self._client() as client:
            keys = set(client.scan_iter(count=1000))  # SCAN may name a key twice
            pipe = client.pipeline(transaction=False)
            for key in keys:
                pipe.strlen(key)
            # A key that is no string is somebody else's: it has no size for us.
            sizes = [n for n in pipe.execute(raise_on_error=False) if isinstance(n, int)]
            return Held(len(sizes), sum(sizes))

    def server_memory(self, connector: Connector[Any]) -> ServerMemory | None:  # noqa: ARG002
        """Ask ``INFO memory``."""
        with self._client() as client:
            found: Any = client.info("memory")
        return ServerMemory(int(found["used_memory"]), int(found["used_memory_rss"]))

    @contextmanager
    def _server_parts(self) -> Iterator[Callable[[], ServerParts]]:
        with self._client() as client:
            # Both questions in one go, or the answers are of different moments.
            pipe = client.pipeline(transaction=False)

            def parts() -> ServerParts:
                pipe.info("memory")
                pipe.client_list()
                memory, clients = pipe.execute()
                return parts_of(memory, clients)

            yield parts

    def server_parts(
        self,
        connector: Connector[Any],  # noqa: ARG002
    ) -> AbstractContextManager[Callable[[], ServerParts] | None]:
        """Ask ``INFO memory`` and ``CLIENT LIST``."""
        return self._server_parts()

    def trim(self, connector: Connector[Any]) -> tuple[str, ...]:  # noqa: ARG002
        """Let the server's allocator give its dirty pages back (``MEMORY PURGE``)."""
        import redis  # noqa: PLC0415

        with self._client() as client:
            try:
                client.memory_purge()
            except redis.RedisError:  # only with jemalloc, or not allowed
                return ("the Redis server",)
        return ()

    @classmethod
    def for_topology(cls) -> Self:
        """Use the topology's ``redis`` service."""
        return cls(host="redis", port=6379, password_file=TOPOLOGY_PASSWORD)


def parts_of(memory: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> ServerParts:
    """Return what a server's memory is made of, from ``INFO memory`` and ``CLIENT LIST``.

    Redis counts every buffer of its clients as overhead, by sums that it renews now and then: the
    data set that it tells has what these sums have missed.
    """
    query = [int(c["qbuf"]) + int(c["qbuf-free"]) for c in clients]
    output = [int(c["omem"]) for c in clients]
    used, told = int(memory["used_memory"]), int(memory["used_memory_dataset"])
    known = int(memory.get("mem_clients_normal", 0))
    missed = max(0, sum(query) + sum(output) - known)
    dataset = max(0, told - missed)
    return ServerParts(
        used_bytes=used,
        rss_bytes=int(memory["used_memory_rss"]),
        dataset_bytes=dataset,
        query_buffer_bytes=sum(query),
        output_buffer_bytes=sum(output),
        other_bytes=used - dataset - sum(query) - sum(output),
        clients=len(clients),
        readers=sum(size >= _LARGE_OUTPUT for size in output),
        writers=sum(size >= _LARGE_QUERY for size in query),
    )
