"""ProxyStore's Redis connector with a password, which travels as the name of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis
from proxystore.connectors.redis import RedisConnector as _RedisConnector


def read_password(path: str | None) -> str | None:
    """Return the password in a file, None without one."""
    return None if path is None else Path(path).read_text(encoding="ascii").strip()


# Results name a class of this name, as the reference's do.
class RedisConnector(_RedisConnector):
    """Objects in a Redis server.

    Args:
        hostname: of the server.
        port: of the server.
        clear: remove all keys on ``close``.
        password_file: file with the password, at the same place for client and workers. Proxies
            and logs hold its name only.
    """

    def __init__(
        self, hostname: str, port: int, clear: bool = False, password_file: str | None = None
    ) -> None:
        super().__init__(hostname, port, clear)
        self.password_file = password_file
        if password_file is not None:
            self._redis_client.close()
            self._redis_client = redis.StrictRedis(
                host=hostname, port=port, password=read_password(password_file)
            )

    def config(self) -> dict[str, Any]:
        """Return what ``from_config`` makes an equal connector of."""
        return {**super().config(), "password_file": self.password_file}
