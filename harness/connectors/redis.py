"""Objects in a Redis server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any, Self

from proxystore.connectors.protocols import Connector
from proxystore.connectors.redis import RedisConnector
from pydantic import Field

from harness.connectors._protocol import ConnectorConfig, Held, ServerMemory, connectors
from harness.core.errors import InfrastructureError
from harness.core.flags import Flag


@connectors.register("redis")
class RedisConfig(ConnectorConfig):
    """Options of the Redis connector."""

    name = "redis"

    host: Annotated[str, Flag("--ps-host", "host name of the server", "HOST")]
    port: Annotated[int, Flag("--ps-port", "port of the server", "PORT")] = Field(gt=0, lt=65536)

    @contextmanager
    def _open(self) -> Iterator[Connector[Any]]:
        import redis  # noqa: PLC0415  # only when used

        client = redis.Redis(self.host, self.port, socket_connect_timeout=5)
        try:
            client.ping()
        except redis.RedisError as error:
            raise InfrastructureError(
                f"--ps-host {self.host} --ps-port {self.port}: no Redis server answers ({error})"
            ) from None
        finally:
            client.close()
        with RedisConnector(self.host, self.port) as connector:
            yield connector

    def open(self) -> AbstractContextManager[Connector[Any]]:
        """Connect; nothing is deleted on exit, the server may be somebody's."""
        return self._open()

    def held(self, connector: Connector[Any]) -> Held:
        """Count the server's keys and their values' sizes."""
        import redis  # noqa: PLC0415

        assert isinstance(connector, RedisConnector)
        client = redis.Redis(connector.hostname, connector.port)
        try:
            keys = list(client.scan_iter(count=1000))
            pipe = client.pipeline(transaction=False)
            for key in keys:
                pipe.strlen(key)
            # A key that is no string is somebody else's: it has no size for us.
            sizes = [n for n in pipe.execute(raise_on_error=False) if isinstance(n, int)]
            return Held(len(sizes), sum(sizes))
        finally:
            client.close()

    def server_memory(self, connector: Connector[Any]) -> ServerMemory | None:
        """Ask ``INFO memory``."""
        import redis  # noqa: PLC0415

        assert isinstance(connector, RedisConnector)
        client = redis.Redis(connector.hostname, connector.port)
        try:
            found: Any = client.info("memory")
        finally:
            client.close()
        return ServerMemory(int(found["used_memory"]), int(found["used_memory_rss"]))

    def trim(self, connector: Connector[Any]) -> tuple[str, ...]:
        """Let the server's allocator give its dirty pages back (``MEMORY PURGE``)."""
        import redis  # noqa: PLC0415

        assert isinstance(connector, RedisConnector)
        client = redis.Redis(connector.hostname, connector.port)
        try:
            client.memory_purge()
        except redis.RedisError:  # only with jemalloc, or not allowed
            return ("the Redis server",)
        finally:
            client.close()
        return ()

    @classmethod
    def for_topology(cls) -> Self:
        """Use the topology's ``redis`` service."""
        return cls(host="redis", port=6379)
