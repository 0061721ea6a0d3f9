"""The service's messages, against the library that SDK and endpoint use for theirs."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import EPStatusReport, Result, Task
from globus_compute_common.messagepack.message_types import ResultErrorDetails as Details
from globus_compute_sdk.sdk.batch import Batch, create_user_runtime
from globus_compute_sdk.serialize import ComputeSerializer, PureSourceTextInspect

from harness.globus_service import broker
from harness.globus_service.broker import MessageError, Submission

SERDE = ComputeSerializer()


def double(value: int) -> int:
    return 2 * value


def submission(*calls: tuple[Any, ...]) -> tuple[UUID, Submission]:
    """Return what the SDK sends for calls of one function."""
    function = uuid4()
    batch = Batch(uuid4(), user_runtime=create_user_runtime(), request_queue=True)
    for args in calls:
        batch.add(function, args)
    body = json.dumps(batch.prepare())
    return function, Submission.model_validate_json(body)


def test_a_task_is_what_the_endpoint_unpacks_and_calls() -> None:
    frame = SERDE.pack_buffers([SERDE.serialize(double)])
    function, found = submission((21,), (4,))
    task = uuid4()
    unpacked = messagepack.unpack(broker.task_message(task, frame, found.tasks[function][0]))
    assert isinstance(unpacked, Task)
    assert unpacked.task_id == task
    called, args, kwargs = SERDE.unpack_and_deserialize(str(unpacked.task_buffer))
    assert called(*args, **kwargs) == 42
    assert len(found.tasks[function]) == 2
    assert found.task_group_id is not None
    assert (found.user_runtime or {})["python_version"]


def test_plain_source_becomes_the_frame_of_a_function() -> None:
    frame = broker.source_frame("triple", "def triple(x):\n    return 3 * x\n")
    (buffer,) = SERDE.unpack_buffers(frame)
    assert buffer.startswith(PureSourceTextInspect.identifier)
    assert SERDE.deserialize(buffer)(14) == 42


def test_results_of_the_endpoint_are_read() -> None:
    task = uuid4()
    good = messagepack.pack(Result(task_id=task, data="42", task_statuses=[]))
    found = broker.parse_result(good)
    assert (found.task_id, found.data, found.error_details) == (task, "42", None)
    details = Details(code="RemoteExecutionError", user_message="it broke")
    bad = messagepack.pack(Result(task_id=task, data="traceback", error_details=details))
    failed = broker.parse_result(bad)
    assert failed.error_details is not None
    assert failed.error_details.code == "RemoteExecutionError"


def test_a_failure_made_here_is_a_result_to_the_sdk() -> None:
    task = uuid4()
    unpacked = messagepack.unpack(broker.failed_result(task, "USER_ENDPOINT_LOST", "gone"))
    assert isinstance(unpacked, Result)
    assert unpacked.task_id == task
    assert unpacked.error_details is not None
    assert unpacked.error_details.code == "USER_ENDPOINT_LOST"
    assert "gone" in str(unpacked.data)
    assert broker.parse_result(broker.failed_result(task, "C", "r")).error_details is not None


def test_heartbeats_of_the_endpoint_are_read() -> None:
    endpoint = uuid4()

    def report(**state: Any) -> broker.StatusReport:
        return broker.parse_status(
            messagepack.pack(
                EPStatusReport(endpoint_id=endpoint, ep_status_report=state, task_statuses={})
            )
        )

    alive = report(heartbeat_period=30, active=True)
    assert (alive.endpoint_id, alive.error, alive.shutting_down) == (endpoint, None, False)
    assert report(heartbeat_period=0).shutting_down
    assert report(error="no such engine", heartbeat_period=3).error == "no such engine"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x02{}",
        b"\x01{}",
        b"\x01not json",
        b'\x01{"message_type":"task","data":{}}',
        b'\x01{"message_type":"result","data":{"task_id":"x","data":""}}',
    ],
)
def test_what_is_no_message_is_one_line(body: bytes) -> None:
    for parse in (broker.parse_result, broker.parse_status):
        with pytest.raises(MessageError) as caught:
            parse(body)
        assert "\n" not in str(caught.value)


def test_the_start_command_names_who_what_and_where() -> None:
    _, found = submission((1,))
    credentials = {"endpoint_id": str(uuid4())}
    command = json.loads(broker.start_command("me", "uep.1", credentials, found))
    assert command["command"] == "cmd_start_endpoint"
    assert command["globus_identity_set"] == [{"sub": "me"}]
    assert command["kwargs"]["name"] == "uep.1"
    assert command["kwargs"]["amqp_creds"] == credentials
    assert command["kwargs"]["user_runtime"]["python_version"]
