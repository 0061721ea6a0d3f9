"""The messages of the protocol, REST and AMQP, as typed models. Pure: bytes in, models out.

Shapes are those that globus-compute-sdk and -endpoint 4.19 send and accept; what they do not use is
neither required nor made up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

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
