"""The service's connection to the broker: made again when it is lost, for as long as it takes.

A plain connection and a loop: aio-pika's robust one remembers every queue that was ever declared.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import AMQPException, DeliveryError

RESULTS = "results"
HEARTBEATS = "heartbeats"

logger = logging.getLogger(__name__)

_RETRY_S = 0.2
# How long a request waits for a broker that is away, before its client is told to try again.
_PATIENCE_S = 20.0
# Results handled at the same time. Each may have 10 MB.
_PREFETCH = 16
# A start command that is older is refused by endpoints.
COMMAND_TTL_S = 180

_FAILURES = (AMQPException, OSError, RuntimeError, asyncio.TimeoutError)


class BrokerAwayError(Exception):
    """The broker could not be reached, or ended, meanwhile."""


class BrokerLink:
    """Declares, publishes and consumes.

    Args:
        url: with user and password; never logged.
        on_result, on_heartbeat: awaited with each message; it is acknowledged when they return.
        on_connected: awaited each time a connection stands, before messages are consumed.
    """

    def __init__(
        self,
        url: str,
        on_result: Callable[[bytes], Coroutine[Any, Any, None]],
        on_heartbeat: Callable[[bytes], Coroutine[Any, Any, None]],
        on_connected: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._url = url
        self._handlers = {RESULTS: on_result, HEARTBEATS: on_heartbeat}
        self._on_connected = on_connected
        self._channel: AbstractChannel | None = None
        self._ready = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether a connection stands."""
        return self._ready.is_set()

    async def run(self) -> None:
        """Keep a connection until cancelled.

        Raises:
            Exception: what a handler raised that is not the broker's fault.
        """
        while True:
            try:
                await self._session()
            except (BrokerAwayError, *_FAILURES) as error:
                logger.debug("broker: %s", type(error).__name__)
            self._ready.clear()
            self._channel = None
            await asyncio.sleep(_RETRY_S)

    async def _session(self) -> None:
        """Connect, declare, consume, and return when the connection or a channel is closed."""
        connection = await aio_pika.connect(self._url, timeout=5)
        async with connection:
            over = asyncio.Event()
            failed: list[Exception] = []
            connection.close_callbacks.add(lambda *_: over.set())
            self._channel = await connection.channel(on_return_raises=True)
            consuming = await connection.channel()
            for channel in (self._channel, consuming):
                channel.close_callbacks.add(lambda *_: over.set())
            await consuming.set_qos(prefetch_count=_PREFETCH)
            queues = {}
            for name in self._handlers:
                exchange = await consuming.declare_exchange(name, durable=True)
                queues[name] = await consuming.declare_queue(name, durable=True)
                await queues[name].bind(exchange, name)
            self._ready.set()
            logger.info("connected to the broker")
            await self._on_connected()
            for name, queue in queues.items():
                await queue.consume(self._consumer(name, failed, over))
            await over.wait()
            if failed:
                raise failed[0]
        logger.warning("the broker closed the connection")

    def _consumer(
        self, name: str, failed: list[Exception], over: asyncio.Event
    ) -> Callable[[AbstractIncomingMessage], Awaitable[None]]:
        handle = self._handlers[name]

        async def consume(message: AbstractIncomingMessage) -> None:
            try:
                await handle(message.body)
                await message.ack()
            except (BrokerAwayError, *_FAILURES) as error:
                # Not acknowledged: it comes again over the next connection.
                logger.debug("%s: %s", name, type(error).__name__)
            except Exception as error:
                failed.append(error)
                over.set()
                raise

        return consume

    async def _open_channel(self) -> AbstractChannel:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._ready.wait()
        except TimeoutError:
            raise BrokerAwayError("the broker does not answer") from None
        if self._channel is None:
            raise BrokerAwayError("the broker has gone")
        return self._channel

    async def declare(self, queue: str, expires_s: float) -> None:
        """Create a durable queue, unless it is there; it goes when it is unused for so long.

        Raises:
            BrokerAwayError: if the broker cannot be reached.
        """
        channel = await self._open_channel()
        try:
            await channel.declare_queue(
                queue, durable=True, arguments={"x-expires": round(expires_s * 1000)}
            )
        except _FAILURES as error:
            raise BrokerAwayError(type(error).__name__) from error

    async def purge(self, queue: str) -> None:
        """Drop what is in a queue.

        Raises:
            BrokerAwayError: if the broker cannot be reached.
        """
        channel = await self._open_channel()
        try:
            found = await channel.get_queue(queue, ensure=False)
            await found.purge()
        except _FAILURES as error:
            raise BrokerAwayError(type(error).__name__) from error

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
        """Put a message into a queue and wait until the broker has it for good.

        Returns:
            False if there is no such queue.

        Raises:
            BrokerAwayError: if the broker cannot be reached, or went before it confirmed.
        """
        channel = await self._open_channel()
        message = aio_pika.Message(
            body,
            headers=dict(headers or {}),
            content_type=content_type,
            timestamp=timestamp,
            expiration=expires_s,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        try:
            await channel.default_exchange.publish(message, routing_key=queue)
        except DeliveryError:
            return False
        except _FAILURES as error:
            raise BrokerAwayError(type(error).__name__) from error
        return True


def publisher(url: str, name: str) -> dict[str, Any]:
    """Return how an endpoint is told where to publish: to one of the exchanges above."""
    return {
        "connection_url": url,
        "exchange": name,
        "queue": name,
        "queue_publish_kwargs": {
            "exchange": name,
            "routing_key": name,
            "mandatory": True,
            "properties": {"delivery_mode": 2},
        },
    }
