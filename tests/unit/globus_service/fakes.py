"""A broker in memory, in the place of the connection to a real one."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ClassVar

from harness.globus_service.broker import BrokerAwayError, BrokerLink

Handler = Callable[[bytes], Coroutine[Any, Any, None]]


class FakeLink(BrokerLink):
    """Keeps what is published; the test plays the endpoint."""

    instances: ClassVar[list[FakeLink]] = []

    def __init__(
        self,
        url: str,
        on_result: Handler,
        on_heartbeat: Handler,
        on_connected: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        super().__init__(url, on_result, on_heartbeat, on_connected)
        self.on_result = on_result
        self.on_heartbeat = on_heartbeat
        self.on_connected = on_connected
        self.queues: dict[str, list[bytes]] = {}
        self.headers: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        self.away = False
        self.instances.append(self)

    @property
    def connected(self) -> bool:
        return not self.away

    async def run(self) -> None:
        await asyncio.Event().wait()

    def _check(self) -> None:
        if self.away:
            raise BrokerAwayError("away")

    async def declare(self, queue: str, expires_s: float) -> None:
        self._check()
        assert expires_s > 0
        self.queues.setdefault(queue, [])

    async def purge(self, queue: str) -> None:
        self._check()
        self.queues[queue].clear()

    async def publish(
        self,
        queue: str,
        body: bytes,
        *,
        headers: Mapping[str, Any] | None = None,
        content_type: str | None = None,
        timestamp: int | None = None,
        expires_s: float | None = None,
    ) -> bool:
        self._check()
        if queue not in self.queues:
            return False
        self.queues[queue].append(body)
        self.headers[queue].append(headers or {})
        return True
