"""The service's broker: the messages of the protocol, and the connection they go over.

The messages of the protocol, REST and AMQP, as typed models. Pure: bytes in, models out.

Shapes are those that globus-compute-sdk and -endpoint 4.19 send and accept; what they do not use is
neither required nor made up.

The service's connection to the broker: made again when it is lost, for as long as it takes.

A plain connection and a loop: aio-pika's robust one remembers every queue that was ever declared.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Literal
from uuid import UUID

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import AMQPException, DeliveryError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

# The version byte before the JSON of every message between service and user endpoint.
_VERSION = b"\x01"


class MessageError(ValueError):
    """A message that is none: one line for the log."""


class _Message(BaseModel):
    # Newer clients may send more.
    model_config = ConfigDict(extra="ignore", frozen=True)


class FunctionRegistration(_Message):
    """Body of ``POST /v3/functions``."""

    function_name: str
    function_code: str
    serialized: bool = True


class Submission(_Message):
    """Body of ``POST /v3/endpoints/{id}/submit``: function -> serialised arguments of each task."""

    tasks: dict[UUID, list[str]] = Field(min_length=1)
    task_group_id: UUID | None = None
    resource_specification: dict[str, Any] | None = None
    user_endpoint_config: dict[str, Any] | None = None
    result_serializers: list[str] | None = None
    user_runtime: dict[str, Any] | None = None


class EndpointRegistration(_Message):
    """Body of ``POST /v3/endpoints`` and ``PUT /v3/endpoints/{id}``."""

    endpoint_name: str
    display_name: str | None = None
    metadata: dict[str, Any] = {}


class BatchStatus(_Message):
    """Body of ``POST /v2/batch_status``."""

    task_ids: list[UUID]


class ErrorDetails(_Message):
    """Why a task failed."""

    code: str
    user_message: str


class Result(_Message):
    """A task's result: what it returned, serialised, or the text of its traceback."""

    task_id: UUID
    data: str
    error_details: ErrorDetails | None = None
    details: dict[str, Any] | None = None


class StatusReport(_Message):
    """An endpoint's heartbeat. ``global_state`` may carry ``error``: it could not start."""

    endpoint_id: UUID
    global_state: dict[str, Any] = {}

    @property
    def error(self) -> str | None:
        """Why a user endpoint could not start."""
        error = self.global_state.get("error")
        return None if error is None else str(error)

    @property
    def shutting_down(self) -> bool:
        """Whether a core endpoint says that it ends."""
        return self.global_state.get("heartbeat_period") == 0


class _ResultEnvelope(_Message):
    message_type: Literal["result"]
    data: Result


class _StatusEnvelope(_Message):
    message_type: Literal["ep_status_report"]
    data: StatusReport


def _unpack(body: bytes) -> bytes:
    if body[:1] != _VERSION:
        raise MessageError(f"a message of {len(body)} bytes has version {body[:1]!r}")
    return body[1:]


def parse_result(body: bytes) -> Result:
    """Read what a user endpoint publishes when a task is done.

    Raises:
        MessageError: if it is no such message.
    """
    try:
        return _ResultEnvelope.model_validate_json(_unpack(body)).data
    except ValidationError as error:
        raise MessageError(_first(error)) from None


def parse_status(body: bytes) -> StatusReport:
    """Read a heartbeat.

    Raises:
        MessageError: if it is none.
    """
    try:
        return _StatusEnvelope.model_validate_json(_unpack(body)).data
    except ValidationError as error:
        raise MessageError(_first(error)) from None


def _first(error: ValidationError) -> str:
    found = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"


def _pack(kind: str, data: Mapping[str, Any]) -> bytes:
    message = {"message_type": kind, "data": data}
    return _VERSION + json.dumps(message, separators=(",", ":")).encode()


def task_message(task_id: UUID, function_code: str, arguments: str) -> bytes:
    """Return what a user endpoint executes: the function's frame and those of its arguments."""
    return _pack(
        "task",
        {
            "task_id": str(task_id),
            "container_id": None,
            "container": None,
            "task_buffer": function_code + arguments,
        },
    )


def failed_result(task_id: UUID, code: str, reason: str) -> bytes:
    """Return a result that fails a task, in the place of one that will never come."""
    return _pack(
        "result",
        {
            "task_id": str(task_id),
            "data": f"{code}: {reason}",
            "details": {},
            "error_details": {"code": code, "user_message": reason},
            "task_statuses": [],
        },
    )


def start_command(
    identity: str, name: str, credentials: Mapping[str, Any], submission: Submission
) -> bytes:
    """Return the command that has a core endpoint start a user endpoint, or find it running."""
    return json.dumps(
        {
            "globus_effective_identity": identity,
            "globus_username": "harness@localhost",
            "globus_identity_set": [{"sub": identity}],
            "command": "cmd_start_endpoint",
            "args": [],
            "kwargs": {
                "name": name,
                "user_opts": submission.user_endpoint_config or {},
                "user_runtime": submission.user_runtime or {},
                "amqp_creds": credentials,
            },
        }
    ).encode()


def source_frame(name: str, source: str) -> str:
    """Return the code frame of a function that was registered as plain source (``serialized`` off).

    The identifier is that of the SDK's ``PureSourceTextInspect`` strategy: the name, a colon, the
    source.
    """
    buffer = f"st\n{name}:{source}"
    return f"{len(buffer)}\n{buffer}"


def optional_json(value: Mapping[str, Any] | None) -> str | None:
    """Return JSON text, None for None."""
    return None if value is None else json.dumps(value)


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
