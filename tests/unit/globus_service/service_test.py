"""The service without a broker: its API, its limits, and what becomes of tasks when things fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx
import pytest
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import EPStatusReport, Result, Task
from starlette.applications import Starlette

from harness.globus_service.broker import Submission
from harness.globus_service.credentials import Secrets, ensure_secrets
from harness.globus_service.relay import Relay
from harness.globus_service.routes import Routes
from harness.globus_service.settings import Settings
from harness.globus_service.state import State
from tests.unit.globus_service.fakes import FakeLink

SCOPE = "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all openid"


M = TypeVar("M")


def unpacked(kind: type[M], bodies: list[bytes]) -> list[M]:
    """Return messages as the library of SDK and endpoint reads them."""
    found: list[M] = []
    for body in bodies:
        message = messagepack.unpack(body)
        assert isinstance(message, kind)
        found.append(message)
    return found


@dataclass
class Service:
    """A service, its client, and the test's view of its broker."""

    app: Starlette
    link: FakeLink
    relay: Relay
    secrets: Secrets
    state: State
    authorization: str = ""

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(self.app), base_url="https://compute.api.globus.org"
            ) as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())

    def log_in(self, secret: str | None = None) -> httpx.Response:
        given = self.secrets.client
        return self.request(
            "POST",
            "/v2/oauth2/token",
            data={"grant_type": "client_credentials", "scope": SCOPE},
            auth=(given.client_id, given.client_secret if secret is None else secret),
        )

    def call(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        headers = {"Authorization": self.authorization}
        response = self.request(method, path, json=body, headers=headers)
        assert response.status_code == status, response.text
        return response.json()

    def register(self) -> tuple[str, str]:
        """Register an endpoint and a function."""
        endpoint = str(uuid4())
        body = {"endpoint_name": "e", "metadata": {"hostname": "h"}, "multi_user": False}
        answer = self.call("PUT", f"/v3/endpoints/{endpoint}", body)
        assert answer["endpoint_id"] == endpoint
        assert answer["command_queue_info"]["queue"] in self.link.queues
        function = self.call("POST", "/v3/functions", {"function_name": "f", "function_code": "C"})
        return endpoint, function["function_uuid"]

    def submit(self, endpoint: str, function: str, *payloads: str, status: int = 200) -> Any:
        body = {"create_queue": True, "tasks": {function: list(payloads)}}
        return self.call("POST", f"/v3/endpoints/{endpoint}/submit", body, status)

    def task_queue(self) -> list[bytes]:
        (queue,) = (q for name, q in self.link.queues.items() if name.startswith("task."))
        return queue

    def user_endpoint(self) -> UUID:
        (name,) = (name for name in self.link.queues if name.startswith("task."))
        return UUID(name.removeprefix("task."))

    def group(self, answer: Any) -> list[bytes]:
        return self.link.queues[f"tg.{answer['task_group_id']}"]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    keys, login = tmp_path / "keys", tmp_path / "login"
    keys.mkdir()
    login.mkdir()
    secrets = ensure_secrets(keys, login)
    state = State(":memory:")
    settings = Settings(max_submission_bytes=100_000, lost_after_s=0, start_timeout_s=0)
    relay = Relay(settings, secrets, state, FakeLink)
    app = Routes(settings, secrets, state, relay).application()
    found = Service(app, FakeLink.instances.pop(), relay, secrets, state)
    found.authorization = f"Bearer {found.log_in().json()['access_token']}"
    yield found
    state.close()


def test_a_login_gets_a_token_for_each_server(service: Service) -> None:
    answer = service.log_in().json()
    tokens = [answer, *answer["other_tokens"]]
    assert [t["resource_server"] for t in tokens] == ["funcx_service", "auth.globus.org"]
    info = service.call("GET", "/v2/oauth2/userinfo")
    assert info["identity_set"][0]["sub"] == info["sub"]


@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_wrong_secret_is_refused(service: Service, password: str) -> None:
    answer = service.log_in(password)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer guessed", "Basic AAAA"])
def test_nobody_gets_in_without_a_token(service: Service, header: str) -> None:
    service.authorization = header
    for method, path in (
        ("GET", "/v2/get_amqp_result_connection_url"),
        ("GET", "/v2/endpoints"),
        ("POST", f"/v3/endpoints/{uuid4()}/submit"),
    ):
        assert service.call(method, path, {}, 401)["status"] == "Failed"
    assert service.call("GET", "/v2/version")["min_sdk_version"]


def test_a_task_goes_to_its_endpoint_and_its_result_back(service: Service) -> None:
    endpoint, function = service.register()
    answer = service.submit(endpoint, function, "A", "B")
    tasks = answer["tasks"][function]
    first, second = unpacked(Task, service.task_queue())
    assert (str(first.task_id), first.task_buffer) == (tasks[0], "CA")
    assert (str(second.task_id), second.task_buffer) == (tasks[1], "CB")
    headers = service.link.headers[f"task.{service.user_endpoint()}"][0]
    assert (headers["function_uuid"], headers["task_uuid"]) == (function, tasks[0])
    (command,) = service.link.queues[f"command.{endpoint}"]
    credentials = json.loads(command)["kwargs"]["amqp_creds"]
    assert credentials["task_queue_info"]["queue"] == f"task.{service.user_endpoint()}"

    result = messagepack.pack(Result(task_id=tasks[0], data="out"))
    asyncio.run(service.link.on_result(result))
    asyncio.run(service.link.on_result(result))  # delivered again, as brokers may
    assert service.group(answer) == [result]
    status = service.call("POST", "/v2/batch_status", {"task_ids": [*tasks, str(uuid4())]})
    done, waiting = (status["results"][task] for task in tasks)
    assert (done["status"], done["result"]) == ("success", "out")
    assert waiting == {"task_id": tasks[1], "status": "pending", "completion_t": None}
    assert service.call("GET", f"/v2/tasks/{tasks[0]}")["result"] == "out"
    group = service.call("GET", f"/v2/taskgroup/{answer['task_group_id']}")
    assert [task["id"] for task in group["tasks"]] == tasks


def test_a_submission_may_have_the_limit_and_not_a_byte_more(service: Service) -> None:
    endpoint, function = service.register()
    service.submit(endpoint, function, "x" * 60_000, "x" * 40_000)
    refused = service.submit(endpoint, function, "x" * 60_000, "x" * 40_001, status=413)
    assert refused["code"] == "PAYLOAD_TOO_LARGE"
    assert "100001 bytes" in refused["reason"]
    assert "100000 bytes" in refused["reason"]
    service.submit(endpoint, function, "x" * 1_000_000, status=413)
    assert len(service.task_queue()) == 2


def test_what_is_not_registered_is_not_found(service: Service) -> None:
    endpoint, function = service.register()
    assert str(endpoint) not in service.submit(str(uuid4()), function, "A", status=404)["reason"]
    service.submit(endpoint, str(uuid4()), "A", status=404)
    for path in ("tasks", "taskgroup", "endpoints"):
        assert service.call("GET", f"/v2/{path}/{uuid4()}", status=404)["code"] == "NOT_FOUND"
    assert service.call("GET", "/v2/nothing", status=404)["status"] == "Failed"
    assert service.call("POST", "/v3/functions", {"name": 1}, 422)["code"] == "INVALID_REQUEST"
    (listed,) = service.call("GET", "/v2/endpoints")
    assert listed["uuid"] == endpoint


def test_a_user_endpoint_that_cannot_start_fails_its_tasks(service: Service) -> None:
    endpoint, function = service.register()
    answer = service.submit(endpoint, function, "A", "B")
    report = EPStatusReport(
        endpoint_id=service.user_endpoint(),
        ep_status_report={"error": "no such engine", "heartbeat_period": 3},
        task_statuses={},
    )
    asyncio.run(service.link.on_heartbeat(messagepack.pack(report)))
    assert service.task_queue() == []
    failures = unpacked(Result, service.group(answer))
    assert [str(f.task_id) for f in failures] == answer["tasks"][function]
    assert all("no such engine" in str(f.data) for f in failures)
    task = service.call("GET", f"/v2/tasks/{answer['tasks'][function][0]}")
    assert (task["status"], "no such engine" in task["exception"]) == ("failed", True)


def test_an_endpoint_that_starts_anew_has_lost_its_tasks(service: Service) -> None:
    endpoint, function = service.register()
    answer = service.submit(endpoint, function, "A")
    service.call("PUT", f"/v3/endpoints/{endpoint}", {"endpoint_name": "e"})
    (failure,) = unpacked(Result, service.group(answer))
    assert "started again" in str(failure.data)
    assert service.link.queues[f"command.{endpoint}"] == []


def test_silent_user_endpoints_are_given_up(service: Service) -> None:
    endpoint, function = service.register()
    answer = service.submit(endpoint, function, "A")

    async def until_failed() -> None:
        patrol = asyncio.create_task(service.relay.run())
        async with asyncio.timeout(30):
            while not service.group(answer):
                await asyncio.sleep(0.01)
        patrol.cancel()

    asyncio.run(until_failed())
    (failure,) = unpacked(Result, service.group(answer))
    assert "did not start" in str(failure.data)


def test_a_broker_that_is_away_costs_no_accepted_task(service: Service) -> None:
    endpoint, function = service.register()
    answer = service.submit(endpoint, function, "A")
    (task,) = answer["tasks"][function]
    service.link.away = True
    refused = service.submit(endpoint, function, "B", status=503)
    assert refused["code"] == "BROKER_UNAVAILABLE"
    with pytest.raises(Exception, match="away"):
        asyncio.run(service.link.on_result(messagepack.pack(Result(task_id=task, data="out"))))
    assert service.group(answer) == []
    assert service.call("GET", f"/v2/tasks/{task}")["result"] == "out"
    service.link.away = False
    asyncio.run(service.link.on_connected())
    assert len(service.group(answer)) == 1
    asyncio.run(service.link.on_connected())
    assert len(service.group(answer)) == 1
    # What was refused is not waited for.
    assert len(service.state.group(UUID(answer["task_group_id"]))) == 1
    assert service.state.busy_user_endpoints() == []


def test_a_result_nobody_waits_for_can_be_asked_for(service: Service) -> None:
    endpoint, function = service.register()
    answer = service.submit(endpoint, function, "A")
    (task,) = answer["tasks"][function]
    del service.link.queues[f"tg.{answer['task_group_id']}"]  # expired
    asyncio.run(service.link.on_result(messagepack.pack(Result(task_id=task, data="out"))))
    assert service.state.undelivered() == []
    group = service.call("GET", f"/v2/taskgroup/{answer['task_group_id']}")
    assert [found["id"] for found in group["tasks"]] == [task]
    assert service.group(answer) == []
    assert service.call("GET", f"/v2/tasks/{task}")["result"] == "out"


def test_what_is_no_message_is_dropped(service: Service) -> None:
    asyncio.run(service.link.on_result(b"\x01{}"))
    asyncio.run(service.link.on_heartbeat(b""))
    asyncio.run(service.link.on_result(messagepack.pack(Result(task_id=uuid4(), data="?"))))


def test_an_endpoint_is_online_while_its_heart_beats(service: Service) -> None:
    endpoint, _ = service.register()
    path = f"/v2/endpoints/{endpoint}/status"
    assert service.call("GET", path)["status"] == "offline"


def test_settings_come_from_the_environment() -> None:
    found = Settings.from_environment(
        {"HARNESS_GLOBUS_LOST_AFTER_S": "7.5", "HARNESS_GLOBUS_PORT": "", "HARNESS_GLOBUS_X": "?"}
    )
    assert (found.lost_after_s, found.port) == (7.5, 443)
    with pytest.raises(ValueError, match="HARNESS_GLOBUS_PORT: 'x' is not a number"):
        Settings.from_environment({"HARNESS_GLOBUS_PORT": "x"})


def test_a_header_that_is_not_ascii_is_a_wrong_secret(service: Service) -> None:
    answer = service.request(
        "POST",
        "/v2/oauth2/token",
        data={"grant_type": "client_credentials", "scope": SCOPE},
        headers={b"Authorization": b"Basic \xe9\xe9"},
    )
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_a_task_that_arrives_while_others_are_given_up_is_not_lost(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, function = service.register()
    service.submit(endpoint, function, "A")
    (giving_up,) = service.state.user_endpoints_of(UUID(endpoint))
    purge = service.link.purge

    async def slow_purge(queue: str) -> None:
        await asyncio.sleep(0.05)
        await purge(queue)

    monkeypatch.setattr(service.link, "purge", slow_purge)

    async def both() -> dict[str, Any]:
        failing = asyncio.create_task(service.relay._fail_open(giving_up, "LOST", "silent"))
        await asyncio.sleep(0.01)
        answer = await service.relay.submit(
            UUID(endpoint), Submission(tasks={UUID(function): ["B"]})
        )
        await failing
        return answer

    (task,) = asyncio.run(both())["tasks"][function]
    (queued,) = unpacked(Task, service.task_queue())
    assert str(queued.task_id) == task
