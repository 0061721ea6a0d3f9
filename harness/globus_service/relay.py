"""Tasks in, results out: what happens to a task between its client and its user endpoint."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from harness.globus_service import broker
from harness.globus_service.broker import (
    COMMAND_TTL_S,
    HEARTBEATS,
    RESULTS,
    BrokerAwayError,
    BrokerLink,
    MessageError,
    Submission,
    publisher,
)
from harness.globus_service.credentials import Secrets
from harness.globus_service.settings import Settings, Vigil
from harness.globus_service.state import State, UserEndpoint

logger = logging.getLogger(__name__)

START_FAILED = "USER_ENDPOINT_FAILED"
LOST = "USER_ENDPOINT_LOST"
_PATROL_S = 1.0
_EXPIRE_EVERY_S = 60.0


class UnknownIdError(LookupError):
    """There is no such function, endpoint, task or group."""


class Relay:
    """The service without its web face.

    Args:
        settings: limits and addresses.
        secrets: the topology's.
        state: what is remembered.
        link: makes the connection to the broker.
    """

    def __init__(
        self,
        settings: Settings,
        secrets: Secrets,
        state: State,
        link: type[BrokerLink] = BrokerLink,
    ) -> None:
        self._settings = settings
        self._secrets = secrets
        self._state = state
        # A purge between a task's being remembered and its being queued would lose it.
        self._queueing: defaultdict[UUID, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._vigil = Vigil(settings.start_timeout_s, settings.lost_after_s)
        self._link = link(
            secrets.broker_url("service", settings.broker),
            self._on_result,
            self._on_heartbeat,
            self._on_connected,
        )

    async def run(self) -> None:
        """Keep the connection to the broker, and look after silent user endpoints."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._link.run())
            tasks.create_task(self._patrol())

    async def register_endpoint(
        self, endpoint: UUID, name: str, metadata: dict[str, Any]
    ) -> dict[str, Any]:
        """Register a core endpoint; return the queues it is to use.

        Its user endpoints ended with the process that registers now.

        Raises:
            BrokerAwayError: if the broker cannot be reached.
        """
        url = self._secrets.broker_url("endpoint", self._settings.broker)
        await self._link.declare(_commands(endpoint), self._settings.queue_expiry_s)
        await self._link.purge(_commands(endpoint))
        for user_endpoint in self._state.user_endpoints_of(endpoint):
            self._vigil.forget(user_endpoint.id)
            await self._fail_open(user_endpoint, LOST, "its endpoint was started again")
        self._state.put_endpoint(endpoint, name, metadata)
        return {
            "endpoint_id": str(endpoint),
            "command_queue_info": {"connection_url": url, "queue": _commands(endpoint)},
            "heartbeat_queue_info": publisher(url, HEARTBEATS),
        }

    async def open_group(self, group: UUID) -> None:
        """Make sure that a task group has a queue for its results."""
        await self._link.declare(group_queue(group), self._settings.queue_expiry_s)

    async def submit(self, endpoint: UUID, submission: Submission) -> dict[str, Any]:
        """Queue tasks; when this returns, no restart of service or broker loses one.

        Raises:
            UnknownIdError: if endpoint or function are not registered.
            BrokerAwayError: if the broker cannot be reached; the tasks are then forgotten.
        """
        if self._state.endpoint(endpoint) is None:
            raise UnknownIdError(f"endpoint {endpoint} is not registered")
        frames = {function: self._frame(function) for function in submission.tasks}
        group = submission.task_group_id or uuid4()
        user_endpoint = self._state.user_endpoint(endpoint, submission.user_endpoint_config)
        await self.open_group(group)
        ids = {function: [uuid4() for _ in tasks] for function, tasks in submission.tasks.items()}
        every = [task for tasks in ids.values() for task in tasks]
        async with self._queueing[user_endpoint.id]:
            await self._link.declare(_tasks(user_endpoint.id), self._settings.queue_expiry_s)
            self._state.add_tasks(every, group, user_endpoint.id)
            self._vigil.expect(user_endpoint.id, time.monotonic())
            try:
                await self._queue_all(user_endpoint, submission, frames, ids)
                await self._start(user_endpoint, submission)
            except BrokerAwayError:
                self._state.forget_tasks(every)
                raise
        return {
            "request_id": str(uuid4()),
            "task_group_id": str(group),
            "endpoint_id": str(endpoint),
            "tasks": {str(function): list(map(str, tasks)) for function, tasks in ids.items()},
        }

    def online(self, endpoint: UUID) -> bool:
        """Return whether an endpoint has been heard of lately."""
        return self._vigil.alive(endpoint, time.monotonic())

    def _frame(self, function: UUID) -> str:
        frame = self._state.function_frame(function)
        if frame is None:
            raise UnknownIdError(f"function {function} is not registered")
        return frame

    async def _queue_all(
        self,
        user_endpoint: UserEndpoint,
        submission: Submission,
        frames: Mapping[UUID, str],
        ids: Mapping[UUID, list[UUID]],
    ) -> None:
        queue = _tasks(user_endpoint.id)
        waiting = []
        for function, payloads in submission.tasks.items():
            for task, payload in zip(ids[function], payloads, strict=True):
                headers = {
                    "function_uuid": str(function),
                    "task_uuid": str(task),
                    "resource_specification": broker.optional_json(
                        submission.resource_specification
                    ),
                    "result_serializers": submission.result_serializers or [],
                }
                body = broker.task_message(task, frames[function], payload)
                waiting.append(self._link.publish(queue, body, headers=headers))
        await asyncio.gather(*waiting)

    async def _start(self, user_endpoint: UserEndpoint, submission: Submission) -> None:
        """Have the user endpoint started; sent with every submission, as it may have ended."""
        url = self._secrets.broker_url("endpoint", self._settings.broker)
        credentials = {
            "endpoint_id": str(user_endpoint.id),
            "task_queue_info": {"connection_url": url, "queue": _tasks(user_endpoint.id)},
            "result_queue_info": publisher(url, RESULTS),
            "heartbeat_queue_info": publisher(url, HEARTBEATS),
        }
        body = broker.start_command(
            self._secrets.identity, user_endpoint.name, credentials, submission
        )
        await self._link.publish(
            _commands(user_endpoint.endpoint),
            body,
            content_type="application/json",
            timestamp=int(time.time()),
            expires_s=COMMAND_TTL_S,
        )

    async def _on_result(self, body: bytes) -> None:
        try:
            result = broker.parse_result(body)
        except MessageError as error:
            logger.warning("not a result: %s", error)
            return
        await self._finish(result.task_id, body, failed=result.error_details is not None)

    async def _finish(self, task: UUID, body: bytes, *, failed: bool) -> None:
        """Keep a result, then hand it to its group: in this order none is lost."""
        self._state.complete(task, body, failed=failed)
        await self._deliver(task)

    async def _deliver(self, task: UUID) -> None:
        """Hand a result to its group, unless it has it."""
        found = self._state.task(task)
        if found is None:
            logger.warning("a result of the unknown task %s", task)
        elif not found.delivered and found.message is not None:
            # False: the queue has expired. Nobody listens, and the result can still be asked for.
            await self._link.publish(
                group_queue(found.group), found.message, timestamp=int(time.time())
            )
            self._state.delivered(task)

    async def _on_heartbeat(self, body: bytes) -> None:
        try:
            report = broker.parse_status(body)
        except MessageError as error:
            logger.warning("not a heartbeat: %s", error)
            return
        if report.error is not None:
            for user_endpoint in self._state.busy_user_endpoints():
                if user_endpoint.id == report.endpoint_id:
                    self._vigil.forget(user_endpoint.id)
                    await self._fail_open(user_endpoint, START_FAILED, report.error)
        elif report.shutting_down:
            self._vigil.forget(report.endpoint_id)
        else:
            self._vigil.heard(report.endpoint_id, time.monotonic())

    async def _on_connected(self) -> None:
        """Nobody could be heard while the broker was away; and some results are still here."""
        now = time.monotonic()
        self._vigil.pardon(now)
        for user_endpoint in self._state.busy_user_endpoints():
            self._vigil.expect(user_endpoint.id, now)
        for task in self._state.undelivered():
            await self._deliver(task)

    async def _patrol(self) -> None:
        expire_at = time.monotonic() + _EXPIRE_EVERY_S
        while True:
            await asyncio.sleep(_PATROL_S)
            now = time.monotonic()
            if now >= expire_at:
                expire_at = now + _EXPIRE_EVERY_S
                self._state.expire(self._settings.retention_s)
            if not self._link.connected:
                continue
            for user_endpoint in self._state.busy_user_endpoints():
                reason = self._vigil.given_up(user_endpoint.id, now)
                if reason:
                    try:
                        await self._fail_open(user_endpoint, LOST, reason)
                        self._vigil.forget(user_endpoint.id)
                    except BrokerAwayError:
                        break

    async def _fail_open(self, user_endpoint: UserEndpoint, code: str, reason: str) -> None:
        """Fail what a user endpoint will never answer, so that no future waits for ever."""
        async with self._queueing[user_endpoint.id]:
            open_tasks = self._state.open_tasks(user_endpoint.id)
            if not open_tasks:
                return
            logger.warning(
                "%s: %d tasks of %s: %s", code, len(open_tasks), user_endpoint.name, reason
            )
            await self._link.declare(_tasks(user_endpoint.id), self._settings.queue_expiry_s)
            await self._link.purge(_tasks(user_endpoint.id))
        for task in open_tasks:
            await self._finish(task, broker.failed_result(task, code, reason), failed=True)


def _commands(endpoint: UUID) -> str:
    return f"command.{endpoint}"


def _tasks(user_endpoint: UUID) -> str:
    return f"task.{user_endpoint}"


GROUP_PREFIX = "tg."


def group_queue(group: UUID) -> str:
    """Return the queue that a task group's results go to."""
    return f"{GROUP_PREFIX}{group}"
