"""What the service remembers, also when it is started again."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import uuid4

from harness.globus_service.state import State


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "service.db"
    endpoint, group, tasks = uuid4(), uuid4(), [uuid4(), uuid4(), uuid4()]
    state = State(path)
    state.add_token("token", time.time() + 60)
    function = state.add_function("f", "frame")
    state.put_endpoint(endpoint, "here", {"python_version": "3.13"})
    user_endpoint = state.user_endpoint(endpoint, None)
    state.add_tasks(tasks, group, user_endpoint.id)
    state.complete(tasks[0], b"result", failed=False)
    state.complete(tasks[1], b"error", failed=True)
    state.delivered(tasks[1])
    # No close: as if it was killed.
    again = State(path)
    assert again.knows_token("token")
    assert not again.knows_token("another")
    assert again.function_frame(function) == "frame"
    (found,) = again.endpoints()
    assert (found.id, found.name, found.metadata) == (endpoint, "here", {"python_version": "3.13"})
    assert again.user_endpoint(endpoint, {}) == user_endpoint
    assert again.group(group) == tasks
    assert again.open_tasks(user_endpoint.id) == [tasks[2]]
    assert again.busy_user_endpoints() == [user_endpoint]
    assert again.undelivered() == [tasks[0]]
    first, second = again.tasks(tasks[:2])
    assert (first.message, first.failed) == (b"result", False)
    assert (second.message, second.failed, second.delivered) == (b"error", True, True)
    state.close()
    again.close()


def test_the_first_result_of_a_task_counts() -> None:
    state = State(":memory:")
    task = uuid4()
    state.add_tasks([task], uuid4(), uuid4())
    state.complete(task, b"lost", failed=True)
    state.complete(task, b"late", failed=False)
    found = state.task(task)
    assert found is not None
    assert (found.message, found.failed) == (b"lost", True)
    state.complete(uuid4(), b"of nobody", failed=False)
    assert len(state.undelivered()) == 1


def test_each_configuration_has_a_user_endpoint_of_its_own() -> None:
    state = State(":memory:")
    endpoint = uuid4()
    plain, other = state.user_endpoint(endpoint, None), state.user_endpoint(endpoint, {"n": 2})
    assert plain.id != other.id
    assert plain.name != other.name
    assert state.user_endpoints_of(endpoint) == [plain, other]
    assert state.user_endpoints_of(uuid4()) == []


def test_old_tasks_and_tokens_are_forgotten() -> None:
    state = State(":memory:")
    state.add_token("old", time.time() - 1)
    task = uuid4()
    state.add_tasks([task], uuid4(), uuid4())
    assert state.expire(60) == 0
    assert state.task(task) is not None
    assert state.expire(-60) == 1
    assert state.task(task) is None
    assert not state.knows_token("old")


def test_tasks_that_could_not_be_queued_are_forgotten() -> None:
    state = State(":memory:")
    tasks = [uuid4(), uuid4()]
    state.add_tasks(tasks, uuid4(), uuid4())
    state.complete(tasks[0], b"quick", failed=False)
    state.forget_tasks(tasks)
    assert state.task(tasks[0]) is not None
    assert state.task(tasks[1]) is None
